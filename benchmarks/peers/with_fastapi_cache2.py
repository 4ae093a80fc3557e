"""fastapi-cache2: `@cache` on the endpoint, values as JSON by the type that it returns, which is its default."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (It is installed in an environment of its own.)

import os
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.inmemory import InMemoryBackend
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from redis.asyncio import Redis

from benchmarks.shop import DAY, POOL, REDIS, shop, slow


def memory() -> FastAPI:
    FastAPICache.init(InMemoryBackend(), prefix="shop")
    return shop(cache(expire=DAY))


def on_redis() -> FastAPI:
    _redis()
    return shop(cache(expire=DAY))


def slow_memory() -> FastAPI:
    FastAPICache.init(InMemoryBackend(), prefix="shop")
    return slow(cache(expire=DAY))


def slow_on_redis() -> FastAPI:
    _redis()
    return slow(cache(expire=DAY))


def memoized() -> Callable[[str, int], Awaitable[Any]]:
    FastAPICache.init(InMemoryBackend(), prefix="functions")

    @cache(expire=DAY)
    async def rate(base: str, day: int) -> float:
        return day * 1.25

    return rate


def _redis() -> None:
    FastAPICache.init(RedisBackend(Redis.from_url(os.environ[REDIS], max_connections=POOL)), prefix="shop")
