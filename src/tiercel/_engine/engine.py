"""What all requests of a cache share: the log, the tiers, the running fills, the counts."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from tiercel._core import keys
from tiercel._core.entry import Entry, Request
from tiercel._core.events import Answered, Event, Failed, Invalidated
from tiercel._engine.background import Background
from tiercel._engine.blobs import Blobs
from tiercel._engine.chunks import Room
from tiercel._engine.codings import compressors
from tiercel._engine.depot import Depot
from tiercel._engine.encoder import Encoder
from tiercel._engine.flights import Flight, Phase
from tiercel._engine.stamps import Stamps, Verdict
from tiercel._engine.telling import Promise
from tiercel._engine.tiers import VARIANTS, Tiers, key_tag
from tiercel.errors import NotAcknowledged
from tiercel.spi import Clock, Observer, Store

AFLOAT_SHARE = 4
"""Bodies that are still growing may take 1/4 of the bound, beside what is stored."""

KEPT_BACK = 10_000
"""Keys that are known to be held, some 2 MB; of more, all are found out again."""

_log = logging.getLogger("tiercel")


@dataclass(slots=True)
class Change:
    """Something that is being changed."""

    cut: int = 0
    """The id of the cut, once it is over."""
    others: set[int] = field(default_factory=set[int])
    """Ids of what was cut for it before: what takes long is held anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long, and how spread, things may be. Seconds and shares."""

    soft: float | None
    """A fill that takes longer is not waited for where a stale response may be served instead."""
    hard: float | None
    """A fill whose head takes longer is given up; so is one whose body nobody has waited for, for so long."""
    jitter: float
    """The share of a declared lifetime that is taken off at random: what came together is not to fall due together."""
    pass_for: float = 2.0
    """After an answer that could not be stored nobody waits for another's fill under that key for so long."""


class Counts:
    """What happened so far. Plain integers: a hit pays for one addition.

    Each answer is one of hits, stale, collapsed and bypassed, or was filled for. Each fill ends as stored, discarded or
    failed, or on what was stored before.
    """

    __slots__ = ("bypassed", "collapsed", "discarded", "failed", "fills", "hits", "invalidations", "stale", "stored")

    def __init__(self) -> None:
        self.hits = self.stale = self.fills = self.collapsed = self.bypassed = 0
        self.stored = self.discarded = self.failed = self.invalidations = 0


class Engine:
    """Shared state and the few operations that keep it consistent. Which happens when is `exchange`'s business."""

    def __init__(
        self,
        *,
        bound: int,
        clock: Clock,
        limits: Limits,
        random: Callable[[], float],
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.random = random
        self.observers = observers
        self.stamps = Stamps()
        self.depot: Depot | None = None
        """The shared store, where there is one."""
        self.encoder: Encoder | None = None
        """Sends what is stored in the content coding that the client wants; None: as it is."""
        self.place: Callable[[str], None] | None = None
        """Has what is stored live at a URL; None where the program has said where it lives."""
        self.tiers = Tiers(bound, self.stamps)
        self.room = Room(bound // AFLOAT_SHARE)
        self.background = Background(self.tell)
        self.counts = Counts()
        self.installed = False
        """Whether requests come through a gate of this cache."""
        self._flights: dict[bytes, list[Flight]] = {}
        self._kept_back: dict[bytes, tuple[str, ...]] = {}
        """Keys under which nothing could be kept, because these tags of theirs were held."""

    def tell(self, event: Event) -> None:
        for observer in self.observers:
            try:
                observer.on_event(event)
            except Exception:  # noqa: BLE001 - of the user's; the request is answered all the same
                _log.exception("%r raised when it was told of %r", observer, event)

    def misled(self, where: str, error: BaseException, outcome: str = "Nothing is stored.") -> None:
        """Something of the program's led nowhere: the request is answered, nothing is kept, and the log says so."""
        _log.warning("%s: %r. %s", where, error, outcome)
        self.tell(Failed(where=where, error=error))

    def called_by_hand(self, name: str) -> None:
        """A declared endpoint ran for no request that the cache has seen: once, say so where that may be a mistake."""
        if not self.installed:
            self.installed = True
            _log.warning("%s is declared with a cache that is installed nowhere. Call cache.install(app).", name)

    def answered(self, label: str, result: str, detail: str = "", seconds: float = 0.0) -> None:
        self.tell(Answered(key=label, result=result, detail=detail, seconds=seconds))

    def draw(self) -> float:
        """A number in (0, 1], for decisions that want to be spread."""
        return 1.0 - self.random()

    # -- invalidation ------------------------------------------------------------------------------------------------

    async def invalidate(self, tags: Iterable[str], *, soft: bool = False) -> int:
        """Cut the tags for all who share what is stored; when this returns, nothing produced before can be read.

        Raises:
            NotAcknowledged: The others may not have been told. Here it is done.
        """
        named = tuple(tags)
        if not named:
            return self.stamps.position
        if self.depot is None:
            return self.cut(named, soft=soft)
        return self._told_of(await self.depot.cuts.append(named, soft=soft), named, soft=soft)

    @asynccontextmanager
    async def mutation(self, tags: tuple[str, ...]) -> AsyncGenerator["Change"]:
        """Hold the tags while what is inside lasts, and cut them when it is over, also should this process die before.

        Raises:
            NotAcknowledged: As `invalidate`; or before what is inside begins.
        """
        change = Change()
        end = await self._held(tags, change)
        try:
            yield change
        except BaseException:
            try:
                await end()
            except NotAcknowledged as error:
                self.misled("the invalidation after a change that has failed", error, "It is queued.")
            raise
        change.cut = await end()

    async def _held(self, tags: tuple[str, ...], change: "Change") -> Callable[[], Awaitable[int]]:
        """Hold the tags; returns what cuts them in the end."""
        if not tags:
            return partial(self.invalidate, tags)
        if self.depot is None:
            return partial(self._release, self.stamps.hold(tags), tags)
        promise = await self.depot.cuts.promise(tags)
        if promise is None:
            return partial(self.invalidate, tags)
        change.others = promise.cuts
        lengthening = self.background.start(self.depot.cuts.lengthen(promise), where="mutation")
        return partial(self._keep, self.depot, promise, lengthening)

    async def _release(self, hold: int, tags: tuple[str, ...]) -> int:
        return self._told_of(self.stamps.release(hold, tags), tags, soft=False)

    async def _keep(self, depot: Depot, promise: Promise, lengthening: "asyncio.Task[None]") -> int:
        lengthening.cancel()
        return self._told_of(await depot.cuts.keep(promise), promise.tags, soft=False)

    async def applied(self, cut: int) -> tuple[str, ...]:
        """The processes that have applied a cut, or do not trust their memory; none where nobody knows."""
        return () if self.depot is None else await self.depot.cuts.applied(cut)

    def share(self, store: Store, *, deadline: float, blobs: Blobs) -> None:
        """From now on, share what is stored with other processes."""
        self.depot = Depot(
            store,
            stamps=self.stamps,
            tiers=self.tiers,
            clock=self.clock,
            background=self.background,
            tell=self.tell,
            deadline=deadline,
            lease=self.limits.hard,
            blobs=blobs,
        )

    def compress(self, *, private: bool = False) -> None:
        """From now on, send what is stored compressed to whoever wants that."""
        self.encoder = Encoder(
            compressors(),
            private=private,
            tiers=self.tiers,
            clock=self.clock,
            background=self.background,
            tell=self.tell,
        )

    async def clear(self) -> int:
        """Cut everything, and give the bytes back, in steps. Raises as `invalidate` does."""
        if self.depot is None:
            cut = self.cut_all()
        else:
            cut = await self.depot.cuts.append(())
            self.tiers.clear()
            self._told_of(cut, ("*",), soft=False)
        while self.tiers.sweep() or self.stamps.sweep():  # noqa: ASYNC110 - not waiting: each turn does a part of it
            await asyncio.sleep(0)
        return cut

    def invalidate_now(self, tags: Iterable[str]) -> None:
        """From code that cannot await: at once in this process, and as soon as may be in the others."""
        if self.depot is None:
            self.cut(tags)
        else:
            self.depot.cuts.append_soon(tuple(tags))

    def cut(self, tags: Iterable[str], *, soft: bool = False) -> int:
        """Cut the tags in the log of this process."""
        named = tuple(tags)
        return self._told_of(self.stamps.cut(named, soft=soft), named, soft=soft)

    def cut_all(self) -> int:
        """Cut everything in the log of this process, and give the bytes back."""
        cut = self.stamps.clear()
        self.tiers.clear()
        return self._told_of(cut, ("*",), soft=False)

    def _told_of(self, cut: int, tags: Iterable[str], *, soft: bool) -> int:
        self.counts.invalidations += 1
        if self.observers:
            self.tell(Invalidated(id=self.stamps.shared(cut), tags=tuple(tags), soft=soft))
        return cut

    # -- what is held ------------------------------------------------------------------------------------------------

    def keep_back(self, key: bytes, tags: tuple[str, ...]) -> None:
        """What is being made under a key has these tags: if one is held, it is for its own callers."""
        held = self.stamps.held(tags)
        if len(self._kept_back) >= KEPT_BACK or not self.stamps.holding:
            self._kept_back.clear()
        if held:
            self._kept_back[key] = held

    def keeps_back(self, key: bytes) -> bool:
        """Whether nobody needs to wait for another's answer under a key: it would be another's only."""
        tags = self._kept_back.get(key)
        if tags is None:
            return False
        if self.stamps.is_held(tags):
            return True
        self._kept_back.pop(key, None)
        return False

    # -- running fills -----------------------------------------------------------------------------------------------

    def board(self, lane: bytes, request: Request, stored: tuple[Entry, ...], names: frozenset[bytes]) -> Flight | None:
        """A running fill whose answer is, or may turn out to be, the answer to this request, too.

        What is declared (`names`) or known to select under the key keeps apart those who would wait in vain for each
        other's variants.
        """
        flights = self._flights.get(lane)
        if not flights:
            return None
        names = names.union([name for entry in _known(stored, flights) for name, _ in entry.selecting])
        selecting = keys.selecting(names, request.headers)
        loop = asyncio.get_running_loop()
        for flight in flights:
            if (
                flight.loop is loop
                and _may_answer(flight, request)
                and flight.selecting(names) == selecting
                and self.valid(flight)
            ):
                return flight
        return None

    def valid(self, flight: Flight) -> bool:
        """Whether no invalidation that could hit it has come between the start of the fill and now."""
        if self.tiers.fence is not None and not self.tiers.fence.passes(flight.since):
            return False
        reads, born = flight.reads, int(min(flight.born, flight.reads.born))
        if born >= self.stamps.newest:
            return True
        if flight.revision == self.stamps.revision and born == flight.born:
            # Its tags may not be known yet: whoever boards looks again when they are.
            return not self.stamps.is_held((*(flight.tags or ()), *reads.tags, key_tag(flight.key)))
        if reads.unknown:
            return False
        if flight.tags is None:
            if not flight.by_uri:
                return False
            request = flight.request
            flight.tags = (keys.uri_tag(request.scheme, request.authority, request.target),)
        return self.stamps.verdict((*flight.tags, *reads.tags, key_tag(flight.key)), born) is Verdict.USABLE

    def launch(self, flight: Flight) -> None:
        """Let others board; but of more variants than can be kept, each is on its own."""
        flights = self._flights.setdefault(flight.lane, [])
        if len(flights) >= VARIANTS:
            flights[:] = [flying for flying in flights if self.valid(flying)]
        if len(flights) < VARIANTS:
            flights.append(flight)

    def retire(self, flight: Flight) -> None:
        """No later caller may board."""
        flights = self._flights.get(flight.lane)
        if flights is not None and flight in flights:
            flights.remove(flight)
            if not flights:
                del self._flights[flight.lane]


def _known(stored: tuple[Entry, ...], flights: list[Flight]) -> list[Entry]:
    return [*stored, *[flight.entry for flight in flights if flight.entry is not None]]


def _may_answer(flight: Flight, request: Request) -> bool:
    """A GET answers a HEAD, not the other way round; one that is not for everyone answers nobody else."""
    if flight.phase is not Phase.ASKING and flight.phase is not Phase.GROWING:
        return False
    return flight.request.method == request.method or (flight.request.method == "GET" and request.method == "HEAD")
