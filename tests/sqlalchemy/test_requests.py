"""A whole application without one hand-written tag: what its routes have read decides when they fall."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from shelves import Label, Maker, Product, Review, Watcher
from sqlalchemy import create_engine, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, selectinload, sessionmaker

from tiercel import Cache
from tiercel.sqlalchemy import track

pytestmark = pytest.mark.realtime  # the driver is a thread


class Service:
    """Routes over one database, asynchronous ones and a synchronous one."""

    def __init__(self, database: AsyncEngine, **options: Any) -> None:
        self.watcher = Watcher()
        self.cache = Cache(observers=[self.watcher], jitter=0.0, draw=lambda: 0.0)
        self.app = FastAPI()
        self.cache.install(self.app, **options)
        self.sessions = async_sessionmaker(database)
        track(self.sessions, self.cache)
        self.runs: list[str] = []

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://shop")

    async def session(self) -> AsyncIterator[AsyncSession]:
        async with self.sessions() as session:
            yield session

    async def change(self, *statements: Any) -> None:
        async with self.sessions.begin() as session:
            for statement in statements:
                await session.execute(statement)


@pytest.fixture
def service(database: AsyncEngine) -> Service:
    return catalogue(Service(database))


def catalogue(service: Service) -> Service:
    app, cache = service.app, service.cache

    @app.get("/products/{number}")
    @cache.response(ttl="1h", per="shared")
    async def read(number: int, session: Annotated[AsyncSession, Depends(service.session)]) -> dict[str, Any]:
        service.runs.append(f"read {number}")
        found = await session.get(Product, number)
        if found is None:
            raise HTTPException(404)
        return {"name": found.name, "price": found.price}

    @app.get("/products")
    @cache.response(ttl="1h", per="shared")
    async def listed(session: Annotated[AsyncSession, Depends(service.session)]) -> list[dict[str, Any]]:
        service.runs.append("list")
        found = await session.scalars(select(Product).options(selectinload(Product.reviews)).order_by(Product.id))
        return [{"name": one.name, "stars": [review.stars for review in one.reviews]} for one in found]

    @app.patch("/products/{number}")
    async def rename(number: int, name: str, session: Annotated[AsyncSession, Depends(service.session)]) -> str:
        found = await session.get_one(Product, number)
        found.name = name
        await session.commit()
        return name

    @app.post("/reviews")
    async def review(session: Annotated[AsyncSession, Depends(service.session)]) -> None:
        async with session.begin():
            session.add(Review(product_id=1, stars=5))

    return service


async def test_a_route_falls_with_the_row_that_it_has_read(service: Service) -> None:
    async with service.client() as http:
        for _ in range(2):
            assert (await http.get("/products/1")).json()["name"] == "p1"
        assert service.runs == ["read 1"]
        await http.patch("/products/2", params={"name": "other"})
        assert (await http.get("/products/1")).headers["cache-status"].startswith("tiercel; hit")
        await http.patch("/products/1", params={"name": "new"})
        assert (await http.get("/products/1")).json()["name"] == "new"
        assert service.runs == ["read 1", "read 1"]


async def test_a_list_falls_with_any_row_of_what_it_was_made_of(service: Service) -> None:
    async with service.client() as http:
        await http.get("/products/2")
        assert (await http.get("/products")).json()[0]["stars"] == [1, 2]
        await http.post("/reviews")
        assert (await http.get("/products")).json()[0]["stars"] == [1, 2, 5]
        await http.patch("/products/3", params={"name": "new"})
        assert (await http.get("/products")).json()[2]["name"] == "new"
        await http.get("/products/2")
    assert service.runs == ["read 2", "list", "list", "list"]


async def test_what_is_done_in_bulk_and_by_core_counts(service: Service) -> None:
    async with service.client() as http:
        for price in (10, 20):
            await service.change(update(Product).values(price=price))
            assert (await http.get("/products/1")).json()["price"] == price


async def test_what_is_rolled_back_does_not(service: Service) -> None:
    async with service.client() as http:
        await http.get("/products/1")
        async with service.sessions() as session:
            await session.execute(update(Product).values(name="never"))
            await session.rollback()
        await http.get("/products/1")
    assert service.runs == ["read 1"]


async def test_what_the_dependencies_of_a_guarded_route_have_read_counts(service: Service) -> None:
    """They run before it is known that the request will be a fill."""
    app = service.app

    async def current_maker(
        session: Annotated[AsyncSession, Depends(service.session)], x_maker: Annotated[int, Header()]
    ) -> str:
        found = await session.get(Maker, x_maker)
        if found is None:
            raise HTTPException(401)
        return found.name

    @app.get("/me")
    @service.cache.response(ttl="1h")
    async def me(name: Annotated[str, Depends(current_maker)]) -> str:
        service.runs.append("me")
        return name

    async with service.client() as http:
        for said in ("tiercel; fwd=", "tiercel; hit"):
            answer = await http.get("/me", headers={"x-maker": "1"})
            assert (answer.json(), answer.headers["cache-status"].startswith(said)) == ("Ada", True)
        await service.change(update(Maker).where(Maker.id == 2).values(name="x"))
        await http.get("/me", headers={"x-maker": "1"})
        assert service.runs == ["me"]
        await service.change(update(Maker).where(Maker.id == 1).values(name="Eve"))
        assert (await http.get("/me", headers={"x-maker": "1"})).json() == "Eve"
    assert service.runs == ["me", "me"]


async def test_nobody_boards_a_guarded_fill_whose_dependencies_have_read_what_has_changed(service: Service) -> None:
    app, going, waits = service.app, asyncio.Event(), asyncio.Event()

    async def first(session: Annotated[AsyncSession, Depends(service.session)]) -> str:
        return (await session.get_one(Maker, 1)).name

    @app.get("/slow")
    @service.cache.response(ttl="1h", per="shared")
    async def slow(name: Annotated[str, Depends(first)]) -> str:
        service.runs.append(name)
        going.set()
        await waits.wait()
        return name

    async with service.client() as http:
        early = asyncio.create_task(http.get("/slow"))
        await going.wait()
        await service.change(update(Maker).where(Maker.id == 1).values(name="Eve"))
        going.clear()
        late = asyncio.create_task(http.get("/slow"))
        await going.wait()
        waits.set()
        assert [(await one).json() for one in (early, late)] == ["Ada", "Eve"]
        assert (await http.get("/slow")).json() == "Eve"
    assert service.runs == ["Ada", "Eve"]


async def test_what_is_read_while_a_body_streams_counts(service: Service) -> None:
    @service.app.get("/labels")
    @service.cache.response(ttl="1h")
    async def labels() -> StreamingResponse:
        service.runs.append("labels")

        async def lines() -> AsyncIterator[bytes]:
            async with service.sessions() as session:
                async for text in await session.stream_scalars(select(Label.text).order_by(Label.id)):
                    yield text.encode() + b"\n"

        return StreamingResponse(lines(), media_type="text/plain")

    async with service.client() as http:
        for _ in range(2):
            assert (await http.get("/labels")).text == "\n\n"
        await service.change(update(Label).values(text="x"))
        assert (await http.get("/labels")).text == "x\nx\n"
    assert service.runs == ["labels"] * 2


async def test_a_synchronous_route_reads_in_its_thread(database: AsyncEngine) -> None:
    service = catalogue(Service(database))
    plain = create_engine(f"sqlite:///{database.url.database}")
    track(plain, service.cache)
    sessions = sessionmaker(plain)

    def session() -> Iterator[Session]:
        with sessions() as session:
            yield session

    @service.app.get("/count")
    @service.cache.response(ttl="1h", per="shared")
    def count(session: Annotated[Session, Depends(session)]) -> int:
        service.runs.append("count")
        return session.scalar(select(func.count()).select_from(Review)) or 0

    async with service.client() as http:
        for counted in (2, 3):
            for _ in range(2):
                assert (await http.get("/count")).json() == counted
            await http.post("/reviews")
    assert service.runs == ["count"] * 2
    plain.dispose()


async def test_what_a_memoised_value_has_read_is_handed_on_to_the_response(service: Service) -> None:
    @service.cache.memoize(ttl="1h")
    async def price(number: int) -> int:
        async with service.sessions() as session:
            return (await session.get_one(Product, number)).price

    @service.app.get("/prices/{number}")
    @service.cache.response(ttl="1h")
    async def shown(number: int) -> int:
        return await price(number)

    async with service.client() as http:
        await price(1)
        for wanted in (1, 9):
            for _ in range(2):
                assert (await http.get("/prices/1")).json() == wanted
            await service.change(update(Product).where(Product.id == 1).values(price=9))


async def test_an_answer_that_was_made_of_an_uncommitted_change_is_for_its_caller_alone(service: Service) -> None:
    @service.app.get("/seen")
    @service.cache.response(ttl="1h", per="shared")
    async def seen(session: Annotated[AsyncSession, Depends(service.session)]) -> int:
        service.runs.append("seen")
        found = await session.get_one(Product, 1)
        found.price += 1
        await session.flush()
        return found.price

    async with service.client() as http:
        for _ in range(2):
            answer = await http.get("/seen")
            assert (answer.json(), answer.headers["cache-status"]) == (2, "tiercel; fwd=uri-miss; detail=uncommitted")
    assert service.runs == ["seen", "seen"]


async def test_shadow_mode_says_what_would_have_fallen(database: AsyncEngine) -> None:
    service = Service(database, shadow=True)

    @service.app.get("/name")
    @service.cache.response(ttl="1h")
    async def name() -> str:
        async with service.sessions() as session:
            return (await session.get_one(Product, 1)).name

    async with service.client() as http:
        said = [(await http.get("/name")).headers["cache-status"].rpartition("=")[2] for _ in range(2)]
        await service.change(update(Product).where(Product.id == 1).values(name="new"))
        said.append((await http.get("/name")).headers["cache-status"].rpartition("=")[2])
    assert said == ["shadow-miss", "shadow-hit", "shadow-miss"]
