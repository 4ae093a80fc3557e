"""A server of streams that go on: what nginx must pass as it comes. Served by uvicorn in a thread of the test."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from redis_server import free_port
from starlette.types import Message, Receive, Scope, Send


class Probe:
    """Answers `/events` with an event for each request to `/next`; echoes over WebSockets; shows what it was sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: dict[str, str] = {}
        self._more = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._echo(receive, send)
        elif scope["type"] == "http":
            self.seen = {name.decode(): value.decode() for name, value in scope["headers"]}
            await (self._stream if scope["path"] == "/events" else self._told)(receive, send)

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"][::-1]})

    async def _stream(self, _receive: Receive, send: Send) -> None:
        events = [b"data: %d\n\n" % number for number in range(3)]
        # Its length is known: of chunks nginx would pass each in any case, whatever it was told of buffers.
        await send(_start(b"text/event-stream", length=sum(map(len, events))))
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if event != events[-1]:
                await self._more.wait()
                self._more.clear()
        await send({"type": "http.response.body"})

    async def _told(self, _receive: Receive, send: Send) -> None:
        self._more.set()
        await send(_start(b"text/plain", length=2))
        await send({"type": "http.response.body", "body": b"ok"})


def _start(kind: bytes, length: int) -> Message:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


@contextmanager
def probing() -> Generator[Probe]:
    probe = Probe()
    server = uvicorn.Server(
        uvicorn.Config(probe, port=probe.port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield probe
    finally:
        server.should_exit = True
        thread.join()
