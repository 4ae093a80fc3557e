"""The pipeline: what happens to a request, in order. The only file that knows the order.

    look up → decide → serve │ serve stale, refresh behind │ pass by │ refuse │ fill, or join a fill → reply

Between two awaits only pure functions decide; what is shared (`Engine`) is consistent at each await.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from tiercel._core import keys, rfc9111
from tiercel._core.entry import Entry, Header
from tiercel._core.freshness import seconds_until_stale, usable_stale
from tiercel._core.status import CacheStatus
from tiercel._engine.call import Call
from tiercel._engine.depot import Claim, Depot, Lease
from tiercel._engine.fills import Fill, TimeLimitError
from tiercel._engine.flights import CACHE_STATUS, Flight, Message, Phase, Reader
from tiercel._engine.replies import send_growing, send_refusal, send_stored
from tiercel._engine.runs import run
from tiercel._engine.tiers import Shelf

SLOW = "soft-time-limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Answer from a complete stored response."""

    key: bytes
    entry: Entry
    stale: bool = False
    status: CacheStatus | None = None
    """What the client is told, where that is not all there is to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ride:
    """Answer from a running fill."""

    flight: Flight
    fill: rfc9111.Fill
    reader: Reader
    collapsed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Not for the cache: the application answers, and nothing is kept."""

    reason: str
    fwd: str = "bypass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The client wants no work done for it, and nothing is stored: 504."""


Answer = Hit | Ride | Pass | Refused


class TakeOff(Protocol):
    """Starts a fill: for all who ask for the key, or `alone`; with a caller, or `behind` the reply."""

    def __call__(
        self, plan: rfc9111.Fill, /, *, alone: bool = False, behind: bool = False, lease: Lease | None = None
    ) -> Flight: ...


async def exchange(call: Call, key: bytes) -> None:
    """Answer a request in front of the application."""

    def take_off(
        plan: rfc9111.Fill, /, *, alone: bool = False, behind: bool = False, lease: Lease | None = None
    ) -> Flight:
        fill = Fill(call, key=key, caller=not behind)
        flight = fill.take_off(plan, key, alone=alone, lease=lease)
        run(fill, plan, behind=behind)
        return flight

    await reply(call, await seek(call, key, take_off))


# -- finding the answer ----------------------------------------------------------------------------------------------


async def seek(call: Call, key: bytes, take_off: TakeOff) -> Answer:
    """Find the answer to a request: stored, on its way, or to be asked for."""
    if call.shadow:
        return _foreseen(call, key, take_off)
    search = _Search(take_off)
    try:
        while True:
            answer = await _look(call, key, search)
            if answer is not None:
                return answer
    finally:
        # Whoever was cancelled in between leaves the key to others.
        if call.engine.depot is not None and search.claim is not None and (lease := search.claim.take()):
            call.engine.depot.put(key, None, lease)


@dataclass(slots=True)
class _Search:
    """How far the search for one request's answer has come."""

    take_off: TakeOff
    shelf: Shelf | None = None
    """What memory had at the last look."""
    tried: tuple[Flight, ...] = ()
    claim: Claim | None = None
    """What the shared store has said."""
    looks: int = 0


async def _look(call: Call, key: bytes, search: _Search) -> Answer | None:
    """One look; None where what was waited for turned out not to be for this request, and it takes another."""
    engine = call.engine
    search.shelf = engine.tiers.shelf(key)
    stored = search.shelf.entries if search.shelf else _found(call, key, search.claim)
    decision = rfc9111.on_request(call.request, stored, engine.clock.time(), call.rules, draw=engine.draw())
    match decision:
        case rfc9111.Serve(entry=entry, refresh=refresh):
            if refresh:
                _renew(call, key, search.take_off, entry)
            return Hit(key=key, entry=entry)
        case rfc9111.ServeStale(entry=entry):
            _renew(call, key, search.take_off, entry)
            return Hit(key=key, entry=entry, stale=True)
        case rfc9111.Bypass(reason=reason, fwd=fwd):
            return Pass(reason=reason, fwd=fwd)
        case rfc9111.Refuse():
            return Refused()
        case rfc9111.Fill() as fill:
            return await _fill(call, key, search, fill, stored)
        case _:
            assert_never(decision)


def _found(call: Call, key: bytes, claim: Claim | None) -> tuple[Entry, ...]:
    """What the shared store had, where memory may not be used; but for what has been cut meanwhile."""
    if claim is None:
        return ()
    return tuple([entry for entry in claim.entries if call.engine.tiers.usable(key, entry)])


async def _fill(
    call: Call, key: bytes, search: _Search, fill: rfc9111.Fill, stored: tuple[Entry, ...]
) -> Answer | None:
    """Ride with whoever asks for it already, in this process or another; else ask."""
    engine, lane = call.engine, call.lane(key)
    shelf = search.shelf if lane is key else engine.tiers.shelf(lane)
    alone = engine.keeps_back(lane) or _alone(call, fill, shelf, search.tried)
    flight = None if alone else engine.board(lane, call.request, stored, call.selecting)
    if flight is not None and flight not in search.tried:
        search.tried = (*search.tried, flight)
        return await _join(call, fill, flight)
    if engine.depot is not None and not alone and await _ask_others(call, key, search, engine.depot, stored):
        return _too_slow(call, key, fill) if search.looks else None
    lease = search.claim.take() if search.claim and not alone else None
    flight = search.take_off(fill, alone=alone or flight is not None, lease=lease)
    return Ride(flight=flight, fill=fill, reader=flight.board(call.request, own=True), collapsed=False)


async def _ask_others(call: Call, key: bytes, search: _Search, depot: Depot, stored: Sequence[Entry]) -> bool:
    """Whether to look again: what other processes have stored, or are just producing, may answer."""
    claim, names = search.claim, call.names(stored)
    if claim is not None and claim.names - names:
        names |= claim.names
        depot.put(key, None, claim.take())
    elif claim is not None:
        if claim.wait <= 0.0:
            return False
        search.looks += 1
        if not stored:  # nothing can stand in, however long it takes
            search.claim = await depot.news(key, call.request, names, claim.wait)
            return True
        await depot.pause(claim.wait, search.looks - 1)
    search.claim = await depot.claim(key, call.request, names)
    return True


def _too_slow(call: Call, key: bytes, fill: rfc9111.Fill) -> Hit | None:
    """A stale response that may and should be served rather than wait longer for another process."""
    engine, entry = call.engine, fill.entry
    soft = engine.limits.soft
    if soft is None or entry is None or engine.clock.monotonic() - call.since < soft:
        return None
    if usable_stale(entry, engine.clock.time(), entry.stale_if_error) and engine.tiers.usable(key, entry):
        return Hit(key=key, entry=entry, stale=True, status=CacheStatus(fwd=fill.fwd, collapsed=True, detail=SLOW))
    return None


def _renew(call: Call, key: bytes, take_off: TakeOff, entry: Entry) -> None:
    """Ask for a newer one behind the reply, unless somebody does so already.

    What answers a HEAD or a range would be no newer GET: that is left to whoever asks for the whole.
    """
    if call.request.method != entry.method or call.keeps_range:
        return
    if call.engine.board(call.lane(key), call.request, (entry,), call.selecting) is None:
        take_off(rfc9111.Fill(fwd="stale", entry=entry), behind=True)


def _alone(call: Call, fill: rfc9111.Fill, shelf: Shelf | None, tried: Sequence[Flight]) -> bool:
    """Whether another's fill is of no use: it asks for a part, wants a new answer, or none could be kept lately."""
    if call.keeps_range or fill.fwd == "request" or fill.detail.startswith("request-"):
        return True
    if shelf is not None and call.engine.clock.time() < shelf.pass_until:
        return True
    # What could not be stored a moment ago is not waited for again: those who waited would queue.
    return bool(tried) and any(flight.entry is None for flight in tried)


async def _join(call: Call, fill: rfc9111.Fill, flight: Flight) -> Answer | None:
    """Wait for what somebody is asking for already. None where that turns out not to be for this request."""
    joined = call.engine.stamps.newest
    reader = flight.board(call.request)
    answer: Answer | None = None
    try:
        if (stale := await _waited(call, flight, fill)) is not None:
            status = CacheStatus(fwd=fill.fwd, collapsed=True, detail=SLOW)
            return Hit(key=flight.key, entry=stale, stale=True, status=status)
        if _fits(call, flight, joined):
            answer = Ride(flight=flight, fill=fill, reader=reader, collapsed=True)
        return answer
    finally:
        if answer is None:
            reader.leave()


async def _waited(call: Call, flight: Flight, fill: rfc9111.Fill) -> Entry | None:
    """Wait for the head of a fill; or a stale response that may and should be served rather than wait longer."""
    engine, entry = call.engine, fill.entry
    if entry is not None and not await flight.settled(engine.limits.soft):
        window = entry.stale_if_error
        stale = window > 0 and usable_stale(entry, engine.clock.time(), window)
        if stale and engine.tiers.usable(flight.key, entry):
            return entry
    await flight.settled()
    return None


def _fits(call: Call, flight: Flight, joined: float) -> bool:
    """Whether the answer of somebody else's fill answers this request, too.

    What it is tagged with is known only now. If it is hit by an invalidation that came before this request, it is too
    old.
    """
    if flight.phase is Phase.FAILED:
        return True  # an application in trouble is not asked again by everyone who waited
    if flight.entry is None or flight.phase is Phase.PASSING:
        return False
    if flight.fallback:
        return keys.select((flight.entry,), call.request) is not None
    if joined > flight.born and not call.engine.valid(flight):
        return False
    decision = rfc9111.on_request(call.request, (flight.entry,), call.engine.clock.time(), call.rules)
    return isinstance(decision, rfc9111.Serve | rfc9111.ServeStale)


def _foreseen(call: Call, key: bytes, take_off: TakeOff) -> Pass:
    """What would be done, were the application not to answer in any case; its answer is stored for the next time."""
    shelf = call.engine.tiers.shelf(key)
    match rfc9111.on_request(call.request, shelf.entries if shelf else (), call.engine.clock.time(), call.rules):
        case rfc9111.Serve():
            would = "shadow-hit"
        case rfc9111.ServeStale():
            would = "shadow-stale"
        case _:
            would = "shadow-miss"
    take_off(rfc9111.Fill(fwd="request", entry=None, detail=would), alone=True, behind=True)
    return Pass(reason=would)


# -- sending it ------------------------------------------------------------------------------------------------------


async def reply(call: Call, answer: Answer) -> None:
    """Send the answer, and count it."""
    match answer:
        case Hit():
            await _serve(call, answer)
        case Ride(reader=reader):
            try:
                await _ride(call, answer)
            finally:
                reader.leave()
        case Pass(reason=reason, fwd=fwd):
            _count(call, "bypass", reason)
            await pass_by(call, CacheStatus(fwd=fwd, detail=None if reason == fwd else reason))
        case Refused():
            _count(call, "refused", "only-if-cached")
            await send_refusal(call, CacheStatus(detail="only-if-cached"))
        case _:
            assert_never(answer)


async def pass_by(call: Call, status: CacheStatus) -> None:
    """Let the application answer, and only say why."""

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await call.visitor.answered()
            message = call.marked(message, status)
        await call.send(message)

    try:
        await call.app(call.scope, call.receive, send)
    finally:
        await call.visitor.ended()


async def relayed(call: Call, flight: Flight, result: str) -> None:
    """Wait while the fill hands everything that the application says to its caller."""
    _count(call, result, flight.reason)
    try:
        await flight.finished()
    except asyncio.CancelledError:
        flight.abandon()
        raise


async def _serve(call: Call, hit: Hit) -> None:
    ttl = int(seconds_until_stale(hit.entry, call.engine.clock.time()))
    status = hit.status or CacheStatus(hit=True, ttl=ttl)
    _count(call, "stale" if hit.stale else "hit", status.detail or "")
    await send_stored(call, await _shown(call, hit.key, hit.entry), status)


async def _shown(call: Call, key: bytes, entry: Entry) -> Entry:
    """A stored response in the content coding that the client wants."""
    encoder = call.engine.encoder
    return entry if encoder is None else await encoder.shown(key, entry, call.request.headers)


async def _ride(call: Call, ride: Ride) -> None:
    """Send the answer of a fill as it comes."""
    flight, result = ride.flight, "collapsed" if ride.collapsed else "miss"
    if (stale := await _waited(call, flight, ride.fill)) is not None:
        ride.reader.leave()  # before a byte goes out: what the application says from now on is not for this client
        await _serve(call, Hit(key=flight.key, entry=stale, stale=True, status=_told(ride, detail=SLOW)))
        return
    match flight.phase:
        case Phase.LANDED if flight.entry is not None:
            await _send_landed(call, ride, flight.entry)
        case Phase.GROWING | Phase.ENDED if flight.entry is not None:
            told = _told(ride, stored=not flight.reason)
            _count(call, result, told.detail or "")
            await send_growing(call, ride.reader, flight.entry, told, passed_on=_passed_on(ride))
        case Phase.FAILED if isinstance(flight.error, TimeLimitError):
            _count(call, "refused", "time-limit")
            await send_refusal(call, _told(ride, detail="time-limit"))
        case Phase.FAILED:
            _count(call, result, "failed")
            flight.check()
        case _:
            await relayed(call, flight, "miss")


async def _send_landed(call: Call, ride: Ride, entry: Entry) -> None:
    flight = ride.flight
    forwarded = None if flight.status == entry.status else flight.status
    if flight.fallback:
        status = _told(ride, forwarded=forwarded, detail="stale-if-error")
        await _serve(call, Hit(key=flight.key, entry=entry, stale=True, status=status))
        return
    told = _told(ride, forwarded=forwarded, stored=flight.stored)
    _count(call, "collapsed" if ride.collapsed else "miss", told.detail or "")
    shown = await _shown(call, flight.key, entry)
    await send_stored(call, shown, told, passed_on=_passed_on(ride), first=True)


def _told(ride: Ride, *, forwarded: int | None = None, stored: bool = False, detail: str = "") -> CacheStatus:
    """What the client is told of it. Who has joined another's request did not have anything stored."""
    return CacheStatus(
        fwd=ride.fill.fwd,
        fwd_status=forwarded,
        stored=stored and not ride.collapsed,
        collapsed=ride.collapsed,
        detail=detail or ride.flight.reason or ride.fill.detail or None,
    )


def _passed_on(ride: Ride) -> Sequence[Header]:
    """What was not stored. Who has joined another's request gets nothing that was meant for the other."""
    passed_on = ride.flight.passed_on
    return [line for line in passed_on if line[0] == CACHE_STATUS] if ride.collapsed else passed_on


def _count(call: Call, result: str, detail: str = "") -> None:
    engine, counts = call.engine, call.engine.counts
    match result:
        case "hit":
            counts.hits += 1
        case "stale":
            counts.stale += 1
        case "collapsed":
            counts.collapsed += 1
        case "bypass":
            counts.bypassed += 1
        case _:
            pass  # a miss is counted as the fill that it caused
    if engine.observers:
        engine.answered(call.route.label, result, detail, engine.clock.monotonic() - call.since)
