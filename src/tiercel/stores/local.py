"""One host: all workers share one memory-mapped file (LMDB). Behind `Cache("local:///path")`.

Cuts and responses are in the same file, and a reader sees both as they were at one moment: reads are linearisable
across processes. The order of the steps of a cut makes that hold for the memory tiers in front, too:

    the shared word moves → the cut is committed → `append` returns

A process that sees the word ahead of the log trusts its memory no more, and reads the file; if whoever moved it has
died before the commit, the next writer puts the word right. A file that was set aside meanwhile is left for the next
one, where memory begins anew.
"""

import asyncio
import os
import platform
import secrets
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar

from tiercel._core.events import Event, Failed, Unreadable
from tiercel.errors import StoreError, TiercelError
from tiercel.spi import Ask, Found, Kept, Log, Parcel
from tiercel.stores import _leases as leases
from tiercel.stores import _rows as rows
from tiercel.stores._environment import LOOK, Environment, FullError, ReadError, environment, since_boot
from tiercel.stores._ledger import Ledger
from tiercel.stores._shelves import Shelves

CHECK: Final = 60.0
"""Seconds after which who writes looks for processes that have died while they read: what they saw is kept for them."""

ROUNDS: Final = 32
"""How often something is let go of where the map is full."""

T = TypeVar("T")
_ERRORS: Final = (ReadError, *rows.UNREADABLE)


class LocalStore:
    """A store in a directory of this host.

    Args:
        directory: Where the file is, or is made.
        size: Bytes that may be stored.
        namespace: Keeps the keys of one service apart from another's.
        now: Seconds by a clock that all processes share and that never steps back.

    Raises:
        ConfigurationError: On `running`: the directory cannot be written to, or is another container's.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from tiercel.testing import RecordingLog
        >>> async def count(directory: Path) -> int:
        ...     store, log = LocalStore(directory), RecordingLog()
        ...     async with store.running(log, print):
        ...         return await store.append(["products"])
        >>> with TemporaryDirectory() as directory:
        ...     asyncio.run(count(Path(directory)))
        1
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 1 << 30,
        namespace: str = "tiercel",
        now: Callable[[], float] = since_boot,
    ) -> None:
        self._directory = directory
        self._size = size
        self._space = rows.space_of(namespace)
        self._now = now
        self._open: _Open | None = None
        self.delta = 0.0
        """A cut counts at once, in every process."""

    def running(self, log: Log, tell: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Be open while this is entered."""
        return self._running(log, tell)

    @asynccontextmanager
    async def _running(self, log: Log, tell: Callable[[Event], None]) -> AsyncGenerator[None]:
        opened = await self._opened(log, tell)

        async def follow() -> None:
            nonlocal opened
            while True:
                await asyncio.sleep(LOOK)
                with _telling(tell):
                    await self._keep_promises(opened)
                if not opened.is_there():
                    with _telling(tell):
                        before, opened = opened, await self._opened(log, tell)
                        await before.aclose()

        _running.add(self)
        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait([following])
            if self._open is opened:  # whoever has opened it since goes on
                self._open = None
            await opened.aclose()

    async def _opened(self, log: Log, tell: Callable[[Event], None]) -> "_Open":
        # In a thread: others may be at it, and it may have to wait for them.
        env = await asyncio.to_thread(environment, self._directory, self._size, _unreadable(tell, self._directory))
        opened = _Open(env, self._space, log, tell, self._now)
        try:
            await self._written(opened, opened.enter)
        except BaseException:
            opened.writer.shutdown(wait=False)
            raise
        self._open = opened
        return opened

    async def fetch(self, ask: Ask) -> Found:
        """Find what is stored, in one snapshot with what has been cut."""
        opened = self._entered()
        await self._keep_promises(opened)
        found = self._read(partial(opened.find, ask))
        return await self._granted(opened, ask) if ask.lease and _is_due(ask, found) else found

    async def _keep_promises(self, opened: "_Open") -> None:
        """Those that are due; also where nobody asks, for what is held is not asked for."""
        self.current()
        if self._now() >= opened.promised:
            await self._written(opened, opened.keep_promises)
            self.current()

    async def _granted(self, opened: "_Open", ask: Ask) -> Found:
        granting = opened.writer.submit(opened.grant, ask)
        waiting = asyncio.wrap_future(granting)
        waiting.add_done_callback(partial(opened.waited, granting, ask))
        try:
            return await waiting
        except _ERRORS as error:
            raise self._failed(error) from error

    async def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        """Store a parcel, and give the lease back."""
        await self._write(partial(self._entered().put, key, lane, parcel, lease))

    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        """Cut tags; no tags: everything of this namespace."""
        cut = await self._write(partial(self._entered().append, tuple(tags), soft=soft))
        self.current()
        return cut

    def current(self) -> bool:
        """Whether memory may be trusted, once what was cut elsewhere has been applied here."""
        opened = self._open
        if opened is None:
            return False
        word = opened.word[0]
        try:
            if word != opened.seen and not self._read(partial(opened.catch_up, word)):
                return False
        except StoreError as error:
            opened.distrust(error)
            return False
        return opened.promised == inf or self._now() < opened.promised

    async def applied(self, cut: int, within: float) -> tuple[str, ...]:
        """The live processes: each looks at the shared word before it trusts its memory, so each has applied it."""
        del cut, within
        return self._read(self._entered().peers)

    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        """Cut these tags and hold them, for so many seconds at the most."""
        token = await self._write(partial(self._entered().hold, tuple(tags), self._now() + seconds))
        self.current()
        return token

    async def release(self, token: bytes, tags: Sequence[str]) -> int:
        """Make the cut that was promised, whether or not it has been made before."""
        cut = await self._write(partial(self._entered().release, token, tuple(tags)))
        self.current()
        return cut

    def forget(self) -> None:
        """After a fork: the thread and the file are the parent's."""
        self._open = None

    def _entered(self) -> "_Open":
        if self._open is None:
            raise self._failed("it is not open in this process. Start the application, or enter `running`")
        return self._open

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except _ERRORS as error:
            raise self._failed(error) from error

    async def _write(self, write: Callable[[], T]) -> T:
        return await self._written(self._entered(), write)

    async def _written(self, opened: "_Open", write: Callable[[], T]) -> T:
        """In a thread: whoever holds LMDB's lock may have been stopped, and the loop is not to stop with it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(opened.writer, write)
        except _ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, why: object) -> StoreError:
        return StoreError(f"local://{self._directory}: {why}.")


class _Open:
    """What there is while a store is open: one process's hands on the file."""

    def __init__(
        self, env: Environment, space: bytes, log: Log, tell: Callable[[Event], None], now: Callable[[], float]
    ) -> None:
        self.word = env.word
        self.seen = -1
        """Id of the last record that was applied here."""
        self.promised = inf
        """When the first cut is due that somebody has promised."""
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="tiercel-local")
        self._env = env
        self._log = log
        self._now = now
        self._space = space
        self._tell = tell
        told = self._told = _unreadable(tell, env.path.parent)
        self._distrusted = ""
        self._checked = now()
        self._name = space + secrets.token_bytes(8)
        self._leases, self._peers = env.tables[b"leases"], env.tables[b"peers"]
        self._ledger = Ledger(env, space, told)
        self._shelves = Shelves(env, space, self._ledger, told)

    def enter(self) -> None:
        self._in_one(self._join)
        self.catch_up(self.word[0])

    def _join(self, transaction: Any) -> None:  # noqa: ANN401 - LMDB has no types
        transaction.put(self._name, leases.holder(), db=self._peers)
        self.word[0] = self._ledger.position(transaction)

    def is_there(self) -> bool:
        """Whether the file is still the one that others find."""
        return self._env.is_there()

    async def aclose(self) -> None:
        """What is being written is finished."""
        leaving = self.writer.submit(self._leave)
        self.writer.shutdown(wait=False)
        try:
            await asyncio.wrap_future(leaving)
        except (ReadError, StoreError) as error:  # it matters to nobody: who looks sees that the process is gone
            self._told(f"it could not be left: {error!r}")

    def _leave(self) -> None:
        self._in_one(lambda transaction: transaction.delete(self._name, db=self._peers))

    def distrust(self, error: StoreError) -> None:
        """Memory cannot be trusted; it is asked for each hit, and says so once."""
        if self._distrusted != str(error):
            self._distrusted = str(error)
            self._tell(Failed(where="store", error=error))

    def catch_up(self, word: int) -> bool:
        """Apply what was appended since; whether that is all that the word tells of."""
        with self._env.begin() as transaction:
            position = self._ledger.position(transaction)
            cuts = self._ledger.records(transaction, self.seen) if self.seen >= 0 else None
            promised = self._ledger.first_due(transaction)
            # Inside: once the file is gone, nothing of it is applied after what the next one says.
            since = self.seen
            if cuts is None:
                self._log.reset(position)
                cuts, since = self._ledger.held(transaction), position
            self._log.apply(cuts, position, since=since)
            self.seen, self.promised, self._distrusted = position, promised, ""
        return word <= position

    def find(self, ask: Ask) -> Found:
        with self._env.begin() as transaction:
            return self._found(transaction, ask)

    def grant(self, ask: Ask) -> Found:
        """Look again, and take the lease if there still is need."""

        def grant(transaction: Any) -> Found:  # noqa: ANN401
            found = self._found(transaction, ask)
            if not _is_due(ask, found):
                return found
            token, now = secrets.token_bytes(16), self._now()
            lane = self._lane(ask.key, ask.lane)
            leases.grant(transaction, self._leases, lane, token, until=now + ask.lease, now=now)
            return replace(found, lease=token)

        return self._in_one(grant)

    def waited(self, granting: "Future[Found]", ask: Ask, waiting: "asyncio.Future[Found]") -> None:
        """It may be granted although it was given up."""
        if waiting.cancelled():
            with suppress(RuntimeError):  # it is closed
                self.writer.submit(self.take_back, granting, ask)

    def take_back(self, granting: "Future[Found]", ask: Ask) -> None:
        """What was granted when nobody wanted it any more."""
        if granting.cancelled() or granting.exception() is not None:
            return
        lease = granting.result().lease
        if lease is not None:
            with _telling(self._tell):
                self.put(ask.key, ask.lane, None, lease)

    def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        def put(transaction: Any) -> None:  # noqa: ANN401
            # Right, unless whoever moved it has died before its commit.
            self.word[0] = self._ledger.position(transaction)
            if lease is not None:
                leases.release(transaction, self._leases, self._lane(key, lane), lease)
            if parcel is not None:
                self._shelves.store(transaction, key, parcel, self._now())

        self._in_one(put)

    def append(self, tags: tuple[str, ...], *, soft: bool) -> int:
        return self._in_one(lambda transaction: self._ledger.cut(transaction, tags, soft=soft))

    def hold(self, tags: tuple[str, ...], due: float) -> bytes:
        return self._in_one(lambda transaction: self._ledger.hold(transaction, tags, due))

    def release(self, token: bytes, tags: tuple[str, ...]) -> int:
        return self._in_one(lambda transaction: self._ledger.release(transaction, token, tags))

    def keep_promises(self) -> None:
        """Whoever has made them may have died."""

        def keep(transaction: Any) -> None:  # noqa: ANN401
            for token in self._ledger.overdue(transaction, self._now()):
                self._ledger.keep(transaction, token)

        self._in_one(keep)

    def _in_one(self, write: Callable[[Any], T]) -> T:
        """In one transaction. Where the map is full, once more after each of the ways to make room."""
        if self._now() >= self._checked + CHECK:
            self._bury()
        for make_room in (self._bury, self._let_go):
            try:
                return self._begun(write)
            except FullError:
                make_room()
        return self._begun(write)

    def _begun(self, write: Callable[[Any], T]) -> T:
        with self._env.begin(write=True) as transaction:
            return write(transaction)

    def _bury(self) -> None:
        """See which processes have died while they read: what they saw was kept for them."""
        self._checked = self._now()
        self._env.lmdb.reader_check()

    def _let_go(self) -> None:
        """Of the first records, and of what was stored first: a little at a time, for that takes room, too."""
        self._env.grow()
        for _ in range(ROUNDS):
            self._begun(self._ledger.forget_first)
            self._begun(self._shelves.drop_first)

    def peers(self) -> tuple[str, ...]:
        with self._env.begin() as transaction, transaction.cursor(db=self._peers) as cursor:
            there = [holder for name, holder in cursor if name.startswith(self._space)]
        return tuple(sorted(f"{platform.node()}:{leases.pid_of(holder)}" for holder in there if leases.lives(holder)))

    def _found(self, transaction: Any, ask: Ask) -> Found:  # noqa: ANN401 - LMDB has no types
        now, kept, names = self._now(), list[tuple[int, Kept]](), set[bytes]()
        for row in self._shelves.find(transaction, ask.key):
            parcel = row.parcel
            names.update([name for name, _ in parcel.selecting])
            if row.is_usable(now) and parcel.born > ask.above and _answers(parcel, ask):
                soft = self._ledger.verdict(transaction, parcel)
                if soft is not None:
                    kept.append((-row.seq, Kept(parcel, row.age(now), soft)))
        kept.sort(key=lambda one: one[0])
        return Found(
            kept=tuple([one for _, one in kept]),
            at=self._ledger.position(transaction),
            names=frozenset(names),
            wait=leases.left(transaction, self._leases, self._lane(ask.key, ask.lane), now),
        )

    def _lane(self, key: bytes, lane: bytes) -> bytes:
        return rows.lane_key(self._space, key, lane)


def _answers(parcel: Parcel, ask: Ask) -> bool:
    return all(ask.fields.get(name) == digest for name, digest in parcel.selecting)


def _unreadable(tell: Callable[[Event], None], directory: Path) -> Callable[[str], None]:
    return lambda reason: tell(Unreadable(where=f"local://{directory}", reason=reason))


@contextmanager
def _telling(tell: Callable[[Event], None]) -> Generator[None]:
    """Nobody waits for it."""
    try:
        yield
    except (TiercelError, *_ERRORS) as error:
        tell(Failed(where="store", error=error))


def _is_due(ask: Ask, found: Found) -> bool:
    """Whether somebody is to produce it, and nobody does."""
    fresh = [one for one in found.kept if not one.soft and one.age < one.parcel.fresh_for]
    early = [one for one in fresh if one.age + one.parcel.cost * ask.early < one.parcel.fresh_for]
    return found.wait == 0.0 and not early


_running: "weakref.WeakSet[LocalStore]" = weakref.WeakSet()


def _forget_all() -> None:
    for store in list(_running):
        store.forget()


os.register_at_fork(after_in_child=_forget_all)
