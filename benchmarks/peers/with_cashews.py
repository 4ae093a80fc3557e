"""cashews: `@cache` on the endpoint with a template for the key; `lock=True` where a thousand ask at once."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (It is installed in an environment of its own.)

import os
from collections.abc import Awaitable, Callable
from typing import Any

from cashews import cache
from cashews.contrib.fastapi import CacheEtagMiddleware
from fastapi import FastAPI

from benchmarks.shop import DAY, POOL, REDIS, shop, slow

MEMORY = "mem://?size=100000&check_interval=60"
KEYS = {
    "read_items": "items:{page.limit}:{page.offset}:{currency}",
    "read_related_items": "items:{item_id}:{page.limit}:{page.offset}:{currency}",
    "read_slow": "slow:{key}:{page.limit}:{page.offset}",
}


def memory() -> FastAPI:
    cache.setup(MEMORY)
    return shop(_cached())


def conditional() -> FastAPI:
    """With entity tags, as its documentation says."""
    app = memory()
    app.add_middleware(CacheEtagMiddleware)
    return app


def on_redis() -> FastAPI:
    cache.setup(os.environ[REDIS], max_connections=POOL)
    return shop(_cached())


def client_side() -> FastAPI:
    """What was read from Redis is kept in this process, too, until Redis says that it has changed."""
    cache.setup(os.environ[REDIS], client_side=True, max_connections=POOL)
    return shop(_cached())


def slow_memory() -> FastAPI:
    cache.setup(MEMORY)
    return slow(_cached(lock=True))


def slow_on_redis() -> FastAPI:
    cache.setup(os.environ[REDIS], max_connections=POOL)
    return slow(_cached(lock=True))


def memoized() -> Callable[[str, int], Awaitable[float]]:
    cache.setup(MEMORY)

    @cache(ttl="1h", key="rate:{base}:{day}")
    async def rate(base: str, day: int) -> float:
        return day * 1.25

    return rate


def _cached(*, lock: bool = False) -> Callable[[Any], Any]:
    return lambda endpoint: cache(ttl=DAY, key=KEYS[endpoint.__name__], lock=lock)(endpoint)
