"""The shop that is measured, and how it counts: nothing in it knows any cache."""

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

DAY = 86_400
TOKEN = b"Bearer 2f4c9b1e-token-of-alice"
HANDLER_SECONDS = 0.25
"""What the slow endpoint waits for, as for a database."""
PLACE = "BENCHMARK_PLACE"
"""The variable that names a directory where several workers count calls together."""
REDIS = "BENCHMARK_REDIS"
"""The variable that names the Redis of a peer."""
POOL = 1_000
"""Connections to Redis that a peer may open: as many as callers in a stampede."""
ITEMS = int(os.environ.get("BENCHMARK_ITEMS", "20"))
"""How long a list is where nobody says: 20 items are 2.5 KB of JSON."""


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


async def page(limit: Annotated[int, Query(le=10_000)] = ITEMS, offset: int = 0) -> Page:
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


BODY = TypeAdapter(list[Item]).dump_json(items(Page(limit=ITEMS, offset=0)))
"""As FastAPI sends it."""
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


def shop(declared: Callable[[Any], Any] = _as_it_is, **options: Any) -> FastAPI:
    """Lists of small items, with two dependencies; nothing is cached unless it is `declared`, or by the `options`."""
    app = FastAPI()
    calls = OwnTally()

    @app.get("/items", **options)
    @declared
    async def read_items(page: Paging, currency: Currency) -> list[Item]:
        calls.count(0)
        return items(page)

    @app.get("/items/{item_id}", **options)
    @declared
    async def read_related_items(item_id: int, page: Paging, currency: Currency) -> list[Item]:
        calls.count(0)
        return items(page)

    @app.get("/calls/{key}")
    async def read_calls(key: int) -> int:
        return calls.counted(key)

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


def slow(declared: Callable[[Any], Any] = _as_it_is, tally: Tally | OwnTally | None = None, **options: Any) -> FastAPI:
    """What is worth waiting for together; how often it was made, and who answers."""
    app = FastAPI()
    calls = tally or OwnTally()

    @app.get("/slow/{key}", **options)
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
