"""What the README says about answers that fall by what they were made of, with every hand-written tag removed."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from alembic import command
from httpx import AsyncClient
from postgres_server import Postgres
from rich.console import Console
from shop_client import bearer, client_of, is_hit, lifespan, sqlite
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from storefront import parts
from storefront.database import Model
from storefront.load import alembic_config, load
from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import Settings
from tiercel import Cache
from tiercel._core.events import Invalidated, Stored
from tiercel.sqlalchemy._changes import Changes

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])
Outcome = tuple[int, Any]
QUIET = Console(quiet=True)
PASSWORDS = {"alice": "wonderland", "bob": "christmas", "queen": "croquet"}
STEPS = 12
DIAMOND = {"color": "E", "clarity": "SI1", "depth": 60, "table": 55, "x": 1, "y": 2, "z": 3, "stock": 5}
LISTS = ("", "?order=-price&cut=Ideal", "?page=2&limit=2")


class Untagged(Cache):
    """A cache that is told nothing by hand: no tag of a declaration, and no invalidation."""

    def __init__(self, *given: Any, **options: Any) -> None:
        options["observers"] = [*options.get("observers", ()), self]
        super().__init__(*given, **options)
        self.seen: set[str] = set()

    def on_event(self, event: object) -> None:
        if isinstance(event, Stored | Invalidated):
            self.seen.update(event.tags)

    def response(self, *given: Any, tags: object = (), **policy: Any) -> Callable[[EndpointT], EndpointT]:
        return super().response(*given, **policy)

    def memoize(self, *given: Any, tags: object = (), **policy: Any) -> Callable[[EndpointT], EndpointT]:
        return super().memoize(*given, **policy)

    def invalidates(self, *tags: str) -> Callable[[EndpointT], EndpointT]:
        return _as_it_is

    @asynccontextmanager
    async def mutation(self, *tags: str) -> AsyncGenerator[None]:
        yield


class Uncached(Untagged):
    """What is asked of it is read from the database."""

    def response(self, *given: Any, **policy: Any) -> Callable[[EndpointT], EndpointT]:
        return _as_it_is

    def memoize(self, *given: Any, **policy: Any) -> Callable[[EndpointT], EndpointT]:
        return _as_it_is


def _as_it_is(endpoint: EndpointT) -> EndpointT:
    return endpoint


class Sides:
    """One application that tracks what it reads, and beside it one that reads everything from the same database.

    It is changed under another name of its host: a write also invalidates its own URI (RFC 9111 §4.4), which would hide
    what was overlooked.
    """

    def __init__(self, tracked: AsyncClient, writer: AsyncClient, direct: AsyncClient, cache: Untagged) -> None:
        self.tracked = tracked
        self.writer = writer
        self.direct = direct
        self.cache = cache
        self.tokens: dict[str, dict[str, str]] = {}

    async def log_in(self, user: str) -> None:
        self.tokens[user] = await bearer(self.tracked, user, PASSWORDS[user])


@asynccontextmanager
async def both_sides(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Sides]:
    await asyncio.to_thread(load, settings, QUIET)
    monkeypatch.setattr(parts, "Cache", Untagged)
    one = Parts.made_for(settings.model_copy(update={"track": True}))
    tracking = assembled(one)
    monkeypatch.setattr(parts, "Cache", Uncached)
    reading = assembled(Parts.made_for(settings))
    assert isinstance(one.cache, Untagged)
    async with AsyncExitStack() as opened:
        for app in (tracking, reading):
            await opened.enter_async_context(lifespan(app))
        tracked, writer, direct = [client_of(app) for app in (tracking, tracking, reading)]
        for client in (tracked, writer, direct):
            await opened.enter_async_context(client)
        writer.base_url = "http://127.0.0.1/api/v1"
        sides = Sides(tracked, writer, direct, one.cache)
        for user in PASSWORDS:
            await sides.log_in(user)
        yield sides


class History:
    """Reads and writes as they come, by one seed."""

    def __init__(self, sides: Sides, seed: int) -> None:
        self.sides = sides
        self.draw = Random(seed)
        self.name = f"history-{seed}-{id(self)}"
        self.asked: dict[tuple[str, str], None] = {}
        self.hits = 0
        self.done: Counter[str] = Counter()

    async def play(self) -> None:
        for step in range(STEPS):
            write = self.draw.choice(WRITES)
            reads = [self.any_read() for _ in range(6)]
            # Some while it is written: what they have read may be gone before they are over.
            answers = await asyncio.gather(write(self, step), *(self.answer(*read) for read in reads))
            self.done.update([write.__name__] if answers[0][0] < 300 else [])
            await self.compare(self.asked)

    def any_read(self) -> tuple[str, str]:
        number, user = self.draw.randrange(1, 5), self.draw.choice([*PASSWORDS])
        found = self.draw.choice(
            [
                ("", f"/products/{number}"),
                ("", f"/products/{number}/reviews"),
                ("", f"/products{self.draw.choice(LISTS)}"),
                ("", "/products/facets"),
                ("", "/stats/prices"),
                (user, "/me"),
                (user, "/orders"),
                (user, f"/orders/{number}"),
                (user, "/users"),
            ]
        )
        self.asked[found] = None
        return found

    async def answer(self, user: str, path: str) -> Outcome:
        answer = await self.sides.tracked.get(path, headers=self.sides.tokens.get(user))
        self.hits += is_hit(answer)
        return answer.status_code, answer.json()

    async def compare(self, asked: Any) -> None:
        for user, path in asked:
            direct = await self.sides.direct.get(path, headers=self.sides.tokens.get(user))
            assert await self.answer(user, path) == (direct.status_code, direct.json()), (user, path)

    async def send(self, method: str, path: str, user: str, **more: Any) -> Outcome:
        headers = {**self.sides.tokens[user], **more.pop("headers", {})}
        return (await self.sides.writer.request(method, path, headers=headers, **more)).status_code, None

    async def change_product(self, step: int) -> Outcome:
        change = {self.draw.choice(["price", "stock"]): self.draw.randrange(1, 900)}
        return await self.send("PATCH", f"/products/{self.draw.randrange(1, 5)}", "alice", json=change)

    async def add_product(self, step: int) -> Outcome:
        diamond = {**DIAMOND, "cut": self.draw.choice(["Ideal", "Fair"]), "price": self.draw.randrange(900), "carat": 1}
        return await self.send("POST", "/products", "alice", json=diamond)

    async def remove_product(self, step: int) -> Outcome:
        return await self.send("DELETE", f"/products/{self.draw.randrange(2, 5)}", "alice")

    async def order(self, step: int) -> Outcome:
        lines = [{"product_id": number} for number in self.draw.sample(range(1, 5), self.draw.randrange(1, 3))]
        key, user = {"Idempotency-Key": f"{self.name}-{step}"}, self.draw.choice([*PASSWORDS])
        return await self.send("POST", "/orders", user, json={"lines": lines}, headers=key)

    async def review(self, step: int) -> Outcome:
        stars, user = self.draw.randrange(1, 6), self.draw.choice([*PASSWORDS])
        path = f"/products/{self.draw.randrange(1, 5)}/reviews"
        return await self.send("POST", path, user, json={"stars": stars, "text": self.name})

    async def change_user(self, step: int) -> Outcome:
        change = {"role": self.draw.choice(["customer", "admin"]), "scopes": self.draw.choice(["", "some:thing"])}
        return await self.send("PATCH", "/users/2", "queen", json=change)

    async def log_out(self, step: int) -> Outcome:
        """His old token is asked with from then on; who is out already comes in again."""
        self.asked["bob", "/me"] = None
        ended = await self.send("POST", "/logout", "bob")
        if ended[0] == 401:
            await self.sides.log_in("bob")
        return ended


WRITES = (
    *(History.change_product, History.add_product, History.remove_product, History.order, History.order),
    *(History.review, History.review, History.change_user, History.log_out),
)


@pytest.fixture(params=["sqlite", "postgres"])
def small(request: pytest.FixtureRequest, three: Path, tmp_path: Path) -> Iterator[Settings]:
    """An empty database, and a catalogue of three."""
    settings = sqlite(tmp_path / "small.db").model_copy(update={"catalogue": three})
    if request.param == "sqlite":
        yield settings
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield settings.model_copy(update={"database_url": server.create("small")})
    server.drop("small")


async def test_with_every_tag_removed_no_answer_is_older_than_the_database(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()
    async with both_sides(small, monkeypatch) as sides:
        for seed in range(4):
            history = History(sides, seed)
            await history.play()
            done += history.done
            assert history.hits > STEPS, "or it would hold without a cache"
    assert {*done} == {write.__name__ for write in WRITES}
    # The others are ours: of one key, and of the URI that was changed (RFC 9111 §4.4).
    assert {tag.partition(":")[0] for tag in sides.cache.seen} <= {"sql", "k", "u"}, "or something was told by hand"


@pytest.mark.parametrize("small", ["sqlite"], indirect=True)
async def test_were_one_table_overlooked_an_answer_would_be_older(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, overlooked = Changes.rows, ""

    def overlooking(changes: Changes, name: str, texts: list[str | None]) -> None:
        if name not in overlooked:
            note(changes, name, texts)

    monkeypatch.setattr(Changes, "rows", overlooking)
    async with both_sides(small, monkeypatch) as sides:
        # Reviews first: there is one of each user for each product, and then no more.
        for overlooked in ("reviews", "orders order_lines", "sessions", "users", "products"):
            assert await one_is_older(sides), overlooked
            await sides.cache.clear()


async def one_is_older(sides: Sides) -> bool:
    for seed in range(20):
        try:
            await History(sides, seed).play()
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("small", ["sqlite"], indirect=True)
async def test_nothing_is_tracked_unless_it_is_asked_for(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(load, small, QUIET)
    monkeypatch.setattr(parts, "Cache", Untagged)
    made = Parts.made_for(small)
    app = assembled(made)
    async with lifespan(app), client_of(app) as shop:
        await shop.get("/products/1")
        assert is_hit(await shop.get("/products/1"))
    assert isinstance(made.cache, Untagged)
    assert made.cache.seen == set()


@pytest.mark.parametrize("small", ["postgres"], indirect=True)
async def test_what_somebody_else_changes_in_postgresql_is_seen(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both_sides(small, monkeypatch) as sides:
        for path in ("/products/1", "/products/2", "/stats/prices"):
            await sides.tracked.get(path)
            assert is_hit(await sides.tracked.get(path))
        somebody = create_async_engine(small.database_url)
        async with somebody.begin() as connection:
            await connection.execute(text("UPDATE products SET price = 7 WHERE id = 1"))
        await somebody.dispose()
        async with asyncio.timeout(20):
            while (await sides.tracked.get("/products/1")).json()["price"] != 7:  # noqa: ASYNC110 - a server tells
                await asyncio.sleep(0.005)
        assert [is_hit(await sides.tracked.get(path)) for path in ("/products/2", "/stats/prices")] == [True, False]


TELLING = (
    "SELECT tgrelid::regclass::text FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid WHERE proname = 'tiercel_notify'"
)


TOLD = [table.name for table in Model.metadata.sorted_tables if table.name not in {"outbox", "handled_events"}]
"""What answers are made of."""


async def test_each_table_tells_of_its_changes_where_somebody_can_listen(small: Settings) -> None:
    on_postgres = "postgresql" in small.database_url

    async def found(statement: str) -> list[Any]:
        engine = create_async_engine(small.database_url)
        async with engine.connect() as connection:
            names = list(await connection.scalars(text(statement)))
        await engine.dispose()
        return names

    config, tables = alembic_config(small), sorted(TOLD * 4)
    for step, revision in ((command.upgrade, "head"), (command.downgrade, "0005"), (command.upgrade, "head")):
        await asyncio.to_thread(step, config, revision)
        if on_postgres:
            functions = await found("SELECT proname FROM pg_proc WHERE proname = 'tiercel_notify'")
            expected = tables if revision == "head" else []
            assert (sorted(await found(TELLING)), len(functions)) == (expected, len(expected) and 1)
        else:
            assert await found("SELECT name FROM sqlite_master WHERE type = 'trigger'") == []
