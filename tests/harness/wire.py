"""A server in memory: the bytes of requests go in, the bytes of responses come out; the loop may be a virtual one."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import h11
import httpx
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tiercel._engine.call import Receive, Scope, Send
from tiercel._engine.flights import Message
from tiercel.asgi import FRONT, Front
from tiercel.server._protocol import HitProtocol


class Line(asyncio.Transport):
    """One end of a connection: what the server writes is received here."""

    def __init__(self, client: tuple[str, int]) -> None:
        super().__init__({"peername": client, "sockname": ("10.0.0.9", 80)})
        self.received = bytearray()
        self.closed = False
        self.paused = False
        self.writes: list[bytes] = []
        self.strict: Any = None
        """A protocol that is to wait with more until what it has written is read."""
        self._arrived = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed:
            return
        self.received += data
        self.writes.append(bytes(data))
        self._arrived.set()
        if data and self.strict is not None:
            self.strict.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self._arrived.set()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def arrived(self, read: int) -> None:
        """Wait until more has come than was read, or the connection is closed."""
        while len(self.received) == read and not self.closed:
            self._arrived.clear()
            await self._arrived.wait()


class Wire:
    """A server of one application.

    Args:
        app: The application.
        left_out: Response fields that are not stored.
        settings: Of uvicorn.
    """

    def __init__(self, app: Any, *, left_out: Sequence[str] = (), **settings: Any) -> None:
        front = getattr(app, FRONT, None)
        if isinstance(front, Front) and not front.served:
            front.serve(left_out, always=True)
        told: dict[str, Any] = {
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "loop": "none",
            "ws": "none",
            **settings,
        }
        self.config = Config(app, http=HitProtocol, **told)
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"uvicorn")]

    def connect(self, client: tuple[str, int] = ("10.0.0.1", 1234), *, plain: bool = False) -> "tuple[Any, Line]":
        """A connection; `plain`: to uvicorn's own protocol."""
        line = Line(client)
        protocol = (HttpToolsProtocol if plain else HitProtocol)(self.config, self.state, {})
        protocol.connection_made(line)
        return protocol, line

    async def said(
        self,
        *pieces: bytes,
        plain: bool = False,
        slowly: bool = False,
        client: tuple[str, int] = ("10.0.0.1", 1234),
    ) -> bytes:
        """All that is answered to some bytes on a new connection; `slowly`: each is answered before the next comes."""
        protocol, line = self.connect(client, plain=plain)
        for piece in pieces:
            if not line.closed:
                protocol.data_received(piece)
            if slowly:
                await self.rest()
        await self.rest()
        return bytes(line.received)

    async def rest(self) -> None:
        """Wait until nothing is answered any more."""
        while self.state.tasks:
            await asyncio.wait(self.state.tasks)


def head(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The bytes of the head of a request."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode(), target)]
    return b"".join([*lines, *[name + b": " + value + b"\r\n" for name, value in headers], b"\r\n"])


class OverTheWire:
    """An application that is asked through a server, for tests that ask applications."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._wire: Wire | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a request as bytes, and hand on what comes back; or what the application raised, as it would."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._wire = self._wire or Wire(self.app)
        protocol, line = self._wire.connect(scope.get("client") or ("10.0.0.1", 1234))
        heard = protocol.app = Heard(protocol.app)
        line.strict = protocol
        data, others = await _request(scope, receive), set(self._wire.state.tasks)
        protocol.data_received(data)
        own = self._wire.state.tasks - others
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await self._answer(scope["method"], line, send, leaving, heard)
            if leaving.done():
                protocol.connection_lost(None)
            protocol.resume_writing()
            if own:  # as whoever calls an application itself does
                await asyncio.wait(own)
            if heard.error is not None:
                raise heard.error
        finally:
            leaving.cancel()
            protocol.connection_lost(None)

    async def _answer(
        self, method: str, line: Line, send: Send, leaving: "asyncio.Future[None]", heard: "Heard"
    ) -> None:
        reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1_000_000)
        reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        read = 0
        while True:
            event = reader.next_event()
            match event:
                case h11.NEED_DATA:
                    if not await self._more(line, read, leaving, heard):
                        return
                    reader.receive_data(bytes(line.received[read:]))
                    read = len(line.received)
                case h11.Response():
                    fields = [line for line in event.headers.raw_items() if line[0] not in _OF_THE_SERVER]
                    fields = [(bytes(name).lower(), bytes(value)) for name, value in fields]
                    await send({"type": "http.response.start", "status": event.status_code, "headers": fields})
                case h11.Data():
                    await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
                case h11.EndOfMessage():
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                case _:
                    raise ConnectionError(event)

    async def _more(self, line: Line, read: int, leaving: "asyncio.Future[None]", heard: "Heard") -> bool:
        """Whether there is more to read, be it the end: not where the client left, or what comes is an excuse."""
        if read == len(line.received) and not line.closed:
            line.strict.resume_writing()
            waiting = asyncio.ensure_future(line.arrived(read))
            await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if leaving.done() and read == len(line.received):
                return False
        return heard.error is None or (heard.spoke and read < len(line.received))


class Heard:
    """An application, and what it said towards the server."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.spoke = False
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask it."""

        async def spoken(message: Message) -> None:
            self.spoke = True
            await send(message)

        try:
            await self.app(scope, receive, spoken)
        except BaseException as error:
            self.error = error
            raise


_OF_THE_SERVER = {b"server", b"transfer-encoding", b"connection"}


async def _request(scope: Scope, receive: Receive) -> bytes:
    """The bytes of a request."""
    body, more = b"", True
    while more:
        message: Message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    headers = [
        (name, value) for name, value in scope["headers"] if name not in {b"content-length", b"transfer-encoding"}
    ]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    query = scope.get("query_string", b"")
    target = scope.get("raw_path", scope["path"].encode()) + (b"?" + query if query else b"")
    return head(scope["method"], target, headers) + body


async def _left(receive: Receive) -> None:
    if (await receive())["type"] != "http.disconnect":
        await asyncio.Event().wait()


class ServedTransport(httpx.ASGITransport):
    """httpx' own, with a server in between."""

    def __init__(self, app: Any, **more: Any) -> None:
        super().__init__(app=cast("Any", served(app)), **more)


by_server = False
"""Whether `through` puts a server in between."""
_served: dict[Any, OverTheWire] = {}
"""By application; emptied after each test."""


def served(app: Any) -> OverTheWire:
    """An application, behind one server for all who ask."""
    if app not in _served:
        _served[app] = OverTheWire(app)
    return _served[app]


def through(app: Any) -> Any:
    """What is asked instead of an application, by the road that the test is on."""
    return served(app) if by_server else app
