"""The shared store, as the rest of the engine sees it: bounded in time, and a miss rather than an exception.

claim: what others have stored is brought into memory; else leave to produce it is asked for, or waited for
put:   after the callers have their bytes
cuts:  invalidations, acknowledged when all who share the store are bound by them
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, cast

from tiercel._core import keys
from tiercel._core.calls import Value
from tiercel._core.entry import Entry, Request
from tiercel._core.events import Event, Failed, Unreadable
from tiercel._core.freshness import retain_until, seconds_until_stale
from tiercel._engine.background import Background
from tiercel._engine.blobs import Blobs
from tiercel._engine.fence import Fence
from tiercel._engine.reach import Reach
from tiercel._engine.stamps import Stamps, Verdict
from tiercel._engine.telling import Telling
from tiercel._engine.tiers import Tiers, key_tag
from tiercel._engine.values import Codec
from tiercel.errors import StoreError
from tiercel.spi import Ask, Clock, Found, Kept, Parcel, Store

LEASE: Final = 60.0
"""Seconds that a lease lasts where a fill has no time limit."""
EARLY: Final = 1e9
"""Of a refresh that has been drawn already."""
FIRST_LOOK: Final = 0.002
LAST_LOOK: Final = 0.05
"""Seconds between two looks for what another process produces: at first, and at the most."""
LASTING: Final = 2.0**31
"""Seconds, 68 years: longer than that nothing is fresh, or kept."""


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


_Place = tuple[bytes, bytes, bool]
"""What is asked for: key and lane; and whether for what is to come."""


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
        self._reach = Reach(store, stamps=stamps, clock=clock, tell=tell, deadline=deadline)
        self.cuts = Telling(self._reach, stamps=stamps, background=background)
        self._store = store
        self._stamps = stamps
        self._tiers = tiers
        self._clock = clock
        self._background = background
        self._tell = tell
        self._lease = lease or LEASE
        self._blobs = blobs
        self._claims: dict[_Place, _Asked] = {}
        tiers.fence = Fence(store, clock.monotonic)

    async def open(self) -> None:
        """Open the store in this process and loop, unless it is.

        Raises:
            TiercelError: It cannot be opened.
        """
        await self._reach.open()

    async def aclose(self) -> None:
        """Tell the store what it has not been told yet, and close it."""
        await self.cuts.aclose()
        await self._reach.aclose()

    # -- what is stored ----------------------------------------------------------------------------------------------

    async def claim(self, key: bytes, request: Request, names: frozenset[bytes], *, early: float = 0.0) -> Claim:
        """Bring what is stored into memory, or ask for leave to produce it: once for all who want the same."""
        lane = _lane(names, request)
        return await self._together((key, lane, False), lambda _: self._claim(key, lane, request, names, early))

    async def news(self, key: bytes, request: Request, names: frozenset[bytes], wait: float) -> Claim:
        """The same, once another process has produced it or does so no more: one looks for all who wait."""
        lane = _lane(names, request)
        return await self._together((key, lane, True), lambda asked: self._news(asked, key, lane, request, names, wait))

    async def renewal(
        self, key: bytes, request: Request, entry: Entry, selecting: frozenset[bytes]
    ) -> tuple[bool, Lease | None]:
        """Whether it is for this process to renew a response, and by which leave: of all processes one does it."""
        names = selecting.union([name for name, _ in entry.selecting])
        claim = await self.claim(key, request, names)
        newer = any(found.answered_at > entry.answered_at for found in claim.entries)
        if claim.lease is None and claim.wait <= 0.0 and claim.entries and not newer:  # fresh, and drawn to be early
            claim = await self.claim(key, request, names, early=EARLY)
        lease = claim.take()
        return lease is not None or not (newer or claim.wait > 0.0), lease

    async def _together(self, place: _Place, asking: "Callable[[_Asked], Coroutine[object, object, Claim]]") -> Claim:
        """What is asked once, by the first."""
        key, loop = place[0], asyncio.get_running_loop()
        asked = self._claims.get(place)
        if asked is None or asked.answer.get_loop() is not loop:
            asked = self._claims[place] = _Asked(loop.create_future())
            answer, settle = self._answer(asked, asking(asked)), partial(self._settle, asked, place)
            self._background.start(answer, where="store", ended=settle)
        asked.waiting += 1
        try:
            claim = await asyncio.shield(asked.answer)
        except asyncio.CancelledError:
            asked.answer.add_done_callback(partial(self._give_back, key, asked))
            raise
        else:
            asked.taken = True
            return claim
        finally:
            asked.waiting -= 1

    def _settle(self, asked: "_Asked", place: _Place, _: object) -> None:
        """However the asking ended, also if it was cancelled before its first step: nobody waits for it any more."""
        if self._claims.get(place) is asked:
            del self._claims[place]
        if not asked.answer.done():
            asked.answer.set_result(Claim())

    def _give_back(self, key: bytes, asked: "_Asked", answer: "asyncio.Future[Claim]") -> None:
        """Where nobody is left who could take what has come."""
        if not (asked.waiting or asked.taken):
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
            await self._reach.do(put)
        except StoreError:  # told already: what is not stored is a miss for the others
            if token is not None:
                self.cuts.later(partial(self._store.put, key, lane, None, token))

    async def seek(self, key: bytes, codec: Codec, *, make: bool, early: float = 0.0) -> Sought:
        """Ask for a value, and, to `make` it where there is none that is fresh, for leave to do so."""
        ask = Ask(key=key, fields={}, lease=self._lease if make else 0.0, early=early)
        since = self._clock.monotonic()
        try:
            found = await self._reach.do(partial(self._fetch, ask))
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

    async def _answer(self, asked: "_Asked", claim: Coroutine[object, object, Claim]) -> None:
        with contextlib.suppress(StoreError):  # which is told already: the application is asked
            asked.answer.set_result(await claim)

    async def _news(  # noqa: PLR0913, PLR0917 - as `_claim`
        self, asked: "_Asked", key: bytes, lane: bytes, request: Request, names: frozenset[bytes], wait: float
    ) -> Claim:
        looks = 0
        while True:
            await self.pause(wait, looks)
            claim = await self._claim(key, lane, request, names, 0.0)
            if claim.wait <= 0.0 or claim.entries or claim.names or not asked.waiting:
                return claim
            wait, looks = claim.wait, looks + 1

    async def _claim(self, key: bytes, lane: bytes, request: Request, names: frozenset[bytes], early: float) -> Claim:
        ask = Ask(key=key, fields=keys.offered(request.headers), lane=lane, lease=self._lease, early=early)
        since = self._clock.monotonic()
        found = await self._reach.do(partial(self._fetch, ask))
        now, entries = self._clock.time(), list[Entry]()
        for kept in reversed(found.kept):
            entry = self._read(key, kept.parcel.blob, now, kept.age, found)
            if entry is not None:
                entries.append(self._tiers.adopt(key, entry, now, soft=kept.soft, since=since))
        lease = None if found.lease is None else Lease(lane, found.lease)
        return Claim(tuple(reversed(entries)), found.wait, lease, found.names - names)

    async def _fetch(self, ask: Ask) -> Found:
        before = self._stamps.generation, self._stamps.meanwhile
        found = await self._store.fetch(ask)
        # Of another log, or from before a cut that the store has not been told of.
        return found if before == (self._stamps.generation, self._stamps.meanwhile) else replace(found, kept=())

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
            value,
            payload=payload,
            tags=tuple([tag for tag in value.tags if tag != key_tag(key)]),
            fresh_until=min(value.fresh_until, now) if kept.soft else value.fresh_until,
        )

    def _parcel_of(self, key: bytes, value: Value, packed: bytes) -> Parcel | None:
        """None: it has been cut, or is of no use any more."""
        now, tags = self._clock.time(), (*value.tags, key_tag(key))
        if self._stamps.verdict(tags, value.born) is Verdict.CUT or now >= value.retain_until:
            return None
        try:
            blob = self._blobs.write_value(replace(value, tags=tags), packed, key=key, now=now)
        except UnicodeEncodeError as error:
            self._tell(Failed(where="store", error=error, key=key.hex()))
            return None
        return Parcel(
            born=self._stamps.shared(value.born),
            tags=tags,
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


@dataclass(slots=True)
class _Asked:
    """A question to the store, and how many wait for the answer."""

    answer: "asyncio.Future[Claim]"
    waiting: int = 0
    taken: bool = False
    """Whether somebody has got the answer."""


def _lasting(seconds: float) -> float:
    """What a store can count with."""
    return min(max(0.0, seconds), LASTING)


def _lane(names: frozenset[bytes], request: Request) -> bytes:
    if not names:
        return b""
    parts = [part for name, digest in keys.selecting(names, request.headers) for part in (name, digest)]
    return keys.primary(*parts)
