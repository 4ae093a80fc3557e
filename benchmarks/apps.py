"""The applications that are measured: the shop, and the ways to serve it with Tiercel."""

import os
from pathlib import Path

from fastapi import FastAPI

from benchmarks.shop import DAY, PLACE, Tally, account, raw, shop, slow, tagged
from tiercel import Cache, CacheMiddleware, Policy

__all__ = [
    "around",
    "around_shared",
    "guarded",
    "installed",
    "installed_shared",
    "raw",
    "slow_installed",
    "slow_installed_shared",
    "slow_shared",
    "slow_uncached",
    "tagged",
    "uncached",
]


def uncached() -> FastAPI:
    return shop()


def around() -> CacheMiddleware:
    return CacheMiddleware(shop(), cache=Cache(), default=Policy(ttl=DAY))


def around_shared() -> CacheMiddleware:
    """With the store, and the memory in front of it, that the environment names."""
    return CacheMiddleware(shop(), cache=Cache.from_env(), default=Policy(ttl=DAY))


def installed_shared() -> FastAPI:
    """Declared, with the store that the environment names."""
    cache = Cache.from_env()
    app = shop(cache.response(ttl=DAY))
    cache.install(app)
    return app


def installed() -> FastAPI:
    cache = Cache()
    app = shop(cache.response(ttl=DAY))
    cache.install(app)
    return app


def guarded(per: str) -> FastAPI:
    cache = Cache()
    app = account(cache.response(ttl=DAY, per=per))
    cache.install(app)
    return app


def slow_uncached() -> FastAPI:
    return slow()


def slow_installed() -> FastAPI:
    cache = Cache()
    app = slow(cache.response(ttl=DAY))
    cache.install(app)
    return app


def slow_installed_shared() -> FastAPI:
    """The only worker, with the store that the environment names."""
    cache = Cache.from_env()
    app = slow(cache.response(ttl=DAY))
    cache.install(app)
    return app


def slow_shared() -> FastAPI:
    """One of several workers, with the store that the environment names."""
    cache = Cache.from_env()
    app = slow(cache.response(ttl=DAY), Tally(Path(os.environ[PLACE])))
    cache.install(app)
    return app
