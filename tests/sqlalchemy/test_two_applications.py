"""Two applications, one database, and a real Redis that they share: what is committed in one is seen by the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from redis_server import Server, servers
from shelves import Product
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tiercel import Cache
from tiercel.sqlalchemy import track

pytestmark = pytest.mark.realtime


class Application:
    """Three routes without one tag."""

    def __init__(self, url: Any, redis: str) -> None:
        self.engine = create_async_engine(url)
        self.cache = Cache(redis, jitter=0.0, draw=lambda: 0.0)
        track(self.engine, self.cache)
        self.sessions = async_sessionmaker(self.engine)
        self.app = FastAPI()
        self.cache.install(self.app)
        self._add_routes()
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://shop")

    def _add_routes(self) -> None:
        app, cache, per_request = self.app, self.cache, Depends(self.session)

        @app.get("/products/{number}")
        @cache.response(ttl="1h")
        async def read(number: int, session: Annotated[AsyncSession, per_request]) -> str:
            return (await session.get_one(Product, number)).name

        @app.get("/total")
        @cache.response(ttl="1h")
        async def total(session: Annotated[AsyncSession, per_request]) -> int:
            return (await session.scalar(select(func.sum(Product.price)))) or 0

        @app.put("/products/{number}")
        async def change(number: int, name: str, session: Annotated[AsyncSession, per_request]) -> None:
            await session.execute(update(Product).where(Product.id == number).values(name=name, price=100))
            await session.commit()

    async def session(self) -> AsyncIterator[AsyncSession]:
        async with self.sessions() as session:
            yield session

    async def get(self, path: str) -> Any:
        return (await self.client.get(path)).json()

    async def hits(self, path: str) -> bool:
        return (await self.client.get(path)).headers["cache-status"].startswith("tiercel; hit")

    async def put(self, path: str, name: str) -> None:
        assert (await self.client.put(path, params={"name": name})).status_code == 200

    async def aclose(self) -> None:
        await self.client.aclose()
        await self.cache.aclose()
        await self.engine.dispose()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "redis")
    with servers([made]):
        yield made


@pytest.fixture
async def two(database: AsyncEngine, redis: Server) -> AsyncIterator[tuple[Application, Application]]:
    made = Application(database.url, redis.url), Application(database.url, redis.url)
    yield made
    for application in made:
        await application.aclose()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110 - it happens elsewhere
            await asyncio.sleep(0.005)


async def test_what_one_has_stored_falls_by_what_the_other_commits(two: tuple[Application, Application]) -> None:
    one, other = two
    for path in ("/products/1", "/products/2", "/total"):
        await one.get(path)
        await until(partial(other.hits, path))  # it goes to Redis after the answer
    for application, reader, name in ((other, one, "first"), (one, other, "second")):
        await application.put("/products/1", name)
        assert await application.get("/products/1") == name, "at once where it was committed"
        await until(partial(is_now, reader, "/products/1", name))
        assert await reader.get("/total") == await application.get("/total") == 105
    assert [await each.hits("/products/2") for each in two] == [True, True], "it was made of another row"


async def is_now(application: Application, path: str, found: Any) -> bool:
    return bool(await application.get(path) == found)


async def test_a_commit_while_redis_is_away_is_seen_by_the_other(
    two: tuple[Application, Application], redis: Server
) -> None:
    one, other = two
    for application in two:
        assert await application.get("/products/1") == "p1"
    redis.kill()
    await one.put("/products/1", "new")
    assert await one.get("/products/1") == "new"
    await until(partial(is_now, other, "/products/1", "new"))  # who hears nothing trusts its memory for a second
    redis.start()
    await until(partial(one.hits, "/products/1"))
    await until(partial(other.hits, "/products/1"))
    assert [await each.get("/products/1") for each in two] == ["new", "new"]


async def test_no_reader_of_the_other_goes_back_in_time(two: tuple[Application, Application]) -> None:
    one, other = two
    wrong: list[tuple[int, int]] = []
    await one.put("/products/1", "0")

    async def write() -> None:
        for number in range(1, 16):
            await one.put("/products/1", f"{number}")
            assert await one.get("/products/1") == f"{number}"
            if number % 5 == 0:
                await until(partial(at_least, other, number))

    async def read() -> None:
        least = 0
        while not writing.done():
            found = int(await other.get("/products/1"))
            if found < least:
                wrong.append((least, found))
            least = found
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    await asyncio.gather(writing, *[read() for _ in range(3)])
    assert wrong == []
    await until(partial(is_now, other, "/products/1", "15"))


async def at_least(application: Application, number: int) -> bool:
    return int(await application.get("/products/1")) >= number
