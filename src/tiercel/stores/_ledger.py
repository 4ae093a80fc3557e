"""What a local store knows of invalidations: the log, the cuts by tag, and the cuts that somebody has promised."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from tiercel.spi import Cut, Parcel
from tiercel.stores import _rows as rows
from tiercel.stores._environment import Environment

SHARE: Final = 8
"""The log and its cuts take 1/8 of what may be stored. Who is further behind than it reaches begins anew; and what was
born before the first record is of no use any more, so that no cut has to be kept for longer than its record."""
LEAST = 1 << 20
"""Bytes that they may take in any case."""

_POSITION: Final = b"position"
_FLOOR: Final = b"floor"
_AT_ONCE: Final = 64


class Ledger:
    """The ledger of one namespace. All of them share one count of ids.

    Whoever changes it holds LMDB's lock for writing, and moves the shared word before it commits: a process that sees
    the word ahead of the log trusts its memory no more.
    """

    def __init__(self, env: Environment, space: bytes, told: Callable[[str], None]) -> None:
        self._env = env
        self._space = space
        self._told = told
        self._meta, self._log = env.tables[b"meta"], env.tables[b"log"]
        self._cuts, self._holds = env.tables[b"cuts"], env.tables[b"holds"]
        self._read: dict[bytes, Cut | None] = {}
        """The promises that were there at the last look, by token; None where one cannot be read."""

    def position(self, transaction: Any) -> int:  # noqa: ANN401 - LMDB has no types
        """Id of the last record."""
        found = transaction.get(_POSITION, db=self._meta)
        return 0 if found is None else rows.to_number(found)

    def cut(  # noqa: PLR0913 - what a record may be
        self,
        transaction: Any,  # noqa: ANN401
        tags: Sequence[str],
        *,
        soft: bool = False,
        holds: bool = False,
        releases: int = 0,
        space: bytes = b"",
    ) -> int:
        """Append a cut; no tags: of everything. Its id."""
        space = space or self._space
        cut = self._next(transaction)
        for name in [rows.tag_key(space, tag) for tag in tags] or [space]:
            hard, softly = self._cut_of(transaction, name)
            pair = rows.pair(hard, cut) if soft else rows.pair(cut, softly)
            transaction.put(name, pair, db=self._cuts)
        record = rows.to_record(space, tags, soft=soft, holds=holds, releases=releases)
        transaction.put(rows.number(cut), record, db=self._log)
        return cut

    def verdict(self, transaction: Any, parcel: Parcel) -> bool | None:  # noqa: ANN401
        """Whether it has been cut softly; None where it has been cut hard."""
        if parcel.born < self._floor(transaction) or self._is_held(transaction, parcel.tags):
            return None
        soft = False
        for name in [self._space, *[rows.tag_key(self._space, tag) for tag in parcel.tags]]:
            hard, softly = self._cut_of(transaction, name)
            if hard > parcel.born:
                return None
            soft = soft or softly > parcel.born
        return soft

    def records(self, transaction: Any, after: int) -> list[Cut] | None:  # noqa: ANN401
        """What was appended to this namespace since; None where it is not all there any more, or cannot be read."""
        if not self._floor(transaction) <= after <= self.position(transaction):
            return None
        with transaction.cursor(db=self._log) as cursor:
            there = cursor.set_range(rows.number(after + 1))
            since = list(cursor) if there else []
        try:
            found = [rows.of_record(self._space, rows.to_number(key), data) for key, data in since]
        except rows.UNREADABLE as error:
            self._told(f"a record of the log: {error!r}")
            return None
        return [cut for cut in found if cut is not None]

    # -- promises ----------------------------------------------------------------------------------------------------

    def hold(self, transaction: Any, tags: Sequence[str], due: float) -> bytes:  # noqa: ANN401
        """Cut tags, and promise to cut them again: until then they are held."""
        token = rows.moment(due) + rows.number(self.cut(transaction, tags, holds=True))
        transaction.put(token, rows.to_record(self._space, tags, holds=True), db=self._holds)
        return token

    def held(self, transaction: Any) -> list[Cut]:  # noqa: ANN401
        """The holds of this namespace that are not over."""
        return [hold for hold in self._promises(transaction) if hold is not None]

    def _is_held(self, transaction: Any, tags: Sequence[str]) -> bool:  # noqa: ANN401
        """Whether one of the tags is; a promise that cannot be read holds all of them."""
        return any(hold is None or not set(tags).isdisjoint(hold.tags) for hold in self._promises(transaction))

    def _promises(self, transaction: Any) -> list[Cut | None]:  # noqa: ANN401
        with transaction.cursor(db=self._holds) as cursor:
            if not cursor.first():
                return []
            there = [(token, data) for token, data in cursor if data.startswith(self._space)]
        read = self._read
        self._read = {token: read[token] if token in read else self._promise(token, data) for token, data in there}
        return list(self._read.values())

    def _promise(self, token: bytes, data: bytes) -> Cut | None:
        try:
            return rows.of_record(self._space, rows.to_number(token[8:]), data)
        except rows.UNREADABLE as error:
            self._told(f"a promise, so that nothing is found: {error!r}")
            return None

    def keep(self, transaction: Any, token: bytes) -> None:  # noqa: ANN401
        """Make the cut that was promised, unless somebody has."""
        held = transaction.pop(token, db=self._holds)
        if held is not None:
            space = held[: len(self._space)]
            try:
                hold = rows.to_number(token[8:])
                cut = rows.of_record(space, hold, held)
            except rows.UNREADABLE as error:
                self._told(f"a promise, so that everything is cut: {error!r}")
                hold, cut = 0, None
            self.cut(transaction, cut.tags if cut else (), releases=hold, space=space)

    def release(self, transaction: Any, token: bytes, tags: Sequence[str]) -> int:  # noqa: ANN401
        """Make the cut, also where it has been made before: the change took longer than was thought."""
        transaction.delete(token, db=self._holds)
        return self.cut(transaction, tags, releases=rows.to_number(token[8:]))

    def overdue(self, transaction: Any, now: float) -> list[bytes]:  # noqa: ANN401
        """The promises, of whatever namespace, whose makers have not kept them."""
        with transaction.cursor(db=self._holds) as cursor:
            first = [token for (token, _), _ in zip(cursor, range(_AT_ONCE), strict=False)]
        return [token for token in first if rows.to_moment(token) <= now]

    def first_due(self, transaction: Any) -> float:  # noqa: ANN401
        """When the first promise is to be kept."""
        with transaction.cursor(db=self._holds) as cursor:
            return rows.to_moment(cursor.key()) if cursor.first() else inf

    def _next(self, transaction: Any) -> int:  # noqa: ANN401
        position = self.position(transaction) + 1
        self._forget(transaction, max(self._env.size // SHARE, LEAST))
        transaction.put(_POSITION, rows.number(position), db=self._meta)
        self._env.word[0] = position
        return position

    def _taken(self, transaction: Any) -> int:  # noqa: ANN401
        """Bytes of the pages that the log and its cuts take."""
        stats = [transaction.stat(table) for table in (self._log, self._cuts)]
        pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return int(pages * stats[0]["psize"])

    def _forget(self, transaction: Any, room: int) -> None:  # noqa: ANN401
        """Let go of the oldest records, until there is room for the others."""
        while self._taken(transaction) > room and self.forget_first(transaction):
            pass

    def forget_first(self, transaction: Any) -> bool:  # noqa: ANN401
        """Let go of the oldest record, and of the cuts that are no younger; whether there is one."""
        with transaction.cursor(db=self._log) as cursor:
            if not cursor.first():
                return False
            key, data = cursor.item()
        for name in self._cuts_of(data):
            if max(self._cut_of(transaction, name)) <= rows.to_number(key):
                transaction.delete(name, db=self._cuts)
        transaction.delete(key, db=self._log)
        transaction.put(_FLOOR, key, db=self._meta)
        return True

    def _cuts_of(self, record: bytes) -> list[bytes]:
        """None where it cannot be read: its cuts stay, and do no harm."""
        try:
            return rows.cuts_of(record)
        except rows.UNREADABLE as error:
            self._told(f"a record of the log: {error!r}")
            return []

    def _floor(self, transaction: Any) -> int:  # noqa: ANN401
        """Id of the last record that is there no more."""
        found = transaction.get(_FLOOR, db=self._meta)
        return 0 if found is None else rows.to_number(found)

    def _cut_of(self, transaction: Any, name: bytes) -> tuple[int, int]:  # noqa: ANN401
        """Ids of the last hard cut and the last soft one; where they cannot be read, it may have been the last."""
        found = transaction.get(name, db=self._cuts)
        try:
            return (0, 0) if found is None else rows.to_pair(found)
        except rows.UNREADABLE as error:
            self._told(f"a cut: {error!r}")
            return self.position(transaction), 0
