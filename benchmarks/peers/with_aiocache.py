"""aiocache: `@cached` on the endpoint, objects in memory, pickled in Redis; `@cached_stampede` where many ask at once.

On Redis the lease is as long as the handler may take.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (It is installed in an environment of its own.)

import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiocache import Cache, cached, cached_stampede
from aiocache.serializers import PickleSerializer
from fastapi import FastAPI

from benchmarks.shop import DAY, POOL, REDIS, shop, slow

LEASE = 2


def memory() -> FastAPI:
    return shop(cached(ttl=DAY))


def on_redis() -> FastAPI:
    return shop(cached(ttl=DAY, **_redis()))


def slow_memory() -> FastAPI:
    return slow(cached_stampede(ttl=DAY, lease=LEASE))


def slow_on_redis() -> FastAPI:
    return slow(cached_stampede(ttl=DAY, lease=LEASE, **_redis()))


def memoized() -> Callable[[str, int], Awaitable[float]]:
    @cached(ttl=3_600)
    async def rate(base: str, day: int) -> float:
        return day * 1.25

    return rate


def _redis() -> dict[str, Any]:
    server = urlsplit(os.environ[REDIS])
    return {
        "cache": Cache.REDIS,
        "endpoint": server.hostname,
        "port": server.port,
        "serializer": PickleSerializer(),
        "pool_max_size": POOL,
    }
