"""The roads of a hit and of a miss, without a server: `python -m benchmarks.roads COUNT`, for who counts instructions.

Each is gone COUNT times, then twice as often; before, between and after it asks for its process group, which nothing
else does, so that a profiler can tell where each begins and ends.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, repeat
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from benchmarks import apps, shop
from benchmarks.timing import Application, nothing_more, on_loop, scope_of, unheard
from tiercel import Cache, CacheMiddleware, Policy
from tiercel.asgi import FRONT, Front
from tiercel.server._protocol import HitProtocol

WARM = 50
LOGIN = (b"authorization", shop.TOKEN)
HEAD = b"GET /items HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: */*\r\n\r\n"

Road = Callable[[], Callable[[], Awaitable[object] | object]]
"""Prepares what is asked; what that returns is one operation."""


def main(times: int) -> None:
    with on_loop() as runner:
        for road in ROADS.values():
            runner.run(_measured(road, times))


async def _measured(road: Road, times: int) -> None:
    operation = road()
    await _go(operation, WARM)
    gc.collect()
    gc.disable()
    for number in (times, 2 * times):
        os.getpgid(0)
        await _go(operation, number)
    os.getpgid(0)
    gc.enable()


async def _go(operation: Callable[[], Awaitable[object] | object], times: int) -> None:
    for _ in repeat(None, times):
        made = operation()
        if isinstance(made, Awaitable):
            await made


# -- the roads -----------------------------------------------------------------------------------------------------


def _asking(app: Application, paths: Iterator[str], *headers: tuple[bytes, bytes]) -> Callable[[], Awaitable[object]]:
    return lambda: app(scope_of(next(paths), *headers), nothing_more, unheard)


def _served() -> Callable[[], object]:
    """In uvicorn's protocol, as bytes come; what is written goes nowhere."""
    app = _around(shop.raw())
    front = getattr(app, FRONT, None)
    if isinstance(front, Front):
        front.serve((), always=True)
    config = Config(app, http=HitProtocol, lifespan="off", log_config=None, access_log=False, loop="none", ws="none")
    config.load()
    state = ServerState()
    state.default_headers = [(b"server", b"uvicorn")]
    protocol = HitProtocol(config, state, {})
    protocol.connection_made(_Nowhere({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8_000)}))
    return lambda: protocol.data_received(HEAD) if not state.tasks else asyncio.wait(state.tasks)


class _Nowhere(asyncio.Transport):
    """A client that takes all, and keeps nothing."""

    def write(self, data: Any) -> None: ...

    def is_closing(self) -> bool:
        return False


def _memoized() -> Callable[[], object]:
    @Cache().memoize(ttl="1h")
    def rate(base: str, day: int) -> float:
        return day * 1.25

    return lambda: rate("EUR", 1)


def _memoized_async() -> Callable[[], Awaitable[object]]:
    @Cache().memoize(ttl="1h")
    async def rate(base: str, day: int) -> float:
        return day * 1.25

    return lambda: rate("EUR", 1)


def _around(app: Application) -> CacheMiddleware:
    return CacheMiddleware(app, cache=Cache(), default=Policy(ttl=shop.DAY))


def _new() -> Iterator[str]:
    return (f"/items/{number}" for number in count())


ROADS: dict[str, Road] = {
    "raw ASGI": lambda: _asking(shop.raw(), repeat("/items")),
    "a hit, around the app": lambda: _asking(_around(shop.raw()), repeat("/items")),
    "a hit, installed on the app": lambda: _asking(apps.installed(), repeat("/items")),
    "a hit, served": _served,
    "a hit, guarded": lambda: _asking(apps.guarded("shared"), repeat("/mine"), LOGIN),
    "a memoised value": _memoized,
    "a memoised value, async": _memoized_async,
    "a miss, around bare ASGI, storing": lambda: _asking(_around(shop.raw()), _new()),
}


if __name__ == "__main__":
    main(int(sys.argv[1]))
