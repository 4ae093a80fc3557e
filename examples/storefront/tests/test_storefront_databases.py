"""What the README says about databases, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from httpx import AsyncClient
from postgres_server import Postgres
from redis_server import Server
from rich.console import Console
from shop_client import client_of, is_hit, lifespan
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import routes
from storefront.catalogue.schemas import ProductOut
from storefront.database import Database
from storefront.load import alembic_config, load
from storefront.main import assembled
from storefront.parts import Parts
from storefront.schema import WrongTables, check
from storefront.settings import Settings

QUIET = Console(quiet=True)


@pytest.fixture(params=["sqlite", "postgres"])
def new(request: pytest.FixtureRequest, three: Path, tmp_path: Path) -> Iterator[Settings]:
    """An empty database, and a catalogue of three."""
    if request.param == "sqlite":
        yield Settings(database_url=f"sqlite+aiosqlite:///{tmp_path}/new.db", catalogue=three)
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield Settings(database_url=server.create("new"), catalogue=three)
    server.drop("new")


def run(settings: Settings, statement: str) -> None:
    async def execute() -> None:
        async with aclosing(Database(settings.database_url)) as database, database.engine.begin() as connection:
            await connection.execute(text(statement))

    asyncio.run(execute())


def tables(settings: Settings) -> set[str]:
    async def read() -> set[str]:
        async with aclosing(Database(settings.database_url)) as database, database.engine.connect() as connection:
            return set(await connection.run_sync(lambda plain: inspect(plain).get_table_names()))

    return asyncio.run(read())


def test_migrations_go_up_and_down_and_up_again(new: Settings) -> None:
    config = alembic_config(new)
    command.upgrade(config, "head")
    made = tables(new)
    assert made >= {"alembic_version", "products", "users"}
    command.downgrade(config, "base")
    assert tables(new) == {"alembic_version"}
    command.upgrade(config, "head")
    assert tables(new) == made


def test_a_migration_that_fails_leaves_nothing_behind(new: Settings) -> None:
    run(new, "CREATE TABLE users (id INTEGER PRIMARY KEY)")  # in the way of what the first migration makes last
    with pytest.raises(DBAPIError, match=r"users.* already exists"):
        command.upgrade(alembic_config(new), "head")
    assert tables(new) == {"users"}


def test_the_migrations_make_the_tables_that_the_models_describe(new: Settings) -> None:
    config = alembic_config(new)
    command.upgrade(config, "head")
    command.check(config)


def test_a_database_that_lacks_a_migration_is_refused_and_one_of_a_later_release_is_not(new: Settings) -> None:
    async def checked() -> None:
        async with aclosing(Database(new.database_url)) as database:
            await check(database)

    with pytest.raises(WrongTables, match="at revision none"):
        asyncio.run(checked())
    command.upgrade(alembic_config(new), "head")
    asyncio.run(checked())
    command.downgrade(alembic_config(new), "0001")
    with pytest.raises(WrongTables, match="at revision 0001"):
        asyncio.run(checked())
    run(new, "UPDATE alembic_version SET version_num = '9999'")
    asyncio.run(checked())


async def test_a_hit_opens_no_session(new: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(load, new, QUIET)
    opened: list[AsyncSession] = []
    begin = AsyncSession.__init__

    def noting(session: AsyncSession, *args: Any, **kwargs: Any) -> None:
        opened.append(session)
        begin(session, *args, **kwargs)

    monkeypatch.setattr(AsyncSession, "__init__", noting)
    app = assembled(Parts.made_for(new))
    async with lifespan(app), client_of(app) as shop:
        for url in ("/products/1", "/products", "/products/facets", "/stats/prices"):
            opened.clear()
            assert not is_hit(await shop.get(url))
            assert len(opened) == 1
            assert is_hit(await shop.get(url))
            assert len(opened) == 1


READ = (
    "/products?cut=Fair&order=-price&limit=100",
    "/products?clarity=IF&order=carat",
    "/products/facets",
    "/products/facets?cut=Ideal&color=D&price_max=900",
    "/stats/prices",
    "/products/53940",
)


async def test_both_databases_give_the_same_answers(shop: AsyncClient, on_postgres: Settings) -> None:
    other = assembled(Parts.made_for(on_postgres))
    async with lifespan(other), client_of(other) as there:
        for url in READ:
            assert (await there.get(url)).json() == (await shop.get(url)).json()
        page = (await shop.get(READ[0])).json()
        after = f"{READ[0]}&cursor={page['next']}"
        assert (await there.get(after)).json() == (await shop.get(after)).json()


async def test_more_requests_than_connections_wait_for_their_turn(on_postgres: Settings) -> None:
    app = assembled(Parts.made_for(on_postgres.model_copy(update={"database_pool": 2})))
    async with lifespan(app), client_of(app) as shop:
        answers = await asyncio.gather(*(shop.get(f"/products/{number}") for number in range(1, 41)))
    assert [answer.status_code for answer in answers] == [200] * 40


class NextProductOut(ProductOut):
    """What a product looks like in the next release, after a migration."""

    origin: str = "unknown"


@pytest.mark.parametrize("url", ["/products/1", "/products?limit=1"])
async def test_a_migration_that_changes_a_response_model_never_serves_old_shapes(
    settings: Settings, redis: Server, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    redis.ask("FLUSHALL")
    shared = settings.model_copy(update={"cache_url": redis.url})
    old = assembled(Parts.made_for(shared))
    monkeypatch.setattr(routes, "ProductOut", NextProductOut)
    new = assembled(Parts.made_for(shared))
    async with lifespan(old), lifespan(new), client_of(old) as before, client_of(new) as after:
        await both(before, after, url, hit=False)
        await both(before, after, url, hit=True)
        # What did not change is shared.
        assert [is_hit(await each.get("/stats/prices")) for each in (before, after)] == [False, True]


async def both(before: AsyncClient, after: AsyncClient, url: str, *, hit: bool) -> None:
    old, new = await before.get(url), await after.get(url)
    assert (is_hit(old), is_hit(new)) == (hit, hit)
    assert ("origin" in old.text, "origin" in new.text) == (False, True)


async def test_old_and_new_releases_hear_of_each_others_changes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = settings.model_copy(update={"cache_url": f"local://{tmp_path}/cache"})
    old = assembled(Parts.made_for(shared))
    monkeypatch.setattr(routes, "ProductOut", NextProductOut)
    new = assembled(Parts.made_for(shared))
    async with lifespan(old), lifespan(new), client_of(old) as before, client_of(new) as after:
        token = (await before.post("/token", data={"username": "alice", "password": "wonderland"})).json()
        alice = {"Authorization": f"Bearer {token['access_token']}"}
        for stock, writer in ((8, before), (9, after)):
            await both(before, after, "/products/1", hit=False)
            await both(before, after, "/products/1", hit=True)
            await writer.patch("/products/1", json={"stock": stock}, headers=alice)
            assert [(await each.get("/products/1")).json()["stock"] for each in (before, after)] == [stock] * 2
            await writer.patch("/products/1", json={"price": stock}, headers=alice)
