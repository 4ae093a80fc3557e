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
    parcel: Parcel


class _Lease(NamedTuple):
    token: bytes
    until: float


class _Space:
    """What a server keeps of one namespace."""

    def __init__(self) -> None:
        self.log: list[Cut] = []
        self.hard: dict[str, int] = {}
        self.soft: dict[str, int] = {}
        self.all = 0
        self.rows: dict[bytes, list[_Row]] = {}
        self.leases: dict[tuple[bytes, bytes], _Lease] = {}
        self.holds: dict[bytes, tuple[float, tuple[str, ...]]] = {}


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
        ...     await one.invalidate("products")
        ...     await one.aclose()
        ...     return f"{server.position} cut"
        >>> run_virtual(shared())
        '1 cut'
    """

    def __init__(self, *, latency: float = 0.0) -> None:
        self.latency = latency
        self.refuses = False
        """Every request is answered with an error."""
        self.position = 0
        """Id of the last cut."""
        self.asked = 0
        """Requests that have arrived."""
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._appended = asyncio.Event()
        self._spaces: dict[str, _Space] = {}

    def freeze(self) -> None:
        """Answer nothing until `thaw`, as a process that was stopped."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on, with what has arrived meanwhile."""
        self._thawed.set()

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

    async def appended(self, after: int) -> None:
        """Wait until there is a cut after this one, for a while."""
        if self.position <= after:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BLOCK):
                    await self._appended.wait()

    def space(self, namespace: str) -> _Space:
        """What is kept of a namespace."""
        return self._spaces.setdefault(namespace, _Space())

    def cut(self, namespace: str, tags: tuple[str, ...], *, soft: bool) -> int:
        """Append to the log."""
        space = self.space(namespace)
        self.position += 1
        space.log.append(Cut(id=self.position, tags=tags, soft=soft))
        if not tags:
            space.all = self.position
        for tag in tags:
            (space.soft if soft else space.hard)[tag] = self.position
        self._appended.set()
        self._appended = asyncio.Event()
        return self.position


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
        self._space = server.space(namespace)
        self.delta = delta
        self._log: Log | None = None
        self._asof = -inf
        self._position = 0
        self._tokens = 0

    def running(self, log: Log, tell: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Be open while this is entered."""
        del tell
        return self._running(log)

    @asynccontextmanager
    async def _running(self, log: Log) -> AsyncGenerator[None]:
        sent = _now()
        await self._server.reached()
        self._position = self._server.position
        await self._server.left()
        self._log, self._asof = log, sent
        log.reset(self._position)
        tail = asyncio.create_task(self._follow(log))
        try:
            yield
        finally:
            self._log = None
            tail.cancel()
            await asyncio.wait([tail])

    async def fetch(self, ask: Ask) -> Found:
        """Find what is stored, or get leave to produce it."""
        await self._reached()
        found = self._found(ask)
        await self._server.left()
        return found

    async def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        """Store a parcel, and give the lease back."""
        await self._reached()
        held = self._space.leases.get((key, lane))
        if held is not None and held.token == lease:
            del self._space.leases[key, lane]
        if parcel is not None:
            self._store(key, parcel)
        await self._server.left()

    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        """Cut tags; no tags: everything."""
        await self._reached()
        cut = Cut(id=self._server.cut(self._namespace, tuple(tags), soft=soft), tags=tuple(tags), soft=soft)
        await self._server.left()
        if self._log is not None:
            self._log.apply([cut], cut.id)
        return cut.id

    def current(self) -> bool:
        """Whether all is known that was cut until `delta` ago."""
        return self._log is not None and _now() - self._asof <= self.delta

    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        """Promise a cut."""
        await self._reached()
        token = self._token()
        self._space.holds[token] = _now() + seconds, tuple(tags)
        asyncio.get_running_loop().call_later(seconds, self._keep, token)
        await self._server.left()
        return token

    async def release(self, token: bytes) -> int:
        """Make the cut that was promised."""
        await self._reached()
        self._keep(token)
        position = self._server.position
        await self._server.left()
        if self._log is not None:
            self._log.apply([cut for cut in self._space.log if cut.id == position], position)
        return position

    async def _reached(self) -> None:
        if self._log is None:
            message = "the simulated store is not open"
            raise StoreError(message)
        await self._server.reached()

    async def _follow(self, log: Log) -> None:
        """The tail: any answer proves that all is known that was cut before it was asked for."""
        while True:
            sent = _now()
            try:
                await self._server.reached()
            except StoreError:
                await asyncio.sleep(_BLOCK)  # nothing is lost: it goes on where it was
                continue
            await self._server.appended(self._position)
            position = self._server.position
            cuts = [cut for cut in self._space.log if self._position < cut.id <= position]
            await self._server.left()
            log.apply(cuts, position)
            self._position, self._asof = position, sent

    def _keep(self, token: bytes) -> None:
        held = self._space.holds.pop(token, None)
        if held is not None:
            self._server.cut(self._namespace, held[1], soft=False)

    def _token(self) -> bytes:
        self._tokens += 1
        return b"%d:%d" % (id(self), self._tokens)

    def _found(self, ask: Ask) -> Found:
        now, shelf = _now(), self._space.rows.get(ask.key, [])
        kept = [one for row in shelf if (one := self._kept(row, ask, now)) is not None]
        held = self._space.leases.get((ask.key, ask.lane))
        wait = max(0.0, held.until - now) if held else 0.0
        names = frozenset([name for row in shelf for name, _ in row.parcel.selecting])
        found = Found(kept=tuple(kept), at=self._server.position, names=names, wait=wait)
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
        if not fits or age >= parcel.retain_for or parcel.born <= ask.above or parcel.born < born:
            return None
        soft = any(self._space.soft.get(tag, 0) > parcel.born for tag in parcel.tags)
        return Kept(parcel, age, soft)

    def _store(self, key: bytes, parcel: Parcel) -> None:
        now = _now()
        shelf = [row for row in self._space.rows.get(key, []) if now - row.put_at < row.parcel.retain_for]
        mine = [row for row in shelf if row.parcel.selecting == parcel.selecting]
        if any(row.parcel.born > parcel.born for row in mine) or (not mine and len(shelf) >= _VARIANTS):
            return
        self._space.rows[key] = [_Row(now, parcel), *[row for row in shelf if row not in mine]]


def _now() -> float:
    return asyncio.get_running_loop().time()
