"""An application, the cache in front of it, and clients: what tests of the engine are played with, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from wire import through

from tiercel._core.entry import Header
from tiercel._core.events import Event
from tiercel._core.policy import Policy, Rules
from tiercel._engine.blobs import Blobs
from tiercel._engine.call import Application
from tiercel._engine.engine import Engine, Limits
from tiercel._engine.everywhere import Everywhere
from tiercel.asgi import FRONT, Front, Gate
from tiercel.spi import Store
from tiercel.testing import VirtualClock

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FRESH: Header = (b"cache-control", b"max-age=60")


@dataclass(frozen=True, kw_only=True)
class Say:
    """One answer of an application."""

    status: int = 200
    headers: Sequence[Header] = (FRESH,)
    chunks: Iterable[bytes] = (b"hello",)
    wait: float = 0.0
    """Seconds before the head."""
    pace: float | None = None
    """Seconds before each chunk; None: all in one turn of the loop."""
    fails: BaseException | None = None
    """Raised after the last chunk, in place of the end of the body."""
    refuses: BaseException | None = None
    """Raised in place of the head."""


class Origin:
    """An application that says what it is told to, and remembers what it was asked."""

    def __init__(self, say: Say | Callable[[Scope], Say] | None = None) -> None:
        self.say = say or Say()
        self.asked: list[Scope] = []
        self.running = 0
        self.cancelled = 0

    @property
    def calls(self) -> int:
        return len(self.asked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        self.running += 1
        try:
            await self._answer(self.say(scope) if callable(self.say) else self.say, send)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, say: Say, send: Send) -> None:
        if say.wait:
            await asyncio.sleep(say.wait)
        if say.refuses is not None:
            raise say.refuses
        await send({"type": "http.response.start", "status": say.status, "headers": list(say.headers)})
        chunks = iter(say.chunks)
        chunk = next(chunks, b"")
        for following in chunks:
            if say.pace is not None:
                await asyncio.sleep(say.pace)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = following
        if say.pace is not None:
            await asyncio.sleep(say.pace)
        if say.fails is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            raise say.fails
        await send({"type": "http.response.body", "body": chunk, "more_body": False})


@dataclass
class Visit:
    """One request of a client, and what came of it so far."""

    messages: list[Message] = field(default_factory=list[Message])
    times: list[float] = field(default_factory=list[float])
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: the client has stopped reading."""
    task: "asyncio.Task[None] | None" = None

    @property
    def status(self) -> int:
        return int(self._start["status"])

    @property
    def headers(self) -> list[Header]:
        return [(bytes(name), bytes(value)) for name, value in self._start["headers"]]

    def header(self, name: bytes) -> bytes | None:
        found = [value for line, value in self.headers if line == name]
        assert len(found) <= 1, found
        return found[0] if found else None

    @property
    def body(self) -> bytes:
        return b"".join([bytes(one.get("body", b"")) for one in self.messages if one["type"] == "http.response.body"])

    @property
    def ended(self) -> bool:
        """Whether the client has seen a clean end."""
        return any(one["type"] == "http.response.body" and not one.get("more_body") for one in self.messages)

    @property
    def said(self) -> str:
        """Cache-Status, without the seconds that are left."""
        return (self.header(b"cache-status") or b"").decode().partition("; ttl=")[0].removeprefix("tiercel; ")

    @property
    def _start(self) -> Message:
        return next(one for one in self.messages if one["type"] == "http.response.start")

    async def done(self) -> "Visit":
        assert self.task is not None
        await self.task
        return self

    async def failed(self) -> BaseException:
        """What was raised towards the server."""
        assert self.task is not None
        outcome = (await asyncio.gather(self.task, return_exceptions=True))[0]
        assert outcome is not None, "it did not fail"
        return outcome


class Client:
    """Asks an application, as a server would for its clients."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def ask(
        self,
        path: str = "/",
        /,
        *,
        method: str = "GET",
        headers: Sequence[tuple[bytes, bytes]] = (),
        content: bytes = b"",
        **scope: Any,
    ) -> Visit:
        """Send a request; its answer comes while the test does something else."""
        visit = Visit()
        visit.reads.set()
        pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> Message:
            if pending:
                return pending.pop()
            await visit.hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await visit.reads.wait()
            visit.messages.append(message)
            visit.times.append(asyncio.get_running_loop().time())

        asked = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "headers": [(b"host", b"shop"), *headers],
            **scope,
        }
        visit.task = asyncio.create_task(through(self.app)(asked, receive, send))
        return visit

    async def get(self, path: str = "/", /, *headers: tuple[bytes, bytes], **more: Any) -> Visit:
        """Send a request and wait for all of its answer."""
        return await self.ask(path, headers=headers, **more).done()


class Shop(Client):
    """A client of an application behind a cache, and everything that a test may want to look at."""

    def __init__(  # noqa: PLR0913 - a setting per thing that a test may want to be different
        self,
        say: Say | Callable[[Scope], Say] | Any = None,
        *,
        bound: int = 8_000_000,
        policy: Policy | None = None,
        rules: Rules | None = None,
        soft: float | None = None,
        hard: float | None = 60.0,
        jitter: float = 0.0,
        draw: float = 0.0,
        shadow: bool = False,
        store: Store | None = None,
        deadline: float = 0.05,
        secrets: tuple[bytes, ...] = (),
        compress: Literal["off", "public", "all"] = "off",
    ) -> None:
        bare = say is None or isinstance(say, Say) or not hasattr(say, "calls")
        self.origin: Any = Origin(say) if bare else say
        self.events: list[Event] = []
        self.random = draw
        self.engine = Engine(
            bound=bound,
            clock=VirtualClock(),
            limits=Limits(soft=soft, hard=hard, jitter=jitter),
            random=lambda: self.random,
            observers=(self,),
        )
        if store is not None:
            self.engine.share(store, deadline=deadline, blobs=Blobs(secrets))
        if compress != "off":
            self.engine.compress(private=compress == "all")
        front = Front(self.engine, rules or Rules())
        gate = Gate(
            cast("Application", self.origin),
            engine=self.engine,
            resolve=Everywhere(policy or Policy()),
            front=front,
            shadow=shadow,
        )
        setattr(gate, FRONT, front)
        super().__init__(gate)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def calls(self) -> int:
        calls: int = self.origin.calls
        return calls

    @property
    def counts(self) -> dict[str, int]:
        """What is not 0."""
        counts = self.engine.counts
        return {name: found for name in counts.__slots__ if (found := getattr(counts, name))}

    async def at_rest(self) -> None:
        """Nothing is left behind: no task, no flight, no byte of a growing body."""
        await turns()
        assert getattr(self.origin, "running", 0) == 0
        assert len(self.engine.background) == 0
        assert not self.engine._flights
        assert self.engine.room.taken == 0


async def turns(count: int = 20) -> None:
    """Let everybody go on for a while in which no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextmanager
def losses() -> Generator[list[BaseException]]:
    """What the loop was told of, because no caller was left to hear of it."""
    lost: list[BaseException] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: lost.append(context["exception"]))
    try:
        yield lost
    finally:
        loop.set_exception_handler(before)
