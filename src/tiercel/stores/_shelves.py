"""What a local store keeps: parcels by key and variant, the oldest of which go when the room ends."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tiercel.spi import Parcel
from tiercel.stores import _rows as rows
from tiercel.stores._environment import Environment
from tiercel.stores._ledger import Ledger

VARIANTS: Final = 64
ROOM: Final = 200
"""Bytes that a parcel takes beyond its own, in four tables."""
LARGEST_SHARE: Final = 8
"""A parcel above 1/8 of the size is not stored."""
SWEEP: Final = 64
"""Parcels that are past all use, at most, that a put takes along."""

_SEQ, _WEIGHT = b"seq", b"weight"


class Shelves:
    """The parcels of one namespace. All of them share the room."""

    def __init__(self, env: Environment, space: bytes, ledger: Ledger, told: Callable[[str], None]) -> None:
        self._space = space
        self._size = env.size
        self._ledger = ledger
        self._told = told
        self._meta, self._rows = env.tables[b"meta"], env.tables[b"rows"]
        self._ages, self._ends = env.tables[b"ages"], env.tables[b"ends"]

    def find(self, transaction: Any, key: bytes) -> Iterator[rows.Row]:  # noqa: ANN401 - LMDB has no types
        """All variants of a key that can be read."""
        prefix = rows.shelf_key(self._space, key)
        with transaction.cursor(db=self._rows) as cursor:
            there = cursor.set_range(prefix)
            while there and cursor.key().startswith(prefix):
                row = self._readable(cursor.value())
                if row is not None:
                    yield row
                there = cursor.next()

    def store(self, transaction: Any, key: bytes, parcel: Parcel, now: float) -> None:  # noqa: ANN401
        """In the place of an older one; unless there is a younger one, or no room."""
        if len(parcel.blob) > self._size // LARGEST_SHARE:
            return
        name = rows.shelf_key(self._space, key) + rows.variant_of(parcel.selecting)
        old = transaction.get(name, db=self._rows)
        row = None if old is None else self._readable(old)
        usable = [one for one in self.find(transaction, key) if one.is_usable(now)]
        if row is not None and row.is_usable(now):
            if row.parcel.born > parcel.born:
                return
        elif len(usable) >= VARIANTS and not self._drop_cut(transaction, key, usable):
            return
        if old is not None:
            self._delete(transaction, name, old)
        self._evict(transaction, now, len(parcel.blob) + ROOM)
        self._add(transaction, name, parcel, now)

    def drop_first(self, transaction: Any) -> None:  # noqa: ANN401
        """Let go of what was stored first."""
        for age, name in self._first(transaction, self._ages):
            self._drop(transaction, self._ages, age, name)

    def _drop_cut(self, transaction: Any, key: bytes, found: list[rows.Row]) -> bool:  # noqa: ANN401
        """Let go of the variants that have been cut; whether there are any."""
        cut = [row for row in found if self._ledger.verdict(transaction, row.parcel) is None]
        for row in cut:
            name = rows.shelf_key(self._space, key) + rows.variant_of(row.parcel.selecting)
            self._drop(transaction, self._ages, rows.number(row.seq), name)
        return bool(cut)

    def _add(self, transaction: Any, name: bytes, parcel: Parcel, now: float) -> None:  # noqa: ANN401
        row = rows.Row(self._number(transaction, _SEQ) + 1, now, parcel)
        data = rows.to_row(row)
        transaction.put(name, data, db=self._rows)
        transaction.put(rows.number(row.seq), name, db=self._ages)
        transaction.put(rows.expiry_key(row), name, db=self._ends)
        transaction.put(_SEQ, rows.number(row.seq), db=self._meta)
        self._weigh(transaction, len(data) + ROOM)

    def _delete(self, transaction: Any, name: bytes, data: bytes) -> None:  # noqa: ANN401
        transaction.delete(name, db=self._rows)
        self._weigh(transaction, -len(data) - ROOM)
        row = self._readable(data)
        if row is not None:
            transaction.delete(rows.number(row.seq), db=self._ages)
            transaction.delete(rows.expiry_key(row), db=self._ends)

    def _evict(self, transaction: Any, now: float, wanted: int) -> None:  # noqa: ANN401
        """First what is past all use, of which some goes with every put; then what was stored first."""
        for end, name in self._first(transaction, self._ends):
            if rows.to_moment(end) <= now:
                self._drop(transaction, self._ends, end, name)
        while self._number(transaction, _WEIGHT) + wanted > self._size:
            oldest = self._first(transaction, self._ages)
            for age, name in oldest:
                self._drop(transaction, self._ages, age, name)
            if not oldest:
                return

    def _drop(self, transaction: Any, table: Any, place: bytes, name: bytes) -> None:  # noqa: ANN401
        """Also from its place in a table, should the row not be there or not be readable."""
        data = transaction.get(name, db=self._rows)
        if data is not None:
            self._delete(transaction, name, data)
        transaction.delete(place, db=table)

    def _first(self, transaction: Any, table: Any) -> list[tuple[bytes, bytes]]:  # noqa: ANN401
        with transaction.cursor(db=table) as cursor:
            return [pair for pair, _ in zip(cursor, range(SWEEP), strict=False)]

    def _readable(self, data: bytes) -> rows.Row | None:
        try:
            return rows.of_row(data)
        except rows.UNREADABLE as error:
            self._told(repr(error))
            return None

    def _number(self, transaction: Any, name: bytes) -> int:  # noqa: ANN401
        found = transaction.get(name, db=self._meta)
        return 0 if found is None else rows.to_number(found)

    def _weigh(self, transaction: Any, more: int) -> None:  # noqa: ANN401
        transaction.put(_WEIGHT, rows.number(max(0, self._number(transaction, _WEIGHT) + more)), db=self._meta)
