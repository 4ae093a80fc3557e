"""How often somebody may ask: per address around the whole application, hits included; per user as a dependency."""

import logging
import re
from collections.abc import Awaitable, Callable
from math import ceil
from time import time
from typing import Annotated, Any

from fastapi import Security
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from starlette.types import ASGIApp, Receive, Scope, Send

from storefront.accounts.guard import Guard
from storefront.accounts.identity import Identity
from storefront.errors import TooOften
from storefront.problems import too_often
from storefront.settings import Settings

SEARCHES = re.compile(r"/api/v\d+/(products|products/facets|stats/prices|exports/products\.(csv|ndjson))|/graphql")
LOGINS = re.compile(r"/api/v\d+/token(/refresh)?")

PATIENCE = 0.2
"""Seconds that a request waits for Redis; then it is not counted."""

_log = logging.getLogger("storefront.throttle")


class Throttle:
    """Counts in this process, or in Redis for all. Where Redis does not answer nobody is turned away."""

    def __init__(self, url: str) -> None:
        storage: MemoryStorage | RedisStorage = MemoryStorage()
        self._pool: ConnectionPool | None = None
        if url != "memory://":
            self._pool = ConnectionPool.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)  # pyright: ignore[reportUnknownMemberType]
            options: dict[str, Any] = {"connection_pool": self._pool}
            storage = RedisStorage(f"async+{url}", wrap_exceptions=True, implementation="redispy", **options)
        self._window = SlidingWindowCounterRateLimiter(storage)

    async def aclose(self) -> None:
        """End the connections to Redis."""
        if self._pool is not None:
            await self._pool.aclose()

    async def count(self, rate: RateLimitItem, *who: str) -> None:
        """Count one request, or raise `TooOften`, which says for how many seconds."""
        try:
            if await self._window.hit(rate, *who):
                return
            stats = await self._window.get_window_stats(rate, *who)
        except StorageError as error:
            _log.warning("not counted: %r", error)
            return
        raise TooOften(max(1, ceil(stats.reset_time - time())))


class Throttled:
    """Turns an address away that asks too often: with one rate for everything, stricter ones for searches and logins.

    It stands around the cache, so a hit counts as much as a miss. Behind a proxy the address is the one that uvicorn
    takes from `X-Forwarded-For`, from those that `--forwarded-allow-ips` trusts.
    """

    def __init__(self, app: ASGIApp, throttle: Throttle, settings: Settings) -> None:
        self._app = app
        self._throttle = throttle
        self._rates = (
            ("all", re.compile(r"/api/.*|/graphql"), parse(settings.rate)),
            ("search", SEARCHES, parse(settings.rate_search)),
            ("login", LOGINS, parse(settings.rate_login)),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "http":
            address = (scope.get("client") or ("unknown",))[0]
            try:
                for name, paths, rate in self._rates:
                    if paths.fullmatch(scope["path"]):
                        await self._throttle.count(rate, name, address)
            except TooOften as error:
                await too_often(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def per_user(guard: Guard, throttle: Throttle, rate: str) -> Callable[..., Awaitable[None]]:
    """Make a dependency that turns a user away who asks too often, also where the answer would be a hit."""
    allowed = parse(rate)

    async def limited(user: Annotated[Identity, Security(guard.current_user)]) -> None:
        await throttle.count(allowed, "user", str(user.id))

    return limited
