"""The shared store, as the rest of the engine sees it: bounded in time, and a miss rather than an exception.

claim:  what others have stored is brought into memory; else leave to produce it is asked for, or waited for
put:    after the callers have their bytes
append: an invalidation, acknowledged when all who share the store are bound by it
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar, cast

from tiercel._core import keys
from tiercel._core.calls import Value
from tiercel._core.entry import Entry, Request
from tiercel._core.events import Event, Failed, Unreadable
from tiercel._core.freshness import retain_until, seconds_until_stale
from tiercel._engine.background import GRACE, Background
from tiercel._engine.blobs import Blobs
from tiercel._engine.breaker import LONGEST, Breaker
from tiercel._engine.fence import Fence
from tiercel._engine.patience import patience
from tiercel._engine.stamps import Stamps, Verdict
from tiercel._engine.tiers import Tiers, key_tag
from tiercel._engine.values import Codec
from tiercel.errors import NotAcknowledged, StoreError, TiercelError
from tiercel.spi import Ask, Clock, Found, Holds, Kept, Parcel, Store, Witnesses

_log = logging.getLogger("tiercel")

LEASE: Final = 60.0
"""Seconds that a lease lasts where a fill has no time limit."""
FIRST_LOOK: Final = 0.002
LAST_LOOK: Final = 0.05
"""Seconds between two looks for what another process produces: at first, and at the most."""
HELD: Final = 30.0
"""Seconds that a change may take before its tags are cut although nobody has said that it is over."""
WITNESSED: Final = 5.0
"""Seconds that other processes get to apply a cut that is waited for."""
LASTING: Final = 2.0**31
"""Seconds, 68 years: longer than that nothing is fresh, or kept."""
QUEUED: Final = 1_000
"""Invalidations that wait for the store to come back; beyond that, everything is cut instead."""

T = TypeVar("T")


class Lease(NamedTuple):
    """Leave to produce something for all."""

    lane: bytes
    token: bytes


@dataclass(slots=True)
class Claim:
    """What became of asking for a key: it may be in memory now; or it is ours, or another's, to produce."""

    entries: tuple[Entry, ...] = ()
    """What was found, and not cut; also where memory is not to be trusted."""
    wait: float = 0.0
    """Seconds until the lease of whoever produces it ends at the latest."""
    lease: Lease | None = None
    names: frozenset[bytes] = frozenset()
    """Fields that select under the key, and were not known to the one who asked."""

    def take(self) -> Lease | None:
        """The lease, for the first who wants it."""
        lease, self.lease = self.lease, None
        return lease


@dataclass(slots=True)
class Sought:
    """What became of asking for a value: it is there; or it is ours, or another's, to make."""

    value: Value | None = None
    since: float = 0.0
    """When it was asked for (monotonic)."""
    wait: float = 0.0
    lease: Lease | None = None


class Depot:
    """A shared store."""

    def __init__(  # noqa: PLR0913 - what it is put together from
        self,
        store: Store,
        *,
        stamps: Stamps,
        tiers: Tiers,
        clock: Clock,
        background: Background,
        tell: Callable[[Event], None],
        deadline: float,
        lease: float | None,
        blobs: Blobs,
    ) -> None:
        self._store = store
        self._stamps = stamps
        self._tiers = tiers
        self._clock = clock
        self._background = background
        self._tell = tell
        self._deadline = deadline
        self._lease = lease or LEASE
        self._blobs = blobs
        self._breaker = Breaker(clock.monotonic)
        self._claims: dict[tuple[bytes, bytes], _Asked] = {}
        self._queued: deque[tuple[tuple[str, ...], bool]] = deque()
        """Invalidations of which the store has not been told."""
        self._unreturned: deque[tuple[bytes, bytes, bytes]] = deque()
        """Leases that could not be given back."""
        self._failing = False
        """Whether the log has been told of trouble that is not over."""
        self._making_good: asyncio.Task[None] | None = None
        self._session: _Session | None = None
        self._opening = threading.Lock()
        tiers.fence = Fence(store, clock.monotonic)

    # -- open and closed ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store in this process and loop, unless it is.

        Raises:
            TiercelError: It cannot be opened.
        """
        loop = asyncio.get_running_loop()
        with self._opening:
            session = self._session
            if session is not None and session.is_elsewhere:
                message = "it is open in another event loop of this process, and cannot be in two"
                raise StoreError(message)
            if session is None or session.loop is not loop or session.is_over:
                session = self._session = _Session(self._store, self._stamps, self._tell, loop)
        await session.opened()

    async def aclose(self) -> None:
        """Close it."""
        session = self._session
        if session is not None and session.loop is asyncio.get_running_loop():
            await session.aclose()

    # -- what is stored ----------------------------------------------------------------------------------------------

    async def claim(self, key: bytes, request: Request, names: frozenset[bytes], *, early: float = 0.0) -> Claim:
        """Bring what is stored into memory, or ask for leave to produce it: once for all who want the same."""
        lane = _lane(names, request)
        asked = self._claims.get((key, lane))
        if asked is None or asked.answer.get_loop() is not asyncio.get_running_loop():
            asked = self._claims[key, lane] = _Asked(asyncio.get_running_loop().create_future())
            claim = self._claim(key, lane, request, names, early)
            asking = self._background.start(self._answer(asked, claim), where="store")
            asking.add_done_callback(partial(self._settle, asked, (key, lane)))
        asked.waiting += 1
        try:
            return await asyncio.shield(asked.answer)
        except asyncio.CancelledError:
            if asked.waiting == 1:  # nobody is left who could take what comes
                asked.answer.add_done_callback(partial(self._give_back, key))
            raise
        finally:
            asked.waiting -= 1

    def _settle(self, asked: "_Asked", place: tuple[bytes, bytes], _: object) -> None:
        """However the asking ended, also if it was cancelled before its first step: nobody waits for it any more."""
        if self._claims.get(place) is asked:
            del self._claims[place]
        if not asked.answer.done():
            asked.answer.set_result(Claim())

    def _give_back(self, key: bytes, answer: "asyncio.Future[Claim]") -> None:
        self.put(key, None, answer.result().take())

    def put(self, key: bytes, entry: Entry | None, lease: Lease | None) -> None:
        """Store a response for all, if there is one, and give the lease back: behind the reply."""
        if entry is not None or lease is not None:
            self._background.owe(self._background.start(self._put(key, entry, lease), where="store"))

    async def _put(self, key: bytes, entry: Entry | None, lease: Lease | None) -> None:
        await self._store_parcel(key, lambda: None if entry is None else self._parcel(key, entry), lease)

    async def _store_parcel(self, key: bytes, made: Callable[[], Parcel | None], lease: Lease | None) -> None:
        lane, token = lease or (b"", None)

        async def put() -> None:
            parcel = made()  # at the last moment: by what the log is then it was born, or it has been cut
            if parcel is not None or token is not None:
                await self._store.put(key, lane, parcel, token)

        try:
            await self._do(put)
        except StoreError:  # told already: what is not stored is a miss for the others
            if token is not None and len(self._unreturned) < QUEUED:  # beyond that they end by themselves
                self._unreturned.append((key, lane, token))
                self._make_good()

    async def seek(self, key: bytes, codec: Codec, *, make: bool, early: float = 0.0) -> Sought:
        """Ask for a value, and, to `make` it where there is none that is fresh, for leave to do so."""
        ask = Ask(key=key, fields={}, lease=self._lease if make else 0.0, early=early)
        since = self._clock.monotonic()
        try:
            found = await self._do(partial(self._fetch, ask))
        except StoreError:  # told already
            return Sought()
        value = next((one for kept in found.kept if (one := self._value(key, codec, kept, found)) is not None), None)
        lease = None if found.lease is None else Lease(b"", found.lease)
        return Sought(value, since, found.wait, lease)

    async def put_value(self, key: bytes, codec: Codec, value: Value | None, lease: Lease | None) -> None:
        """Store a value for all, if there is one that others can read, and give the lease back."""

        def parcel() -> Parcel | None:
            packed = None if value is None else codec.pack(value.payload)
            return None if value is None or packed is None else self._parcel_of(key, value, packed)

        await self._store_parcel(key, parcel, lease)

    async def pause(self, wait: float, looks: int) -> None:
        """Wait for what another process produces."""
        await asyncio.sleep(min(wait, LAST_LOOK, FIRST_LOOK * 2.0 ** min(looks, 8)))

    # -- invalidation ------------------------------------------------------------------------------------------------

    async def append(self, tags: tuple[str, ...], *, soft: bool = False) -> int:
        """Cut tags for all; no tags: everything.

        Raises:
            NotAcknowledged: The store did not answer; here it is done, and it is queued for the others.
        """
        session = self._session
        if session is not None and session.is_elsewhere:
            there = asyncio.run_coroutine_threadsafe(self.append(tags, soft=soft), session.loop)
            return await asyncio.wrap_future(there)
        try:
            cut = await self._do(lambda: self._store.append(tags, soft=soft))
        except StoreError as error:
            self._put_off(tags, soft=soft)
            named = ", ".join(tags) or "everything"
            message = f"{named}: invalidated in this process, but the store has not acknowledged it. {error}"
            raise NotAcknowledged(message) from error
        return self._stamps.own(cut)

    async def promise(self, tags: tuple[str, ...]) -> "Promise | None":
        """Have the store make a cut should nobody do it. None: it is not one that can.

        Raises:
            NotAcknowledged: The store did not answer; nothing has been done.
        """
        store = self._store
        if not isinstance(store, Holds):
            return None
        try:
            return Promise(store, await self._do(lambda: store.hold(tags, HELD)))
        except StoreError as error:
            message = f"{', '.join(tags)}: the store did not answer, so the change has not begun. {error}"
            raise NotAcknowledged(message) from error

    async def keep(self, promise: "Promise", tags: tuple[str, ...]) -> int:
        """Make the cut that was promised. Raises as `append` does; then the store makes it when its time is over."""
        try:
            return self._stamps.own(await self._do(lambda: promise.store.release(promise.token, tags)))
        except StoreError as error:
            self._put_off(tags, soft=False)
            raise NotAcknowledged(f"{', '.join(tags)}: invalidated in this process only, for now. {error}") from error

    async def applied(self, cut: int) -> tuple[str, ...]:
        """The processes that have applied a cut, or do not trust their memory; none where the store does not know.

        Raises:
            NotAcknowledged: One has not, within the time.
        """
        store = self._store
        if not isinstance(store, Witnesses):
            return ()
        try:
            return await store.applied(self._stamps.shared(cut), WITNESSED)
        except StoreError as error:
            message = f"it is not known that every process has applied the invalidation {cut}. {error}"
            raise NotAcknowledged(message) from error

    def append_soon(self, tags: tuple[str, ...]) -> None:
        """The same from code that cannot await; it is waited for where that does not stop the loop."""
        self._stamps.cut_meanwhile(tags, soft=False)
        session = self._session
        if session is not None and session.is_elsewhere:
            work = asyncio.run_coroutine_threadsafe(self._append_quietly(tags), session.loop)
            with contextlib.suppress(TimeoutError):  # it goes on, and what fails is queued
                work.result(2.0 * self._deadline)
        elif session is not None and session.is_here:
            self._background.start(self._append_quietly(tags), where="invalidation")
        else:
            self._put_off(tags, soft=False)

    async def _append_quietly(self, tags: tuple[str, ...]) -> None:
        with contextlib.suppress(NotAcknowledged):  # told already, and queued
            await self.append(tags)

    def _put_off(self, tags: tuple[str, ...], *, soft: bool) -> None:
        """Until the store is back; here and now it is done."""
        if len(self._queued) >= QUEUED:
            self._queued.clear()
            tags, soft = (), False
        self._queued.append((tags, soft))
        self._stamps.cut_meanwhile(tags, soft=soft)
        self._make_good()

    def _make_good(self) -> None:
        """See to it that the store is told when it is back, whether or not anybody asks it for something."""
        session = self._session
        if session is not None and (self._making_good is None or self._making_good.done()):
            work = self._made_good()
            try:
                asyncio.get_running_loop()
            except RuntimeError:  # a thread: whoever asks the store next does it
                work.close()
            else:
                self._making_good = self._background.start(work, where="store")

    async def _made_good(self) -> None:
        while self._queued or self._unreturned:
            await asyncio.sleep(LONGEST / 4)
            with contextlib.suppress(StoreError):  # told already; and tried again
                await self._do(_nothing)

    async def _catch_up(self) -> None:
        """The store is back: what waits goes first. Others may be at it, too; what did not get there waits again."""
        while self._queued:
            tags, soft = self._queued.popleft()
            try:
                await self._store.append(tags, soft=soft)
            except BaseException:
                self._queued.appendleft((tags, soft))
                raise
        while self._unreturned:
            key, lane, token = self._unreturned.popleft()
            try:
                await self._store.put(key, lane, None, token)
            except BaseException:
                self._unreturned.appendleft((key, lane, token))
                raise

    # -- asking the store --------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Within the deadline, and only while the store is not left alone.

        Raises:
            StoreError: It was not done, or nobody knows.
        """
        if not self._breaker.allows():
            message = "the store is left alone for a moment: it has failed several times in a row"
            raise StoreError(message)
        try:
            async with patience(self._deadline):
                await self.open()
                await self._catch_up()
                done = await work()
        except (TiercelError, TimeoutError) as error:
            self._breaker.failed()
            why = str(error) or f"no answer within {self._deadline} s"
            failure = error if isinstance(error, StoreError) else StoreError(why)
            self._tell(Failed(where="store", error=failure))
            if not self._failing:
                self._failing = True
                _log.warning(
                    "The shared store does not do what it is asked to: %s. Requests go on without it.",
                    str(failure).rstrip("."),
                )
            raise failure from error
        except BaseException:
            self._breaker.left()
            raise
        self._breaker.succeeded()
        if self._failing:
            self._failing = False
            _log.warning("The shared store does again what it is asked to.")
        return done

    async def _answer(self, asked: "_Asked", claim: Coroutine[object, object, Claim]) -> None:
        with contextlib.suppress(StoreError):  # which is told already: the application is asked
            asked.answer.set_result(await claim)

    async def _claim(self, key: bytes, lane: bytes, request: Request, names: frozenset[bytes], early: float) -> Claim:
        ask = Ask(key=key, fields=keys.offered(request.headers), lane=lane, lease=self._lease, early=early)
        since = self._clock.monotonic()
        found = await self._do(partial(self._fetch, ask))
        now, entries = self._clock.time(), list[Entry]()
        for kept in reversed(found.kept):
            entry = self._read(key, kept.parcel.blob, now, kept.age, found)
            if entry is not None:
                entries.append(self._tiers.adopt(key, entry, now, soft=kept.soft, since=since))
        lease = None if found.lease is None else Lease(lane, found.lease)
        return Claim(tuple(reversed(entries)), found.wait, lease, found.names - names)

    async def _fetch(self, ask: Ask) -> Found:
        generation = self._stamps.generation
        found = await self._store.fetch(ask)
        return found if self._stamps.generation == generation else replace(found, kept=())  # of another log

    def _value(self, key: bytes, codec: Codec, kept: Kept, found: Found) -> Value | None:
        now, born = self._clock.time(), self._stamps.own(found.at)
        value = self._blobs.read_value(kept.parcel.blob, key=key, now=now, age=kept.age, born=born)
        if isinstance(value, str):
            self._tell(Unreadable(where="store", reason=value, key=key.hex()))
            return None
        try:
            payload = codec.unpack(cast("bytes", value.payload))
        except ValueError:  # as a release with another annotation has left it
            return None
        return replace(
            value, payload=payload, fresh_until=min(value.fresh_until, now) if kept.soft else value.fresh_until
        )

    def _parcel_of(self, key: bytes, value: Value, packed: bytes) -> Parcel | None:
        """None: it has been cut, or is of no use any more."""
        now = self._clock.time()
        if self._stamps.verdict(value.tags, value.born) is Verdict.CUT or now >= value.retain_until:
            return None
        try:
            blob = self._blobs.write_value(value, packed, key=key, now=now)
        except UnicodeEncodeError as error:
            self._tell(Failed(where="store", error=error, key=key.hex()))
            return None
        return Parcel(
            born=self._stamps.shared(value.born),
            tags=value.tags,
            fresh_for=_lasting(value.fresh_until - now),
            retain_for=_lasting(value.retain_until - now),
            cost=value.cost,
            blob=blob,
        )

    def _read(self, key: bytes, blob: bytes, now: float, age: float, found: Found) -> Entry | None:
        read = self._blobs.read(blob, key=key, now=now, age=age, born=self._stamps.own(found.at))
        if isinstance(read, str):
            self._tell(Unreadable(where="store", reason=read, key=key.hex()))
            return None
        return read

    def _parcel(self, key: bytes, entry: Entry) -> Parcel | None:
        """None: it is not for others, or has been cut."""
        if entry.partial is not None or entry.method == "HEAD" or not self._tiers.usable(key, entry):
            return None
        now = self._clock.time()
        try:
            blob = self._blobs.write(entry, key=key, now=now)
        except UnicodeEncodeError as error:
            self._tell(Failed(where="store", error=error, key=key.hex()))
            return None
        return Parcel(
            selecting=entry.selecting,
            born=self._stamps.shared(entry.born),
            tags=(*entry.tags, key_tag(key)),
            fresh_for=0.0 if entry.must_validate else _lasting(seconds_until_stale(entry, now)),
            retain_for=_lasting(retain_until(entry) - now),
            cost=entry.cost,
            blob=blob,
        )


class Promise(NamedTuple):
    """A cut that the store will make should nobody else do it."""

    store: Holds
    token: bytes


@dataclass(slots=True)
class _Asked:
    """A question to the store, and how many wait for the answer."""

    answer: "asyncio.Future[Claim]"
    waiting: int = 0


class _Session:
    """A store that is open, in a task of its own: whatever it enters, it leaves in the same task."""

    def __init__(
        self, store: Store, log: Stamps, tell: Callable[[Event], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self._pid = os.getpid()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._closing = asyncio.Event()
        self._task = loop.create_task(self._run(store, log, tell), name="tiercel store")

    @property
    def is_here(self) -> bool:
        """Whether the running code is in its loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is open in a loop that runs in another thread; after a fork no thread of the parent's runs."""
        return not self.is_here and not self.is_over and self.loop.is_running() and self._pid == os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether it is closed, or could not be opened."""
        return self._task.done()

    async def opened(self) -> None:
        """Wait until it is. Raises what keeps it from that."""
        await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """Wait until it is closed; not for a store that does not answer."""
        self._closing.set()
        if not self._opened.done():
            self._task.cancel()
        await asyncio.wait([self._task], timeout=GRACE)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, store: Store, log: Stamps, tell: Callable[[Event], None]) -> None:
        try:
            async with store.running(log, tell):
                self._opened.set_result(None)
                await self._closing.wait()
        except asyncio.CancelledError:
            self._not_opened(StoreError("the cache is closed"))
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            if self._opened.done():
                tell(Failed(where="store", error=error))
            else:
                self._not_opened(error)

    def _not_opened(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # there may be nobody left to hear of it


def _lasting(seconds: float) -> float:
    """What a store can count with."""
    return min(max(0.0, seconds), LASTING)


def _lane(names: frozenset[bytes], request: Request) -> bytes:
    if not names:
        return b""
    parts = [part for name, digest in keys.selecting(names, request.headers) for part in (name, digest)]
    return keys.primary(*parts)


async def _nothing() -> None: ...
