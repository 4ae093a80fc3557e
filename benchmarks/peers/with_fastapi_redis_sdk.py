"""fastapi-redis-sdk: `cache` as a dependency of the route; on Redis only."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (It is installed in an environment of its own.)

import os

from fastapi import Depends, FastAPI
from redis_fastapi import FastAPIRedis, cache, get_settings

from benchmarks.shop import DAY, POOL, REDIS, shop, slow


def on_redis() -> FastAPI:
    _settings()
    return _set_up(shop(dependencies=[Depends(cache(ttl=DAY))]))


def slow_on_redis() -> FastAPI:
    _settings()
    return _set_up(slow(dependencies=[Depends(cache(ttl=DAY))]))


def _settings() -> None:
    settings = get_settings()
    settings.url, settings.max_connections = os.environ[REDIS], POOL


def _set_up(app: FastAPI) -> FastAPI:
    FastAPIRedis(app).lifespan().caching()
    return app
