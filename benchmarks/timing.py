"""CPU time of what needs no server: what else the machine does hardly counts."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import contextmanager
from itertools import repeat
from time import process_time
from typing import Any

import uvloop

MICRO = 1e6

Message = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]


def per_call(call: Callable[[], object], count: int) -> float:
    """Microseconds a call, without the garbage collector, as timeit does it."""
    with _uncollected():
        start = process_time()
        for _ in repeat(None, count):
            call()
        return (process_time() - start) / count * MICRO


@contextmanager
def on_loop() -> Generator[asyncio.Runner]:
    """A loop as uvicorn runs it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


def per_await(runner: asyncio.Runner, call: Callable[[], Awaitable[object]], count: int) -> float:
    """Microseconds an awaited call, with what it leaves to the loop."""

    async def batch() -> float:
        start = process_time()
        for _ in repeat(None, count):
            await call()
        return (process_time() - start) / count * MICRO

    return runner.run(batch())


def scope_of(path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """The scope of a GET, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), *headers],
        "state": {},
    }


async def nothing_more() -> Message:
    """Receive: the request has no content, and its client stays."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def unheard(message: Message) -> None:
    """Send, to nobody."""


async def asked(app: Application, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    """What an application answers."""
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope_of(path, *headers), nothing_more, send)
    body = b"".join([message.get("body", b"") for message in said])
    return said[0]["status"], dict(said[0]["headers"]), body


@contextmanager
def _uncollected() -> Generator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
