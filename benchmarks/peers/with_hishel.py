"""hishel: its ASGI middleware around the application, by its own limits (`rfc=False`), which reads the least.

It has no storage in memory: SQLite's own (`:memory:`) is the nearest to it.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (It is installed in an environment of its own.)

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anysqlite
from fastapi import FastAPI
from hishel import AsyncRedisStorage, AsyncSqliteStorage
from hishel.asgi import ASGICacheMiddleware
from redis.asyncio import Redis

from benchmarks.shop import DAY, POOL, REDIS, shop, slow


def memory() -> ASGICacheMiddleware:
    return _in_memory(shop())


def on_redis() -> ASGICacheMiddleware:
    return _in_redis(shop())


def slow_memory() -> ASGICacheMiddleware:
    return _in_memory(slow())


def slow_on_redis() -> ASGICacheMiddleware:
    return _in_redis(slow())


def _in_memory(app: FastAPI) -> ASGICacheMiddleware:
    storage = AsyncSqliteStorage(default_ttl=DAY)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        storage.connection = await anysqlite.connect(":memory:", isolation_level=None)
        yield
        await storage.close()

    app.router.lifespan_context = lifespan
    return ASGICacheMiddleware(app, storage, rfc=False)


def _in_redis(app: FastAPI) -> ASGICacheMiddleware:
    storage = AsyncRedisStorage(Redis.from_url(os.environ[REDIS], max_connections=POOL), default_ttl=DAY)
    return ASGICacheMiddleware(app, storage, rfc=False)
