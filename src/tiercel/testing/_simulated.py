"""A shared store that is none: for tests of several processes in one loop, in virtual time, and of what goes wrong."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from math import inf
from typing import NamedTuple

from tiercel._core.events import Event
from tiercel.errors import StoreError
from tiercel.spi import Ask, Cut, Found, Kept, Log, Parcel

_VARIANTS = 64
_BLOCK = 0.3


class _Row(NamedTuple):
    put_at: float
    epoch: int
    parcel: Parcel


class _Lease(NamedTuple):
    token: bytes
    until: float


class _Space:
    """What a server keeps of one namespace."""

    def __init__(self) -> None:
        self.head = 0
        self.epoch = 0
        """Changes when cuts may have been lost: what was stored before it is of no use."""
        self.greeted = 0
        """The run of the server for which this epoch holds."""
        self.records: list[Cut] = []
        self.trimmed = 0
        """Records up to this one are in the log no more."""
        self.hard: dict[str, int] = {}
        self.soft: dict[str, int] = {}
        self.all = 0
        self.rows: dict[bytes, list[_Row]] = {}
        self.leases: dict[tuple[bytes, bytes], _Lease] = {}
        self.holds: dict[int, Cut] = {}
        self.due: dict[int, float] = {}
        """When each hold ends by itself."""

    def cut(self, cut: Cut) -> None:
        self.head = cut.id
        self.records.append(cut)
        if cut.holds:
            self.holds[cut.id] = cut
        self.holds.pop(cut.releases, None)
        if not cut.tags:
            self.all = cut.id
        for tag in cut.tags:
            (self.soft if cut.soft else self.hard)[tag] = cut.id

    def lose(self, records: int) -> None:
        kept = self.records[: max(0, len(self.records) - records)]
        self.head, self.all = 0, 0
        for lost in (self.records, self.hard, self.soft, self.leases, self.holds):
            lost.clear()
        for cut in kept:
            self.cut(cut)


class SimulatedServer:
    """Where simulated stores meet. One thing happens at a time, as in a server with one thread.

    Args:
        latency: Seconds that a message takes, each way.

    Example:
        >>> from tiercel import Cache
        >>> from tiercel.testing import SimulatedServer, SimulatedStore, VirtualClock, run_virtual
        >>> async def shared() -> str:
        ...     server, clock = SimulatedServer(), VirtualClock()
        ...     one, other = (Cache(SimulatedStore(server), clock=clock) for _ in range(2))
        ...     await one.set("greeting", "hello", ttl=60)
        ...     found = await other.get("greeting")
        ...     for cache in (one, other):
        ...         await cache.aclose()
        ...     return found
        >>> run_virtual(shared())
        'hello'
    """

    def __init__(self, *, latency: float = 0.0) -> None:
        self.latency = latency
        self.refuses = False
        """Every request is answered with an error."""
        self.run = 1
        """Which run of which server this is: another one may know less."""
        self.asked = 0
        """Requests that have arrived."""
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._appended = asyncio.Event()
        self._spaces: dict[str, _Space] = {}
        self._epochs = 0

    def freeze(self) -> None:
        """Answer nothing until `thaw`, as a process that was stopped."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on, with what has arrived meanwhile."""
        self._thawed.set()

    def trim(self, keep: int) -> None:
        """Let go of all records of every log but the last few, as a log of bounded length does."""
        for space in self._spaces.values():
            space.trimmed = max(space.trimmed, space.head - keep)

    def fail_over(self, lost: int) -> None:
        """Let a replica take over which has not seen the last few records; nor any lease."""
        self._run_anew()
        for namespace, space in self._spaces.items():
            space.lose(lost)
            for hold in space.holds.values():  # its end may have been lost, too
                self._end(namespace, hold)

    def restart(self) -> None:
        """Come back empty."""
        self._run_anew()
        self._spaces.clear()

    async def reached(self) -> None:
        """Let a message get there."""
        await asyncio.sleep(self.latency)
        await self._thawed.wait()
        self.asked += 1
        if self.refuses:
            message = "the simulated server refuses"
            raise StoreError(message)

    async def left(self) -> None:
        """Let the answer get back."""
        await asyncio.sleep(self.latency)

    async def appended(self, namespace: str, after: int) -> None:
        """Wait until there is a cut after this one, for a while."""
        if self.space(namespace).head <= after:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BLOCK):
                    await self._appended.wait()

    def space(self, namespace: str) -> _Space:
        """What is kept of a namespace."""
        return self._spaces.setdefault(namespace, _Space())

    def greet(self, namespace: str) -> tuple[int, int, int, list[Cut]]:
        """Which run this is; and its epoch, head and holds, where what an earlier run knew may be missing."""
        space = self.space(namespace)
        if space.greeted != self.run:
            self._epochs += 1
            space.greeted, space.epoch = self.run, self._epochs
        return self.run, space.epoch, space.head, list(space.holds.values())

    def cut(self, namespace: str, cut: Cut) -> Cut:
        """Append to the log; the record, with its id."""
        space = self.space(namespace)
        cut = replace(cut, id=space.head + 1)
        space.cut(cut)
        self._wake()
        return cut

    def hold(self, namespace: str, tags: tuple[str, ...], seconds: float) -> Cut:
        """Append to the log that they are held, for so long at the most."""
        hold = self.cut(namespace, Cut(id=0, tags=tags, holds=True))
        self.space(namespace).due[hold.id] = _now() + seconds
        self._end(namespace, hold)
        return hold

    def _end(self, namespace: str, hold: Cut) -> None:
        asyncio.get_running_loop().call_at(self.space(namespace).due[hold.id], self._keep, namespace, hold)

    def _keep(self, namespace: str, hold: Cut) -> None:
        """Make the cut that was promised, if nobody has."""
        if self.space(namespace).holds.get(hold.id) is hold:
            self.cut(namespace, Cut(id=0, tags=hold.tags, releases=hold.id))

    def _run_anew(self) -> None:
        self.run += 1
        self._wake()

    def _wake(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()


class SimulatedStore:
    """One process's connection to a simulated server.

    Args:
        server: The server.
        namespace: Keeps the keys of one service apart from another's.
        delta: Seconds for which memory is trusted without proof that all is known.

    Example:
        >>> SimulatedStore(SimulatedServer()).current()
        False
    """

    def __init__(self, server: SimulatedServer, *, namespace: str = "tiercel", delta: float = 1.0) -> None:
        self._server = server
        self._namespace = namespace
        self.delta = delta
        self._log: Log | None = None
        self._asof = -inf
        self._run = self._epoch = self._position = 0
        self._tokens = 0

    def running(self, log: Log, tell: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Be open while this is entered."""
        del tell
        return self._running(log)

    @asynccontextmanager
    async def _running(self, log: Log) -> AsyncGenerator[None]:
        self._log, self._run, self._epoch, self._asof = log, 0, -1, -inf
        sent = _now()
        try:
            await self._reached()
            await self._server.left()
            self._asof = sent
            tail = asyncio.create_task(self._follow(log))
            try:
                yield
            finally:
                tail.cancel()
                await asyncio.wait([tail])
        finally:
            self._log = None

    async def fetch(self, ask: Ask) -> Found:
        """Find what is stored, or get leave to produce it."""
        await self._reached()
        found = self._found(ask)
        await self._server.left()
        return found

    async def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        """Store a parcel, and give the lease back."""
        epoch = self._epoch  # of the log by which it was born
        await self._reached()
        held = self._space.leases.get((key, lane))
        if held is not None and held.token == lease:
            del self._space.leases[key, lane]
        if parcel is not None and self._space.epoch == epoch:
            self._store(key, parcel)
        await self._server.left()

    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        """Cut tags; no tags: everything."""
        await self._reached()
        return await self._appended(self._server.cut(self._namespace, Cut(id=0, tags=tuple(tags), soft=soft)))

    def current(self) -> bool:
        """Whether all is known that was cut until `delta` ago."""
        return self._log is not None and _now() - self._asof <= self.delta

    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        """Cut tags and hold them."""
        await self._reached()
        return b"%d" % await self._appended(self._server.hold(self._namespace, tuple(tags), seconds))

    async def release(self, token: bytes, tags: Sequence[str]) -> int:
        """Make the cut that was promised, whether or not it has been made before."""
        await self._reached()
        release = Cut(id=0, tags=tuple(tags), releases=int(token))
        return await self._appended(self._server.cut(self._namespace, release))

    @property
    def _space(self) -> _Space:
        return self._server.space(self._namespace)

    async def _reached(self) -> None:
        """Let a request get there; but first see to it that the log here is the log there."""
        while True:
            if self._log is None:
                message = "the simulated store is not open"
                raise StoreError(message)
            await self._server.reached()
            if self._server.run == self._run:
                return
            greeted = self._server.greet(self._namespace)
            await self._server.left()
            self._greeted(*greeted)

    def _greeted(self, run: int, epoch: int, head: int, holds: Sequence[Cut]) -> None:
        """Another server, or the same after a restart: what was acknowledged may be missing there."""
        self._run = max(self._run, run)
        if self._log is not None and epoch > self._epoch:
            self._epoch, self._position, self._asof = epoch, head, -inf
            self._log.reset(head)
            self._log.apply(holds, head)

    async def _appended(self, cut: Cut) -> int:
        epoch = self._epoch
        await self._server.left()
        if self._log is not None and self._epoch == epoch:  # else it has been reset, and nothing is left to be cut
            self._log.apply([cut], cut.id)
        return cut.id

    async def _follow(self, log: Log) -> None:
        """The tail: any answer proves that all is known that was cut before it was asked for."""
        while True:
            sent = _now()
            try:
                await self._reached()
            except StoreError:
                await asyncio.sleep(_BLOCK)  # nothing is lost: it goes on where it was
                continue
            run, epoch = self._run, self._epoch
            await self._server.appended(self._namespace, self._position)
            if self._server.run != run:
                continue  # the connection is gone
            space = self._space
            head, cuts = space.head, [cut for cut in space.records if cut.id > max(self._position, space.trimmed)]
            gap = space.trimmed > self._position
            cuts = [*space.holds.values(), *cuts] if gap else cuts
            await self._server.left()
            if self._epoch == epoch:
                self._follows(log, cuts, head, gap=gap)
                self._position, self._asof = head, sent

    def _follows(self, log: Log, cuts: list[Cut], head: int, *, gap: bool) -> None:
        """What has come; if some of it is missing, everything may have been cut."""
        if gap:
            log.reset(head)
        log.apply(cuts, head, since=head if gap else self._position)

    def _token(self) -> bytes:
        self._tokens += 1
        return b"%d:%d" % (id(self), self._tokens)

    def _found(self, ask: Ask) -> Found:
        now, shelf = _now(), self._space.rows.get(ask.key, [])
        kept = [one for row in shelf if (one := self._kept(row, ask, now)) is not None]
        held = self._space.leases.get((ask.key, ask.lane))
        wait = max(0.0, held.until - now) if held else 0.0
        names = frozenset([name for row in shelf for name, _ in row.parcel.selecting])
        found = Found(kept=tuple(kept), at=self._space.head, names=names, wait=wait)
        fresh = [one for one in kept if not one.soft and one.age < one.parcel.fresh_for]
        if any(one.age + one.parcel.cost * ask.early < one.parcel.fresh_for for one in fresh):
            return replace(found, wait=0.0)
        if not ask.lease or wait > 0.0:
            return found
        lease = _Lease(self._token(), now + ask.lease)
        self._space.leases[ask.key, ask.lane] = lease
        return replace(found, lease=lease.token)

    def _kept(self, row: _Row, ask: Ask, now: float) -> Kept | None:
        parcel, age = row.parcel, now - row.put_at
        fits = all(ask.fields.get(name) == digest for name, digest in parcel.selecting)
        born = max([self._space.all, *[self._space.hard.get(tag, 0) for tag in parcel.tags]])
        if (
            row.epoch != self._space.epoch
            or not fits
            or age >= parcel.retain_for
            or parcel.born <= ask.above
            or parcel.born < born
            or any(not set(hold.tags).isdisjoint(parcel.tags) for hold in self._space.holds.values())
        ):
            return None
        soft = any(self._space.soft.get(tag, 0) > parcel.born for tag in parcel.tags)
        return Kept(parcel, age, soft)

    def _store(self, key: bytes, parcel: Parcel) -> None:
        now, epoch = _now(), self._space.epoch
        shelf = [row for row in self._space.rows.get(key, []) if now - row.put_at < row.parcel.retain_for]
        shelf = [row for row in shelf if row.epoch == epoch]
        mine = [row for row in shelf if row.parcel.selecting == parcel.selecting]
        if any(row.parcel.born > parcel.born for row in mine) or (not mine and len(shelf) >= _VARIANTS):
            return
        self._space.rows[key] = [_Row(now, epoch, parcel), *[row for row in shelf if row not in mine]]


def _now() -> float:
    return asyncio.get_running_loop().time()
