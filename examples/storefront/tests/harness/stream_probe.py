"""A server that tells what nginx has made of a request and of an answer. Served by uvicorn in a thread of the test."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from redis_server import free_port
from starlette.types import Message, Receive, Scope, Send


class Probe:
    """Shows what it was sent; answers `/slow` piece by piece, one for each request to `/next`.

    The application has streams, too, but in chunks: of those nginx passes each, whatever it was told of buffers.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: dict[str, str] = {}
        self._more = asyncio.Event()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.seen = {name.decode(): value.decode() for name, value in scope["headers"]}
        await (self._slow if scope["path"] == "/slow" else self._told)(send)

    async def _slow(self, send: Send) -> None:
        await send(_start(length=3))
        for piece in (b"0", b"1"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._more.wait()
            self._more.clear()
        await send({"type": "http.response.body", "body": b"2"})

    async def _told(self, send: Send) -> None:
        self._more.set()
        await send(_start(length=2))
        await send({"type": "http.response.body", "body": b"ok"})


def _start(length: int) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]}


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
