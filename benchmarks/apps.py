"""The applications that are measured: one shop, and the ways to serve it."""

import os
from asyncio import sleep
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, TypeAdapter

from benchmarks.timing import Application
from tiercel import Cache, CacheMiddleware, Policy

DAY = 86_400
TOKEN = b"Bearer 2f4c9b1e-token-of-alice"
HANDLER_SECONDS = 0.25
"""What the slow endpoint waits for, as for a database."""
PLACE = "BENCHMARK_PLACE"
"""The variable that names a directory where several workers count calls together."""


class Item(BaseModel):
    id: int
    name: str
    price: float
    stock: int
    colours: list[str]
    description: str


class Page(BaseModel):
    limit: int
    offset: int


class User(BaseModel):
    id: int
    name: str


async def page(limit: Annotated[int, Query(le=100)] = 20, offset: int = 0) -> Page:
    return Page(limit=limit, offset=offset)


async def currency(currency: str = "EUR") -> str:
    return currency


async def current_user(token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="login"))]) -> User:
    if token != TOKEN.decode().removeprefix("Bearer "):
        raise HTTPException(401)
    return User(id=7, name="Alice")


Paging = Annotated[Page, Depends(page)]
Currency = Annotated[str, Depends(currency)]
CurrentUser = Annotated[User, Depends(current_user)]


def items(page: Page) -> list[Item]:
    return [
        Item(
            id=number,
            name=f"Item {number}",
            price=number * 1.25,
            stock=number % 7,
            colours=["red", "green"],
            description=f"Number {number} of what a shop sells.",
        )
        for number in range(page.offset, page.offset + page.limit)
    ]


BODY = TypeAdapter(list[Item]).dump_json(items(Page(limit=20, offset=0)))
"""2.5 KB, as FastAPI sends it."""
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


def raw(headers: tuple[tuple[bytes, bytes], ...] = ()) -> Application:
    """Constant bytes, and nothing else: what is thought to be the limit of a Python service."""
    sent = [*HEADERS, *headers]

    async def constant(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": BODY})

    return constant


def tagged() -> Application:
    """The same, as a cache in front of it wants it."""
    return raw(((b"etag", b'"1"'), (b"cache-control", b"max-age=86400")))


def _as_it_is(endpoint: Any) -> Any:
    return endpoint


def shop(declared: Callable[[Any], Any] = _as_it_is) -> FastAPI:
    """Lists of 20 small items, with two dependencies; nothing is cached unless it is `declared`."""
    app = FastAPI()

    @app.get("/items")
    @declared
    async def read_items(page: Paging, currency: Currency) -> list[Item]:
        return items(page)

    @app.get("/items/{item_id}")
    @declared
    async def read_related_items(item_id: int, page: Paging, currency: Currency) -> list[Item]:
        return items(page)

    return app


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


def decorated() -> FastAPI:
    """With the decorator that most people use, and the Redis that the environment names."""
    # Imported here: nothing else needs it.
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache
    from redis import asyncio as client

    connected: Any = client
    FastAPICache.init(RedisBackend(connected.from_url(os.environ["TIERCEL_URL"])), prefix="decorated")
    return shop(cache(expire=86_400))


def installed() -> FastAPI:
    cache = Cache()
    app = shop(cache.response(ttl=DAY))
    cache.install(app)
    return app


def account(declared: Callable[[Any], Any] = _as_it_is) -> FastAPI:
    """The same behind a login, and what does not get faster however it is cached: a `Response` that is ready."""
    app = FastAPI()

    @app.get("/mine")
    @declared
    async def read_mine(user: CurrentUser, page: Paging) -> list[Item]:
        return items(page)

    @app.get("/ready")
    async def read_ready(user: CurrentUser, page: Paging) -> Response:
        return Response(BODY, media_type="application/json")

    return app


def guarded(per: str) -> FastAPI:
    cache = Cache()
    app = account(cache.response(ttl=DAY, per=per))
    cache.install(app)
    return app


class Tally:
    """Counts the calls of all workers: each appends a byte."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def count(self, key: int) -> None:
        with (self._place / str(key)).open("ab") as calls:
            calls.write(b".")

    def counted(self, key: int) -> int:
        calls = self._place / str(key)
        return calls.stat().st_size if calls.exists() else 0


class OwnTally:
    """Counts the calls of the only worker."""

    def __init__(self) -> None:
        self._calls: Counter[int] = Counter()

    def count(self, key: int) -> None:
        self._calls[key] += 1

    def counted(self, key: int) -> int:
        return self._calls[key]


def slow(declared: Callable[[Any], Any] = _as_it_is, tally: Tally | OwnTally | None = None) -> FastAPI:
    """What is worth waiting for together; how often it was made, and who answers."""
    app = FastAPI()
    calls = tally or OwnTally()

    @app.get("/slow/{key}")
    @declared
    async def read_slow(key: int, page: Paging) -> list[Item]:
        calls.count(key)
        await sleep(HANDLER_SECONDS)
        return items(page)

    @app.get("/calls/{key}")
    async def read_calls(key: int) -> int:
        return calls.counted(key)

    @app.get("/worker")
    async def read_worker() -> int:
        return os.getpid()

    return app


def slow_uncached() -> FastAPI:
    return slow()


def slow_installed() -> FastAPI:
    cache = Cache()
    app = slow(cache.response(ttl=DAY))
    cache.install(app)
    return app


def slow_shared() -> FastAPI:
    """One of several workers, with the store that the environment names."""
    cache = Cache.from_env()
    app = slow(cache.response(ttl=DAY), Tally(Path(os.environ[PLACE])))
    cache.install(app)
    return app
