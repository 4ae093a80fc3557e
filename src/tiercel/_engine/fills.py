"""A fill: what one run of the application says, carried into the cache and to whoever waits for it.

State of one fill lives in one object. It belongs to no caller. What the application says is either for everyone
(`Flight` GROWING, then LANDED), or for the caller alone, who gets it message by message as it is said (PASSING).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from tiercel._core import freshness, present, rfc9111
from tiercel._core.entry import Entry, Head
from tiercel._core.events import Discarded, Failed, Stored
from tiercel._core.status import CacheStatus
from tiercel._engine import fitting
from tiercel._engine.call import Call
from tiercel._engine.depot import Lease
from tiercel._engine.flights import CACHE_STATUS, Flight, Message, Phase
from tiercel._engine.reading import Reads
from tiercel._engine.tiers import weigh

ASIDE = frozenset({"http.response.debug", "http.response.early_hint"})
"""Messages beside the response: for the caller that waits for it, and no reason not to store it."""
FILES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""Extensions by which a server sends a body itself: where it offers one, the head waits for what follows it."""
NOT_MODIFIED = 304
ERRORS = 400
GONE = frozenset({404, 410})
"""Answers that end a stored response, however long it might still be served stale."""

_FORBIDDEN = frozenset({"no-store", "private"})
_UNFIT = frozenset({"not-modified", "other-representation"})


class TimeLimitError(TimeoutError):
    """The application did not begin its answer within the time limit of a fill."""


class IncompleteError(ConnectionError):
    """The application ended before its response did."""


class Fill:
    """One run of the application for a call; the flight is what the others see of it."""

    def __init__(
        self, call: Call, *, key: bytes, caller: bool = True, undecided: Callable[[], None] = lambda: None
    ) -> None:
        """`undecided` is told when the application answers, or ends, and nobody has asked the cache."""
        engine = call.engine
        self.call = call
        self.flight = Flight(
            key,
            born=engine.stamps.position,
            since=engine.clock.monotonic(),
            request=call.request,
            room=engine.room,
            caller=caller,
        )
        self.flight.revision = engine.stamps.revision
        self.asked: rfc9111.Asked | None = None
        """None: it was not decided that the answer may be stored; whatever the application says is passed on."""
        self.muted = False
        """The caller is answered otherwise: nobody wants what the application still says."""
        self.made = False
        """The endpoint of the route has returned: what is heard now is its answer, and no exception handler's."""
        self._undecided = undecided
        self.fwd: str = "bypass"
        self.detail = "not-asked"
        """What the caller is told, where the answer is not for the cache."""
        self.conditional = False
        """The application was asked to validate what is stored."""
        self.again = False
        """Its answer was a 304 that fits nothing here: it has to be asked once more, without a condition."""
        self._own: tuple[str, ...] = ()
        self._head: Message = {}
        self._entry: Entry | None = None
        self._dress = fitting.Dress((), ())
        self._lease: Lease | None = None
        """Of all processes this one asks the application."""
        self._size = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def take_off(self, fill: rfc9111.Fill, key: bytes, *, alone: bool, lease: Lease | None = None) -> Flight:
        """From here on the answer may be stored under this key, and, unless `alone`, is for all who ask for it."""
        call, engine, flight = self.call, self.call.engine, self.flight
        self._lease = lease
        flight.key, flight.lane = key, call.lane(key)
        self.fwd, self.detail = fill.fwd, fill.detail
        self.asked = call.asked(fill, born=flight.born, at=engine.clock.time())
        flight.by_uri = not call.route.declared
        engine.counts.fills += 1
        if not alone:
            engine.launch(flight)
        if engine.limits.hard is not None:
            self._timer = flight.loop.call_later(engine.limits.hard, self._overdue)
        return flight

    async def is_ours(self) -> bool:
        """Whether a refresh is ours to do: of all processes one does it. If not, the fill is over."""
        engine, call, asked = self.call.engine, self.call, self.asked
        if engine.depot is None or asked is None or asked.entry is None:
            return True
        ours, self._lease = await engine.depot.renewal(self.flight.key, call.request, asked.entry, call.selecting)
        if ours:
            return True
        engine.counts.fills -= 1
        self.flight.end()
        self._retire()
        return False

    def restart(self) -> None:
        """The application is asked once more: what it says now is produced from now on."""
        engine = self.call.engine
        self.again = self.conditional = False
        self._head = {}
        self.flight.born, self.flight.tags, self.flight.reads = engine.stamps.position, None, Reads()
        self.flight.revision = engine.stamps.revision
        if self.asked is not None:
            self.asked = replace(self.asked, born=self.flight.born, asked_at=engine.clock.time())

    # -- what its endpoint knows of it -------------------------------------------------------------------------------

    def named(self, tags: tuple[str, ...]) -> None:
        """An invalidation may name it by these; whom it does not concern may still join."""
        self.flight.tags = tags
        self.call.engine.keep_back(self.flight.lane, tags)

    def decline(self, detail: str) -> None:
        """It is for its own caller, and not kept: nobody knows whose it is, or what could invalidate it."""
        self.detail = detail
        if self.asked is not None:
            self._mark(self.call.engine.clock.time())
            self.asked = None

    def mute(self) -> None:
        """The caller is answered otherwise: nobody wants what the application still says."""
        self.muted = True

    # -- what the application says -----------------------------------------------------------------------------------

    async def heard(self, message: Message) -> None:
        """Take its next message."""
        flight = self.flight
        if flight.over or self.muted or self.again:
            return
        match message["type"]:
            case _ if flight.phase is Phase.PASSING:
                await self._pass_on(message)
            case kind if kind in ASIDE:
                if flight.phase is Phase.ASKING:
                    await self._pass_on(message)
            case "http.response.start" if not self._head:
                await self._start(message)
            case "http.response.body" if self._entry is not None:
                await self._chunk(self._entry, message)
            case kind if flight.phase is Phase.ASKING:
                await self._pass_by(f"asgi:{kind}", message)
            case kind:
                raise RuntimeError(f"Unexpected ASGI message {kind!r} within a response that others read, too.")

    def returned(self) -> None:
        """The application has nothing more to say."""
        flight = self.flight
        if flight.over:
            return
        if flight.phase is Phase.PASSING or self.muted or flight.unwanted:
            flight.end()
        else:
            self.broke(IncompleteError("the application returned before its response was complete"))

    def broke(self, error: BaseException) -> bool:
        """The run has failed: tell those who wait. Whether there was anybody to tell."""
        engine, flight = self.call.engine, self.flight
        self._retire()
        if self.muted or flight.over:
            return False
        told, asked = flight.attended, self._current()
        engine.counts.failed += 1
        stale = None if asked is None else rfc9111.on_failure(asked, engine.clock.time())
        if stale is not None and flight.phase is Phase.ASKING:
            told = False  # they are served, and never hear of it
            flight.land(stale.entry, stored=False, fallback=True)
        else:
            flight.fail(error)
        self._undecided()
        if told or isinstance(error, TimeLimitError | IncompleteError):
            engine.tell(Failed(where="fill", error=error, key=flight.key.hex()))
        return told

    # -- the answer --------------------------------------------------------------------------------------------------

    async def _start(self, message: Message) -> None:
        self._head = message
        head = Head(status=message["status"], headers=fitting.plain(message.get("headers", ())))
        await self.call.visitor.answered()
        self.flight.status = head.status
        asked = self._current()
        if self.asked is None:
            await self._pass_by("", message)
        elif asked is None:
            await self._pass_by("unobservable", message)
        elif message.get("trailers"):
            await self._pass_by("trailers", message)
        elif self.call.route.handlers and not self.made:
            await self._pass_by("exception-handler", message)
        else:
            await self._decide(asked, head)

    async def _decide(self, asked: rfc9111.Asked, head: Head) -> None:
        now = self.call.engine.clock.time()
        self._own = self.flight.tags or () if asked.declared else ()
        if head.status == NOT_MODIFIED and not self.conditional:
            asked = replace(asked, entry=None)  # nobody has asked, so it confirms nothing
        decision = rfc9111.on_head(asked, head, now)
        match decision:
            case rfc9111.Store(entry=entry):
                await self._take(entry, head, now)
            case rfc9111.Freshen(entry=entry):
                tags = tuple(dict.fromkeys((*self._own, *entry.tags)))
                self._land(self._completed(entry, fitting.Dress(entry.headers, tags)))
            case rfc9111.UseStale(entry=entry):
                self._discarded("stale-if-error")
                self.flight.land(entry, stored=False, fallback=True)
                self._retire()
            case rfc9111.Discard(reason=reason) if self.conditional and reason in _UNFIT:
                self.again = True
            case rfc9111.Discard(reason=reason):
                if asked.entry is not None and (head.status in GONE or reason in _FORBIDDEN):
                    self.call.engine.tiers.drop(self.flight.key, asked.entry)
                await self._pass_by(reason, self._head)
            case _:
                assert_never(decision)

    async def _take(self, entry: Entry, head: Head, now: float) -> None:
        """The answer may be stored, once it is complete."""
        call, flight = self.call, self.flight
        length = fitting.announced(entry)
        reason = flight.reads.unknown or ("too-large" if self._exceeds(length, length) else "")
        if reason:
            await self._pass_by(reason, self._head)
            return
        left_out = rfc9111.left_out(call.rules)
        flight.passed_on = [line for line in head.headers if line[0] == CACHE_STATUS or line[0] in left_out]
        self._entry, self._dress = entry, fitting.dressed(entry, call.route, call.request, self._own)
        if call.engine.encoder is not None:
            offered = call.engine.encoder.offered(entry.status, self._dress.headers)
            self._dress = self._dress._replace(headers=offered)
        flight.tags = self._dress.tags
        call.engine.keep_back(flight.lane, (*flight.tags, *flight.reads.tags))
        if entry.method == "HEAD":
            self._land(
                self._completed(entry, self._dress)
            )  # complete with its head, whatever the application says beyond it
            return
        self._keep_apart(entry, now)
        if FILES.isdisjoint(call.scope.get("extensions") or ()):
            # Most applications send the whole body in the same turn of the loop: then the entity tag is a digest of it.
            # Else the head goes out at the end of this turn, with a tag that is unique to this fill.
            flight.loop.call_soon(self._show)

    async def _chunk(self, entry: Entry, message: Message) -> None:
        flight = self.flight
        chunk, more = bytes(message.get("body", b"")), message.get("more_body", False)
        self._narrow()
        self._size += len(chunk)
        if not self._refused and self._exceeds(self._size, len(chunk)):
            if flight.phase is Phase.ASKING:
                await self._pass_by("too-large", message)
                return
            self._refuse("too-large")
            flight.let_go()
        if not more and not self._refused:
            await self._finish(entry, chunk, message)
            return
        self._show()
        flight.feed(chunk)
        if more:
            await flight.kept_up()
        else:
            flight.end()

    async def _finish(self, entry: Entry, last: bytes, message: Message) -> None:
        shown = self.flight.entry
        body = self.flight.chunks.whole(last)
        headers = shown.headers if shown else fitting.tagged(entry, self._dress.headers, body)
        dress = fitting.Dress(headers, self._dress.tags)
        whole = rfc9111.on_body(self._completed(shown or entry, dress, body), body)
        if not isinstance(whole, rfc9111.Discard):
            self._land(whole)  # before the last byte goes out: a client that asks again at once hits
        elif shown is None:
            await self._pass_by(whole.reason, message)
        else:
            self._discarded(whole.reason)
            self.broke(IncompleteError(f"the body has {len(body)} bytes, which is not what the application announced"))

    def _show(self) -> None:
        """Let the head go out before the body is complete."""
        flight = self.flight
        if self._entry is None or flight.phase is not Phase.ASKING or self.muted:
            return
        unique = b"%d.%016x" % (flight.born, int(self.call.engine.random() * 2**64))
        self._stop_timer()
        headers = fitting.tagged(self._entry, self._dress.headers, unique)
        flight.show(replace(self._entry, headers=headers, tags=self._dress.tags))
        if not flight.attended:
            flight.emptied()

    def _narrow(self) -> None:
        """What the application has read since its head went out selects, too; not all who read with us may go on."""
        shown = self.flight.entry
        if shown is not None and self.call.watch is not None:
            entry = fitting.narrowed(shown, self._current(), self.call.request)
            if entry is not shown:
                self.flight.narrow(entry)

    def _completed(self, entry: Entry, dress: fitting.Dress, body: bytes | None = None) -> Entry:
        """The response, with all that is known of it by now."""
        call, engine = self.call, self.call.engine
        entry = fitting.narrowed(entry, self._current(), call.request)
        spread = engine.limits.jitter * engine.random()
        return fitting.complete(entry, dress, call.route, engine.clock.time(), spread, body)

    def _land(self, entry: Entry) -> None:
        """It is complete: store it, and let all have it."""
        engine, flight = self.call.engine, self.flight
        now = engine.clock.time()
        entry, reason = fitting.built_on(entry, flight.reads, now)
        reason = reason or engine.tiers.store(flight.key, entry, now, since=flight.since)
        if reason:
            self._discarded(reason)
            engine.keep_back(flight.lane, entry.tags)
        else:
            engine.counts.stored += 1
            if engine.depot is not None:
                lease, self._lease = self._lease, None
                engine.depot.put(flight.key, entry, lease)
            if engine.observers:
                key, weight = flight.key.hex(), weigh(entry)
                tags = tuple(dict.fromkeys((*self._own, *flight.reads.tags)))
                engine.tell(Stored(key=key, weight=weight, lifetime=entry.lifetime, tags=tags))
        self._keep_apart(entry, now)
        flight.tags, flight.reason = entry.tags, reason
        flight.land(entry, stored=not reason)
        self._retire()

    def _current(self) -> rfc9111.Asked | None:
        """What was asked, in the light of what is known by now."""
        asked = self.asked
        if asked is None:
            return None
        if asked.entry is not None and not self.call.engine.tiers.usable(self.flight.key, asked.entry):
            asked = replace(asked, entry=None)  # cut meanwhile: it can neither be validated nor stand in
        return fitting.observed(asked, self.call.watch)

    # -- the ways in which it is not for the cache -------------------------------------------------------------------

    async def _pass_by(self, reason: str, message: Message) -> None:
        """Release those who wait, and hand everything to the caller as it comes."""
        self._refuse(reason)
        self.detail = self.flight.reason
        self.flight.pass_by()
        self._undecided()
        if self._head and message is not self._head:
            await self._pass_on(self._head)
        await self._pass_on(message)
        if not self.flight.attended:
            self.flight.emptied()

    async def _pass_on(self, message: Message) -> None:
        call = self.call
        if not self.flight.has_caller:
            return
        if message["type"] != "http.response.start":
            await call.send(message)
            return
        message = call.marked(message, CacheStatus(fwd=self.fwd, detail=self.detail or None), self._current())
        head = Head(status=message["status"], headers=message["headers"])
        # The application has not seen the client's conditions: they are for us to keep, whether or not it is stored.
        decided = present.conditional(head, call.request, call.engine.clock.time())
        if decided is None:
            await call.send(message)
            return
        await call.send({**message, "status": decided.status, "headers": list(decided.headers)})
        await call.send({"type": "http.response.body", "body": b"", "more_body": False})
        self.flight.end()

    def _refuse(self, reason: str) -> None:
        """It will not be stored, and nobody should wait for the next one either."""
        self._refused = True
        self.flight.reason = reason or self.detail
        self._retire()
        if self.asked is not None:
            if (self.flight.status or 0) < ERRORS:  # one client's mistake says nothing of what others will get
                self._mark(self.call.engine.clock.time())
            self._discarded(reason)

    def _keep_apart(self, entry: Entry, now: float) -> None:
        """What others may not use without asking is nothing to wait for, even if it is stored to be validated."""
        fresh = freshness.seconds_until_stale(entry, now) > 0
        if entry.must_validate or not (fresh or freshness.usable_stale(entry, now, entry.stale_while_revalidate)):
            self.call.engine.retire(self.flight)
            self._mark(now)

    def _mark(self, now: float) -> None:
        """What a range got, or would have got, says nothing of the answers that others get."""
        engine = self.call.engine
        if not self.call.keeps_range:
            engine.tiers.mark(self.flight.lane, until=now + engine.limits.pass_for, now=now)

    def _discarded(self, reason: str) -> None:
        engine = self.call.engine
        engine.counts.discarded += 1
        if engine.observers:
            engine.tell(Discarded(key=self.flight.key.hex(), reason=reason))

    def _exceeds(self, size: int, more: int) -> bool:
        engine = self.call.engine
        return size > engine.tiers.limit or not engine.room.fits(more)

    def _overdue(self) -> None:
        if self.flight.phase is Phase.ASKING:
            limit = self.call.engine.limits.hard
            self.broke(TimeLimitError(f"the application did not begin its answer within {limit} s"))
            if self.flight.task is not None:
                self.flight.task.cancel()

    def _retire(self) -> None:
        engine = self.call.engine
        engine.retire(self.flight)
        self._stop_timer()
        if engine.depot is not None and self._lease is not None:
            lease, self._lease = self._lease, None
            engine.depot.put(self.flight.key, None, lease)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
