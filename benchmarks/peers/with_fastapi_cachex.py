"""FastAPI-CacheX: `@cache` on the endpoint; `coalesce=True`, so that one process computes a key once."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (It is installed in an environment of its own.)

import os
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi_cachex import BackendProxy, cache, cached
from fastapi_cachex.backends import AsyncRedisCacheBackend, MemoryBackend

from benchmarks.shop import DAY, POOL, REDIS, shop, slow


def memory() -> FastAPI:
    BackendProxy.set(MemoryBackend())
    return shop(cache(ttl=DAY))


def on_redis() -> FastAPI:
    _redis()
    return shop(cache(ttl=DAY))


def slow_memory() -> FastAPI:
    BackendProxy.set(MemoryBackend())
    return slow(cache(ttl=DAY, coalesce=True))


def slow_on_redis() -> FastAPI:
    _redis()
    return slow(cache(ttl=DAY, coalesce=True))


def memoized() -> Callable[[str, int], Awaitable[float]]:
    BackendProxy.set(MemoryBackend())

    @cached(ttl=3_600)
    async def rate(base: str, day: int) -> float:
        return day * 1.25

    return rate


def _redis() -> None:
    server = urlsplit(os.environ[REDIS])
    BackendProxy.set(AsyncRedisCacheBackend(host=server.hostname or "", port=server.port or 0, max_connections=POOL))
