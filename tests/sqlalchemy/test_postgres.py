"""With a real PostgreSQL: asyncpg, two-phase commits, and what others change."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from postgres_server import Postgres, running
from shelves import ID, Model, Price, Product, Review, Ticket, Watcher, stock
from sqlalchemy import event, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from tiercel import Cache, ConfigurationError
from tiercel._core.events import Failed
from tiercel.sqlalchemy import _listening, create_triggers, drop_triggers, listening, track
from tiercel.sqlalchemy._source import Source

pytestmark = pytest.mark.realtime

TABLES = ("products", "makers", "labels", "tagged", "reviews", "prices", "tickets", "shelves")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with TemporaryDirectory() as place, running(Path(place)) as server:
        yield server


class Hearer(Watcher):
    def __init__(self) -> None:
        super().__init__()
        self.troubles: list[str] = []

    def on_event(self, event: object) -> None:
        super().on_event(event)
        if isinstance(event, Failed):
            self.troubles.append(event.where)


class Shop:
    """A database, a cache, and one memoised function that runs whatever it is told to."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.watcher = Hearer()
        self.cache = Cache(observers=[self.watcher], jitter=0.0)
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)
        track(self.sessions, self.cache)
        self.reads: dict[str, Callable[[Session], Any]] = {}
        self.calls = 0

        @self.cache.memoize(ttl="1h")
        async def read(name: str) -> str:
            self.calls += 1
            async with self.sessions() as session:
                return repr(await session.run_sync(self.reads[name]))

        self.read = read

    @property
    def source(self) -> Source:
        dialect: Any = self.engine.dialect
        source: Source = dialect.tiercel_source
        return source

    async def tags_of(self, reading: Callable[[Session], Any]) -> set[str]:
        name = f"read {len(self.reads)}"
        self.reads[name] = reading
        await self.read(name)
        return set(self.watcher.tags[-1])

    async def fell(self, number: int = -1) -> bool:
        calls = self.calls
        await self.read(list(self.reads)[number])
        return self.calls > calls


@asynccontextmanager
async def opened(server: Postgres, **options: Any) -> AsyncGenerator[Shop]:
    # Of a server that was restarted the old connections are of no use: each is tried before it is given out.
    engine = create_async_engine(server.url("postgres"), pool_pre_ping=True, **options)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Model.metadata.drop_all)
            await connection.run_sync(Model.metadata.create_all)
        async with AsyncSession(engine) as session:
            await session.run_sync(stock)
            await session.commit()
            for table in ("products", "reviews", "labels"):
                await session.execute(text(f"select setval('{table}_id_seq', 100)"))
            await session.commit()
        yield Shop(engine)
    finally:
        await engine.dispose()


def name_of(session: Session) -> Any:
    return session.get_one(Product, 1).name


async def test_rows_and_tables_are_tags_with_asyncpg_too(server: Postgres) -> None:
    async with opened(server) as shop:
        assert await shop.tags_of(name_of) == {"sql", "sql:products:*", "sql:products:1"}
        assert await shop.tags_of(lambda s: s.get_one(Ticket, ID).note) == {"sql", "sql:tickets:*", f"sql:tickets:{ID}"}
        assert await shop.tags_of(lambda s: s.get_one(Price, ("fr", 1)).cents) == {
            "sql",
            "sql:prices:*",
            "sql:prices:1,fr",
        }
        assert await shop.tags_of(lambda s: len(s.get_one(Product, 1).reviews)) > {"sql:reviews", "sql:products:1"}


async def test_an_async_commit_hits(server: Postgres) -> None:
    async with opened(server) as shop:
        await shop.tags_of(name_of)
        async with shop.sessions.begin() as session:
            (await session.get_one(Product, 1)).name = "new"
            await session.flush()
            assert not await shop.fell()
        assert await shop.fell()
        async with shop.sessions() as session:
            (await session.get_one(Product, 2)).name = "new"
            await session.commit()
        assert not await shop.fell()


async def test_the_keys_of_many_new_rows_are_known(server: Postgres) -> None:
    async with opened(server) as shop:
        await shop.tags_of(lambda s: s.get(Product, 102))
        await shop.tags_of(name_of)
        async with shop.sessions.begin() as session:
            session.add_all([Product(), Product()])
        assert (await shop.fell(0), await shop.fell(1)) == (True, False)


async def test_a_part_that_changes_and_returns_is_a_change_and_read(server: Postgres) -> None:
    async with opened(server) as shop:
        await shop.tags_of(name_of)
        async with shop.sessions.begin() as session:
            changed = update(Product).values(name="new").returning(Product.id).cte()
            await session.execute(select(func.count()).select_from(changed))
        assert await shop.fell()
        async with shop.sessions.begin() as session:
            change = (
                upsert(Product).values(id=1, name="x").on_conflict_do_update(index_elements=["id"], set_={"name": "y"})
            )
            await session.execute(change)
        assert await shop.fell()


def _do(transaction: Any, step: str, _: object) -> None:
    getattr(transaction, step)()


@pytest.mark.parametrize("steps", [("prepare", "commit"), ("commit",), ("prepare", "rollback"), ("rollback",)])
async def test_a_two_phase_commit_hits_once_it_is_over(server: Postgres, steps: tuple[str, ...]) -> None:
    async with opened(server) as shop:
        await shop.tags_of(name_of)
        async with shop.engine.connect() as connection:
            transaction = await connection.run_sync(lambda one: one.begin_twophase())
            await connection.execute(update(Product).where(Product.id == 1).values(name="new"))
            for step in steps:
                assert not await shop.fell()
                await connection.run_sync(partial(_do, transaction, step))
        assert await shop.fell() is (steps != ("rollback",))  # what was promised is cut, however it has ended


async def test_a_two_phase_commit_of_a_session_hits(server: Postgres) -> None:
    async with opened(server) as shop:
        await shop.tags_of(name_of)
        async with AsyncSession(shop.engine, twophase=True) as session:
            (await session.get_one(Product, 1)).name = "new"
            await session.commit()
        assert await shop.fell()


async def test_what_is_recovered_hits_everything(server: Postgres) -> None:
    async with opened(server) as shop:
        await shop.tags_of(name_of)
        other = create_async_engine(server.url("postgres"))  # as another process that dies
        async with other.connect() as connection:
            transaction = await connection.run_sync(lambda one: one.begin_twophase("left"))
            await connection.execute(update(Product).where(Product.id == 1).values(name="new"))
            await connection.run_sync(lambda _: transaction.prepare())
            await connection.invalidate()
        await other.dispose()
        async with shop.engine.connect() as connection:
            await connection.run_sync(lambda one: one.commit_prepared("left", recover=True))
        assert await shop.fell()


# -- what others change ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def told(server: Postgres, **options: Any) -> AsyncGenerator[tuple[Shop, AsyncEngine]]:
    """A shop that listens, and somebody else's way into its database."""
    async with opened(server, **options) as shop:
        other = create_async_engine(server.url("postgres"))
        try:
            async with other.begin() as connection:
                for statement in [*create_triggers(*TABLES), *create_triggers(Product)]:  # twice is as good as once
                    await connection.exec_driver_sql(statement)
            async with listening(shop.engine):
                yield shop, other
        finally:
            await other.dispose()


async def heard(shop: Shop, *tags: str) -> set[str]:
    """Wait until the last of these is cut; all that were."""
    async with asyncio.timeout(20):
        while not any(set(tags) <= set(cut) for cut in shop.watcher.cuts):  # noqa: ASYNC110 - told by a server
            await asyncio.sleep(0.01)
    return {tag for cut in shop.watcher.cuts for tag in cut}


async def change(shop: Shop, other: AsyncEngine, statement: str) -> None:
    shop.watcher.cuts.clear()
    async with other.begin() as connection:
        await connection.exec_driver_sql(statement)


CHANGES = [
    ("update products set name = 'x' where id = 1", {"sql:products", "sql:products:1"}),
    ("update products set id = 50 where id = 3", {"sql:products", "sql:products:3", "sql:products:50"}),
    ("insert into shelves values (60), (61)", {"sql:shelves", "sql:shelves:60", "sql:shelves:61"}),
    ("delete from makers where id = 1", {"sql:makers", "sql:makers:1"}),
    ("truncate reviews", {"sql:reviews", "sql:reviews:*"}),
    ("insert into labels (text) select '' from generate_series(1, 101)", {"sql:labels", "sql:labels:*"}),
    ("insert into prices select repeat('x', 90), n, 0 from generate_series(1, 99) n", {"sql:prices", "sql:prices:*"}),
    ("update prices set cents = 7", {"sql:prices", "sql:prices:1,fr"}),
    ("update tickets set note = 'x'", {"sql:tickets", f"sql:tickets:{ID}"}),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "tags"), CHANGES, ids=[statement[:30] for statement, _ in CHANGES])
async def test_what_others_change_is_told(server: Postgres, statement: str, tags: set[str]) -> None:
    async with told(server) as (shop, other):
        await change(shop, other, statement)
        cut = await heard(shop, *tags)
        assert {tag for tag in cut if tag.split(":")[1] == min(tags).split(":")[1]} == tags


async def test_a_response_falls_by_what_others_change(server: Postgres) -> None:
    async with told(server) as (shop, other):
        await shop.tags_of(name_of)
        await change(shop, other, "update products set name = 'x' where id = 2")
        await heard(shop, "sql:products:2")
        assert not await shop.fell()
        await change(shop, other, "update products set name = 'x' where id = 1")
        await heard(shop, "sql:products:1")
        assert await shop.fell()


async def test_what_the_database_deletes_with_it_is_told(server: Postgres) -> None:
    async with told(server) as (shop, other):
        await change(shop, other, "delete from products where id = 1")
        assert await heard(shop, "sql:reviews:1") > {"sql:reviews:2", "sql:tagged:1,1", "sql:products:1"}


async def test_what_is_rolled_back_or_changes_nothing_is_not_told(server: Postgres) -> None:
    async with told(server) as (shop, other):
        shop.watcher.cuts.clear()
        async with other.connect() as connection:
            await connection.exec_driver_sql("update products set name = 'x' where id = 1")
            await connection.rollback()
        async with other.begin() as connection:
            await connection.exec_driver_sql("update products set name = 'x' where id = 999")
            await connection.exec_driver_sql("update tickets set note = ''")
        assert not any("products" in tag for tag in await heard(shop, "sql:tickets"))


async def test_without_triggers_nothing_is_told(server: Postgres) -> None:
    async with told(server) as (shop, other):
        async with other.begin() as connection:
            for statement in drop_triggers("public.products"):
                await connection.exec_driver_sql(statement)
        await change(shop, other, "update products set name = 'x' where id = 1")
        await change(shop, other, "update tickets set note = 'x'")
        assert not any("products" in tag for tag in await heard(shop, "sql:tickets"))


async def test_what_no_trigger_sends_hits_everything(server: Postgres) -> None:
    async with told(server) as (shop, other):
        await shop.tags_of(name_of)
        await change(shop, other, "notify tiercel, 'hello'")
        await heard(shop, "sql")
        assert await shop.fell()


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - it happens elsewhere
            await asyncio.sleep(0.01)


async def test_while_the_server_is_away_nothing_is_stored_and_then_nothing_old_is_left(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listening, "PULSE", 1000.0)  # it is told, and does not have to look
    monkeypatch.setattr(_listening, "AGAIN", 0.01)
    async with told(server) as (shop, _):
        await shop.tags_of(name_of)
        assert not await shop.fell()
        shop.watcher.cuts.clear()
        server.end()
        await heard(shop, "sql")
        assert shop.source.deaf
        tries: list[object] = []
        event.listen(shop.engine.sync_engine, "do_connect", lambda *given: tries.append(given))
        await until(lambda: len(tries) > 2)
        server.start()
        await until(lambda: not shop.source.deaf)
        assert len(shop.watcher.cuts) == 2
        assert await shop.fell()
        assert not await shop.fell()
        assert shop.watcher.troubles == ["listening"], "it is said once, however often it is tried"


async def test_a_start_does_not_wait_for_a_server_that_is_away(server: Postgres) -> None:
    async with opened(server) as shop:
        other: Any = create_async_engine("sqlite+aiosqlite://")  # let it be another way into the same database
        track(other, shop.cache)
        server.end()
        try:
            async with listening(shop.engine):
                assert shop.source.deaf
                assert other.dialect.tiercel_source.deaf
                assert shop.watcher.troubles == ["listening"]
                server.start()
                await until(lambda: not shop.source.deaf)
                assert not other.dialect.tiercel_source.deaf
        finally:
            server.end()
            server.start()
            await other.dispose()


async def test_a_server_that_does_not_answer_is_left(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listening, "PULSE", 0.2)
    async with told(server) as (shop, other):
        await shop.tags_of(name_of)
        async with other.connect() as connection:
            listener = "select pid from pg_stat_activity where query = 'SELECT 1' and state = 'idle'"
            pid = await one_of(connection, listener)
        shop.watcher.cuts.clear()
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: len(shop.watcher.cuts) == 2)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert shop.watcher.troubles == ["listening"]
        await change(shop, other, "update products set name = 'x' where id = 1")
        await heard(shop, "sql:products:1")


async def one_of(connection: AsyncConnection, statement: str) -> Any:
    async with asyncio.timeout(20):
        while not (found := (await connection.exec_driver_sql(statement)).scalars().all()):
            await connection.rollback()  # what is looked at stays as it was for a transaction
    return found[0]


async def test_the_pool_is_for_others(server: Postgres) -> None:
    async with told(server, pool_size=1, max_overflow=0, pool_timeout=5) as (shop, _):
        assert await shop.tags_of(name_of)


async def test_what_was_seen_before_it_listened_is_not_stored_after(server: Postgres) -> None:
    """A snapshot that is older: what others have changed since was told to nobody."""
    async with opened(server) as shop:
        other = create_async_engine(server.url("postgres"))
        async with shop.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await connection.execute(select(Product.id))
            await change(shop, other, "update products set name = 'x' where id = 1")
            async with listening(shop.engine):

                @shop.cache.memoize(ttl=60, key=lambda: 0)
                async def name() -> str:
                    return (await connection.execute(select(Product.name).where(Product.id == 1))).scalar_one()

                assert await name() == "p1"
        await other.dispose()
        assert shop.watcher.reasons == ["invalidated"]


ODD = {  # its columns, its key, and a change
    "fixed": ("code char(4)", "code", "insert into fixed values ('a')"),
    "loose": ("code text collate loose", "code", "insert into loose values ('a')"),
    "number": ("code numeric", "code", "insert into number values (7)"),
    "day": ('code int, "%s" date', 'code, "%s"', "insert into day values (7, '2000-01-01')"),
    "keyless": ("code int, number int", "", "insert into keyless values (7, 7)"),
}


@pytest.mark.parametrize("table", ODD)
async def test_a_row_whose_key_may_be_written_in_several_ways_hits_all_rows(server: Postgres, table: str) -> None:
    columns, key, statement = ODD[table]
    async with told(server) as (shop, other):
        made = [
            "create collation if not exists loose (provider = icu, locale = 'und', deterministic = false)",
            f"create table {table} ({columns}{key and f', primary key ({key})'})",
            *create_triggers(f"public.{table}"),
        ]
        async with other.begin() as connection:
            for each in made:
                await connection.exec_driver_sql(each)
        await change(shop, other, statement)
        assert await heard(shop, f"sql:{table}") == {f"sql:{table}", f"sql:{table}:*"}
        async with other.begin() as connection:
            await connection.exec_driver_sql(f"drop table {table}")


async def test_no_trigger_and_no_function_is_left(server: Postgres) -> None:
    async with opened(server) as shop, shop.engine.begin() as connection:
        for statement in [*create_triggers(Product, "makers"), *drop_triggers(Product)]:
            await connection.exec_driver_sql(statement)
        count = "select count(*) from pg_proc where proname = 'tiercel_notify'"
        assert await one_of(connection, count) == 1, "the other table still uses it"
        for statement in [*drop_triggers("makers"), *drop_triggers("makers")]:
            await connection.exec_driver_sql(statement)
        assert (await connection.exec_driver_sql(count)).scalar_one() == 0


async def test_what_is_read_while_nobody_listens_is_not_stored(server: Postgres) -> None:
    async with told(server) as (shop, _):
        shop.source.deaf.add("somebody")
        shop.reads["deaf"] = name_of
        await shop.read("deaf")
        assert shop.watcher.reasons == ["not-listening"]


async def test_the_connection_that_listened_is_closed(server: Postgres) -> None:
    async with told(server) as (shop, other):
        pass
    assert not shop.source.deaf
    async with other.connect() as connection:
        await one_of(connection, "select 1 where not exists (select from pg_stat_activity where query like 'LISTEN%')")
    await other.dispose()


async def test_only_what_is_tracked_can_be_listened_for(server: Postgres) -> None:
    untracked, unable = create_async_engine(server.url("postgres")), create_async_engine("sqlite+aiosqlite://")
    track(unable, Cache())
    for engine in (untracked, unable):
        with pytest.raises(ConfigurationError, match="that is tracked"):
            async with listening(engine):
                pass
        await engine.dispose()
    with pytest.raises(ConfigurationError, match="is no table"):
        create_triggers(7)


async def test_a_value_is_made_again_for_each_commit_that_was_acknowledged(server: Postgres) -> None:
    """Readers and writers at once: whoever asks after a commit has returned never gets what was there before it."""
    async with opened(server) as shop:
        shop.reads["count"] = lambda s: s.scalar(select(func.sum(Product.price)).where(Product.id == 1))
        wrong: list[str] = []
        done = 0

        async def write() -> None:
            nonlocal done
            for number in range(1, 60):
                async with shop.sessions.begin() as session:
                    await session.execute(update(Product).where(Product.id == 1).values(price=number))
                done = number

        async def read() -> None:
            while not writing.done():
                least = done
                if int(await shop.read("count")) < least:
                    wrong.append(f"{least}")
                await asyncio.sleep(0)  # a hit does not wait for anything, and the writer is to go on

        async with shop.sessions.begin() as session:
            await session.execute(update(Product).values(price=0))
        writing = asyncio.create_task(write())
        await asyncio.gather(writing, *[read() for _ in range(4)])
        assert wrong == []
        assert shop.calls > 10


async def test_reviews_in_a_snapshot_that_is_older_are_as_old_as_that(server: Postgres) -> None:
    async with opened(server) as shop:
        async with shop.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await connection.execute(select(Product.id))  # from here on it sees what is there now

            @shop.cache.memoize(ttl=60, key=lambda: 0)
            async def count() -> int:
                return (await connection.execute(select(func.count()).select_from(Review))).scalar_one()

            async with shop.sessions.begin() as session:
                session.add(Review(product_id=2))
            assert await count() == 2
        assert "invalidated" in shop.watcher.reasons
