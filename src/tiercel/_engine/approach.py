"""A guarded request on its way to the endpoint, where the cache is asked for it.

The application runs in a task of its own, and is watched, from the start: what has begun can be moved into no other
task, and nobody could say afterwards what was read. All else that a fill takes is made when it turns out to be one.

On a hit the stored response goes out in the place of what the application says, when it says it. So its dependencies
are closed, and background tasks run, after it, as without a cache.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from tiercel._core.plan import Target
from tiercel._engine.call import Application, Call, Scope, Send
from tiercel._engine.endpoint import Visit, current
from tiercel._engine.exchange import Hit, Ride, relayed, reply
from tiercel._engine.fills import Fill, IncompleteError
from tiercel._engine.flights import Message
from tiercel._engine.guard import Guard
from tiercel._engine.reading import Reads, reading
from tiercel._engine.ready import Ready
from tiercel._engine.runs import Run


class Approach:
    """One request on its way.

    Args:
        app: The application.
        scope: What it is to see.
        send: To the client.
        visit: The request, as its endpoint sees the cache.
        call: Makes the call of a fill.
        look: The stored response that answers at once, if there is one at a place.
        key: The primary key, before it is known whose response it will be.
    """

    __slots__ = (
        "_app",
        "_begun",
        "_call",
        "_delivered",
        "_dropped",
        "_error",
        "_fill",
        "_guard",
        "_key",
        "_look",
        "_reads",
        "_received",
        "_run",
        "_scope",
        "_send",
        "_task",
        "_turned",
        "_visit",
    )

    _guard: Guard
    _run: Run
    _task: asyncio.Task[None]

    def __init__(  # noqa: PLR0913, PLR0917 - what it is put together from
        self,
        app: Application,
        scope: Scope,
        send: Send,
        visit: Visit,
        call: Callable[[], Call],
        look: Callable[[Target], Ready | None],
        key: bytes,
    ) -> None:
        self._app = app
        self._scope = scope
        self._send = send
        self._visit = visit
        self._call = call
        self._look = look
        self._key = key
        stamps = visit.engine.stamps
        self._begun = stamps.position, stamps.revision  # what it may have to produce is being produced from now on
        self._reads = Reads()  # its dependencies read for it, too
        self._fill: Fill | None = None
        self._delivered = self._received = False
        self._dropped = 0
        self._error: BaseException | None = None
        self._turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answer(self, guard: Guard) -> None:
        """Go there, and answer the request."""
        self._guard = self._visit.guard = guard
        self._task = self._visit.engine.background.start(self._go(), where="fill", ended=self._ended)
        try:
            await self._turned
        except asyncio.CancelledError:
            self._leave(guard)
            raise
        if self._error is not None:
            raise self._error
        if guard.ready is not None:
            return
        fill = self.fill()
        if guard.answer is not None:
            if fill.muted or isinstance(guard.answer, Hit):  # else its own answer is still to come
                await self._visit.answered()
            await reply(fill.call, guard.answer)
        else:
            await relayed(fill.call, fill.flight, "bypass")
        await self._visit.outlasted()

    # -- what the endpoint asks --------------------------------------------------------------------------------------

    def stored(self, target: Target) -> Ready | None:
        """The stored response that answers at once; None also where it is a fill already."""
        return self._look(target) if self._fill is None else None

    def fill(self) -> Fill:
        """The fill that it is: nothing that is stored answers at once."""
        if self._fill is None:
            self._guard.decided = turn = partial(_turn, self._turned)
            fill = self._fill = self._visit.fill = Fill(self._call(), key=self._key, undecided=turn)
            fill.flight.born, fill.flight.revision = self._begun
            fill.flight.since, fill.flight.reads = fill.call.since, self._reads
            self._run = Run(fill)
            self._run.carry_on(self._task)
        return self._fill

    # -- the ASGI call that the application sees ---------------------------------------------------------------------

    async def _go(self) -> None:
        current.set(self._visit)  # in the context of this task
        reading.set(self._reads)
        try:
            await self._app(self._scope, self._receive, self._heard)
        except Exception as error:
            if not self._broke(error):
                raise  # after the answer: nobody is left to tell, but the loop's handler
        else:
            if (ready := self._guard.ready) is None:
                self.fill().returned()
            else:
                await self._deliver(ready)
        finally:
            await self._visit.ended()
        if self._fill is None:
            _turn(self._turned)

    async def _receive(self) -> Message:
        """What a fill receives; on a hit, that nobody listens any more."""
        if self._guard.ready is None:
            self.fill()
            return await self._run.receive()
        if self._received:
            return {"type": "http.disconnect"}
        self._received = True
        return {"type": "http.request", "body": self._call().request.content, "more_body": False}

    async def _heard(self, message: Message) -> None:
        ready = self._guard.ready
        if ready is not None and not self._delivered and _is_another(message, ready):
            # What comes after the endpoint has the last word: a limit that is exceeded, a middleware that forbids.
            ready = self._guard.ready = None
        if ready is None:
            self.fill()
            await self._run.send(message)
        elif not self._delivered:
            await self._deliver(ready)
        elif message.get("more_body"):
            await self._drop(message)

    async def _deliver(self, ready: Ready) -> None:
        if self._delivered:
            return
        self._delivered = True
        await self._visit.answered()
        try:
            await self._send({"type": "http.response.start", "status": ready.status, "headers": ready.headers})
            await self._send({"type": "http.response.body", "body": ready.body, "more_body": False})
        except Exception as error:
            self._error = error  # the server's own: it goes back there
            raise
        self._visit.engine.background.owe(self._task)

    async def _drop(self, message: Message) -> None:
        """Nobody wants it. Let others run, and do not let the application go on for ever."""
        self._dropped += len(message.get("body", b""))
        if self._dropped > self._visit.engine.tiers.limit:
            self._task.cancel()
        await asyncio.sleep(0)

    def _broke(self, error: Exception) -> bool:
        """The application has failed. Whether there was anybody to tell."""
        if self._delivered:
            return self._error is not None
        self._guard.ready = None
        return self.fill().broke(error)

    # -- who waits for it --------------------------------------------------------------------------------------------

    def _ended(self, _: object) -> None:
        """Also where it never began, or was cancelled; of a fill its run tells."""
        if self._fill is None:
            if not self._delivered:
                self._error = IncompleteError("the request was cancelled")
            _turn(self._turned)
        # They hold each other, and what was sent: without this they would wait for the collector.
        self._visit.guard = None
        del self._guard

    def _leave(self, guard: Guard) -> None:
        """The caller has gone. What is nobody else's goes, too; but on a hit it ends in peace."""
        if isinstance(guard.answer, Ride):
            guard.answer.reader.leave()
        elif guard.ready is not None:
            self._delivered = True
        elif guard.answer is None and self._fill is not None:
            self._fill.flight.abandon()
        elif guard.answer is None:
            self._task.cancel()


def _is_another(message: Message, ready: Ready) -> bool:
    """Whether it begins another answer than the blank one of the endpoint."""
    return bool(message["type"] == "http.response.start" and message["status"] != ready.entry.status)


def _turn(turned: "asyncio.Future[None]") -> None:
    if not turned.done():
        turned.set_result(None)
