"""Running the application for a fill: the ASGI call that it sees, and how long it may go on with it.

It sees what it would see without a cache, but for one thing: as long as its answer may be for everyone, it is not told
of any caller's leaving. A response that nobody can get any more is taken from it for a while, and thrown away.
"""

import asyncio

from tiercel._core import rfc9111
from tiercel._core.conditions import CONDITIONS
from tiercel._core.entry import Header
from tiercel._engine.call import after_request
from tiercel._engine.fills import Fill, IncompleteError
from tiercel._engine.flights import Message, Phase
from tiercel._engine.observed import plain
from tiercel._engine.reading import reading

UNWANTED = 30.0
"""Seconds that an application may go on with a response that nobody will ever get."""


def run(fill: Fill, plan: rfc9111.Fill, *, behind: bool = False) -> None:
    """Run the application in a task of its own; `behind` a reply, if no other process does so already."""
    Run(fill).start(plan, behind=behind)


class Run:
    """The ASGI call of one fill."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._flight = fill.flight
        self._complete = False
        self._received = False
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        fill.flight.emptied = self._unattended

    def start(self, plan: rfc9111.Fill, *, behind: bool) -> None:
        where = "refresh" if behind else "fill"
        work = self._run(plan, behind=behind)
        self._flight.task = self._fill.call.engine.background.start(work, where=where, ended=self._ended)

    def carry_on(self, task: "asyncio.Task[None]") -> None:
        """In a task that has begun already."""
        self._flight.task = task
        task.add_done_callback(self._ended)

    async def _run(self, plan: rfc9111.Fill, *, behind: bool) -> None:
        fill, call = self._fill, self._fill.call
        try:
            if behind and not await fill.is_ours():
                return
            headers = call.forwarded(plan)
            fill.conditional = plan.entry is not None and any(name in CONDITIONS for name, _ in plain(headers))
            await self._ask(headers)
            if fill.again:
                fill.restart()
                await self._ask(call.forwarded(plan._replace(entry=None)))
        except Exception as error:
            if not fill.broke(error):
                raise  # after the answer, as in a background task: nobody is left to tell, but the loop's handler
        else:
            fill.returned()
        finally:
            await call.visitor.ended()

    async def _ask(self, headers: list[Header]) -> None:
        self._complete = self._received = False
        call = self._fill.call
        call.visitor.begun(self._fill)
        reading.set(self._flight.reads)
        await call.app({**call.scope, "headers": headers}, self.receive, self.send)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also where it never began, or was cancelled."""
        self._stop_timer()
        error = None if task.cancelled() else task.exception()
        self._fill.broke(error or IncompleteError("the fill was cancelled"))
        # They hold each other, and the body: without this they would wait for the collector.
        self._flight.emptied, self._flight.task = _nothing, None
        self._fill.call.visitor.forget()

    # -- the ASGI call that the application sees ---------------------------------------------------------------------

    async def receive(self) -> Message:
        """The request; then, once it is so, that nobody listens any more."""
        call, flight = self._fill.call, self._flight
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": call.request.content, "more_body": False}
        while not (flight.unwanted or self._fill.muted):
            if flight.phase is Phase.PASSING:
                return await after_request(call.receive)
            await flight.changed()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        fill, flight = self._fill, self._flight
        self._complete = self._complete or _is_last(message)
        if fill.muted or fill.again or (flight.phase is not Phase.ASKING and flight.unwanted):
            await self._drop(message)
            return
        await fill.heard(message)
        if not self._complete and flight.over:
            self._unattended()  # what is still to come is no part of the answer: the body of a 5xx, or of a HEAD
        if self._complete and flight.task is not None:
            fill.call.engine.background.owe(flight.task)

    async def _drop(self, message: Message) -> None:
        """Nobody wants it. Let others run, and do not let the application go on for ever."""
        if self._fill.muted and not self._flight.over:
            self._flight.end()
        self._dropped += len(message.get("body", b""))
        if self._dropped > self._fill.call.engine.tiers.limit:
            self._give_up()
        await asyncio.sleep(0)

    # -- when to give up ---------------------------------------------------------------------------------------------

    def _unattended(self) -> None:
        """Nobody reads it now."""
        flight = self._flight
        if flight.phase is Phase.ASKING:
            return  # the time limit of the head is ticking
        patience = UNWANTED if flight.unwanted else self._fill.call.engine.limits.hard
        self._stop_timer()
        if patience is not None and not self._complete:
            self._timer = flight.loop.call_later(patience, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        flight = self._flight
        if flight.task is not None and not self._complete and (flight.unwanted or not flight.attended):
            flight.task.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nothing() -> None: ...


def _is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)
