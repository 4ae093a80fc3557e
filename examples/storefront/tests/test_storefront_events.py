"""What the README says about background work: events, who handles them, and what the cache hears of it."""

import asyncio
import json
import logging
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from httpx import AsyncClient
from redis_server import Server
from rich.console import Console
from shop_client import bearer, client_of, is_hit, lifespan
from sqlalchemy import func, make_url, select
from uvicorn_server import environment_of, serving, started
from worker_process import die_of_it, unattended, working

from storefront import letters
from storefront.catalogue import service as catalogue
from storefront.catalogue.schemas import ProductChange
from storefront.database import Database
from storefront.events.consumers import Consumers
from storefront.events.models import Handled, Waiting
from storefront.events.retries import Retries
from storefront.events.schemas import Event, OrderPlaced, ProductChanged, Sold
from storefront.events.streams import DEAD, GROUP, WORK
from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import Settings

BOUGHT = {"lines": [{"product_id": 2}, {"product_id": 1}]}
SOLD = [
    {"product_id": 2, "quantity": 1, "revenue": 326},
    {"product_id": 1, "quantity": 1, "revenue": 326},
]
BROKEN = "CREATE TRIGGER broken BEFORE INSERT ON sales BEGIN SELECT RAISE(ABORT, 'sales are out of order'); END"
REPAIRED = "DROP TRIGGER broken"


@pytest.fixture
def soon(settings: Settings) -> Settings:
    """The settings of those who do not like to wait."""
    quick = {"events_patience": timedelta(seconds=3), "events_sweep": timedelta(seconds=0.1)}
    return settings.model_copy(update=quick)


@pytest.fixture
def shared(soon: Settings, redis: Server) -> Settings:
    """The same with Redis."""
    redis.ask("FLUSHALL")
    return soon.model_copy(update={"cache_url": redis.url, "events_url": redis.url})


def ask(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    file = str(make_url(settings.database_url).database)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


class Soon:
    """Asks until it is true, and not for ever."""

    def __init__(self, seconds: float = 50.0) -> None:
        self._deadline = monotonic() + seconds

    def asking(self) -> bool:
        assert monotonic() < self._deadline
        return True

    async def turning(self) -> None:
        """Let the application have its turn: a hit does not wait for anything."""
        assert self.asking()
        await asyncio.sleep(0)


def buyer(shop: httpx.Client, key: str = "first-order") -> dict[str, str]:
    answer = shop.post("/token", data={"username": "alice", "password": "wonderland"})
    return {"Authorization": f"Bearer {answer.json()['access_token']}", "Idempotency-Key": key}


def buy(shop: httpx.Client) -> None:
    """Place the order, under one key as often as it takes: a store that does not answer in time is a 503, try again."""
    soon, headers = Soon(), buyer(shop)
    while (answer := shop.post("/orders", json=BOUGHT, headers=headers)).status_code == 503:
        assert soon.asking()
    assert answer.status_code == 201


def placed(product_id: int = 2) -> OrderPlaced:
    return OrderPlaced(order_id=1, lines=(Sold(product_id=product_id, quantity=1, price=326),))


def changed(version: int, product_id: int = 2) -> ProductChanged:
    return ProductChanged(product_id=product_id, price=100 * version, stock=version, version=version)


# ----------------------------------------------------------------------------------- in the background of a request


async def test_work_in_the_background_is_never_replayed_by_a_hit(
    shop: AsyncClient, alice: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "storefront.receipts")
    order = (await shop.post("/orders", json=BOUGHT, headers={**alice, "Idempotency-Key": "first-order"})).json()
    answers = [await shop.get(f"/orders/{order['id']}/receipt", headers=alice) for _ in range(3)]
    assert [is_hit(answer) for answer in answers] == [False, True, True]
    assert {answer.text for answer in answers} == {answers[0].text}
    assert "652 USD" in answers[0].text
    assert [record.getMessage() for record in caplog.records] == ["drew up the receipt of order 1 over 652 USD"]


# ------------------------------------------------------------------------------------------------------- without Redis


async def test_without_redis_the_application_handles_its_events_itself(
    shop: AsyncClient, alice: dict[str, str]
) -> None:
    assert (await shop.get("/products/bestsellers")).json() == []
    await shop.get("/products/recent")
    assert is_hit(await shop.get("/products/bestsellers"))
    await shop.post("/orders", json=BOUGHT, headers={**alice, "Idempotency-Key": "first-order"})
    soon = Soon()
    while (await shop.get("/products/bestsellers")).json() != SOLD:
        await soon.turning()
    while len(recent := (await shop.get("/products/recent")).json()) < 2:
        await soon.turning()
    assert {(each["product_id"], each["stock"], each["version"]) for each in recent} == {(1, 0, 2), (2, 0, 2)}


async def test_an_event_is_told_if_and_only_if_its_transaction_commits(either: Settings) -> None:
    parts = Parts.made_for(either)
    app = assembled(parts)
    async with lifespan(app), client_of(app) as shop:
        async with parts.database.sessions() as session:
            parts.events.outbox.put(session, changed(7, product_id=3))
            await session.flush()
            await session.rollback()
        async with parts.database.sessions() as session:
            await catalogue.change(session, parts.events.outbox, 4, ProductChange(price=5))
        soon = Soon()
        while not (found := (await shop.get("/products/recent")).json()):
            await soon.turning()
        assert [(each["product_id"], each["price"]) for each in found] == [(4, 5)]


async def test_a_product_that_is_gone_leaves_the_recent_changes(
    parts: Parts, shop: AsyncClient, alice: dict[str, str]
) -> None:
    await shop.patch("/products/5", json={"price": 1}, headers=alice)
    soon = Soon()
    while not (await shop.get("/products/recent")).json():
        await soon.turning()
    assert (await shop.delete("/products/5", headers=alice)).status_code == 204
    assert (await shop.get("/products/recent")).json() == []
    while await _waiting(parts.database):
        await soon.turning()
    assert (await shop.get("/products/recent")).json() == []


async def _waiting(database: Database) -> int:
    async with database.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Waiting)) or 0


# ---------------------------------------------------------------------------------------------------------- consumers


@pytest.fixture
async def consumers(either: Settings) -> AsyncIterator[tuple[Consumers, AsyncClient]]:
    parts = Parts.made_for(either)
    app = assembled(parts)
    async with lifespan(app), client_of(app) as shop:
        yield Consumers(database=parts.database, cache=parts.cache), shop


async def test_an_event_that_comes_twice_is_handled_once(consumers: tuple[Consumers, AsyncClient]) -> None:
    taken, shop = consumers
    event = placed()
    await asyncio.gather(*(taken.take(event) for _ in range(6)))
    await taken.take(event)
    await taken.take(placed())
    assert (await shop.get("/products/bestsellers")).json() == [{"product_id": 2, "quantity": 2, "revenue": 652}]


async def test_what_an_event_changed_falls_also_when_the_event_comes_again(
    consumers: tuple[Consumers, AsyncClient],
) -> None:
    taken, shop = consumers
    for event, url in ((placed(), "/products/bestsellers"), (changed(2), "/products/recent")):
        await taken.take(event)
        hits: list[bool] = []
        for _ in range(2):
            await shop.get(url)
            hits.append(is_hit(await shop.get(url)))
            await taken.take(event)
            hits.append(is_hit(await shop.get(url)))
        assert hits == [True, False, True, False]


async def test_the_largest_orders_are_added_up(consumers: tuple[Consumers, AsyncClient]) -> None:
    taken, shop = consumers
    for order_id in (1, 2):
        await taken.take(OrderPlaced(order_id=order_id, lines=(Sold(product_id=2, quantity=1_000, price=10_000_000),)))
    found = (await shop.get("/products/bestsellers")).json()
    assert found == [{"product_id": 2, "quantity": 2_000, "revenue": 20_000_000_000}]


async def test_events_that_overtake_each_other_leave_the_last_change(consumers: tuple[Consumers, AsyncClient]) -> None:
    taken, shop = consumers
    for version in (3, 2, 5, 4):
        await taken.take(changed(version))
    found = (await shop.get("/products/recent")).json()
    assert [(each["version"], each["price"]) for each in found] == [(5, 500)]
    await taken.take(changed(2, product_id=99_999))  # it was taken off before anybody heard of the change
    assert (await shop.get("/products/recent")).json() == found


async def test_what_was_handled_long_ago_is_forgotten(soon: Settings) -> None:
    parts = Parts.made_for(soon)
    now = datetime.now(UTC)
    async with lifespan(assembled(parts)):
        async with parts.database.sessions() as session, session.begin():
            session.add_all(Handled(event_id=f"{days}", at=now - timedelta(days=days)) for days in (29, 31))
        soon_ = Soon()
        while ask(soon, "SELECT event_id FROM handled_events") != [("29",)]:
            await soon_.turning()


# ------------------------------------------------------------------------------------------------------------ failures


def test_an_event_that_fails_is_tried_later_each_time() -> None:
    retries = Retries(attempts=6, patience=timedelta(seconds=3))
    waits = [retries.after(attempt) for attempt in range(1, 8)]
    assert [wait and wait.total_seconds() for wait in waits] == [0.5, 1, 2, 3, 3, None, None]
    assert Retries(attempts=10**6, patience=timedelta(days=1)).after(10**5) == timedelta(days=1)


async def test_an_event_that_fails_too_often_waits_for_somebody_to_look(soon: Settings) -> None:
    impatient = soon.model_copy(update={"events_attempts": 2})
    ask(impatient, BROKEN)
    app = assembled(Parts.made_for(impatient))
    async with lifespan(app), client_of(app) as shop:
        token = (await shop.post("/token", data={"username": "bob", "password": "christmas"})).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "first-order"}
        assert (await shop.post("/orders", json=BOUGHT, headers=headers)).status_code == 201
        soon_ = Soon()
        while ask(impatient, "SELECT attempts FROM outbox WHERE dead") != [(2,)]:
            await soon_.turning()
        assert (await shop.get("/products/bestsellers")).json() == []
        # The other events, which came after it, did not wait for it.
        assert len((await shop.get("/products/recent")).json()) == 2
        await _shown(impatient, "order.placed", "sales are out of order")
        ask(impatient, REPAIRED)
        # Events are looked at in their order: when this one is done, the dead one was passed over.
        changed_ = await shop.patch("/products/3", json={"stock": 7}, headers=await bearer(shop, "alice", "wonderland"))
        assert changed_.status_code == 200
        while len((await shop.get("/products/recent")).json()) < 3:
            await soon_.turning()
        assert (await shop.get("/products/bestsellers")).json() == []
        await _replayed(impatient)
        while (await shop.get("/products/bestsellers")).json() != SOLD:
            await soon_.turning()
        await _shown(impatient)


async def _shown(settings: Settings, *texts: str) -> None:
    printed = StringIO()
    await letters.show(settings, Console(file=printed, width=1000))
    assert all(text in printed.getvalue() for text in texts), printed.getvalue()
    assert f"\n{1 if texts else 0} dead letters" in f"\n{printed.getvalue()}"


async def _replayed(settings: Settings) -> None:
    """One that is none is said to be; then all."""
    printed = StringIO()
    for chosen in (["x"], ["999"], []):
        await letters.replay(settings, Console(file=printed, width=1000), chosen)
    said = printed.getvalue().splitlines()
    assert [line.partition(": ")[2] for line in said] == ["there is no such letter"] * 2 + ["is tried again"]


# ---------------------------------------------------------------------------------------------------------- with Redis


def test_the_workers_writes_invalidate_what_every_process_has_cached(shared: Settings) -> None:
    with ExitStack() as running:
        places = [running.enter_context(serving(shared)) for _ in range(2)]
        shops = [running.enter_context(httpx.Client(base_url=f"{place}/api/v1", timeout=20)) for place in places]
        running.enter_context(working(shared))
        for shop in shops:
            for url in ("/products/bestsellers", "/products/recent", "/products/3"):
                shop.get(url)
                assert is_hit(shop.get(url))
        buy(shops[0])
        soon = Soon()
        for shop in shops:
            while shop.get("/products/bestsellers").json() != SOLD:
                assert soon.asking()
            while len(shop.get("/products/recent").json()) < 2:
                assert soon.asking()
            while not is_hit(shop.get("/products/bestsellers")):  # it is held until the consumer is told of the cut
                assert soon.asking()
            assert is_hit(shop.get("/products/3"))


@pytest.mark.parametrize("where", ["in this process", "through Redis"])
def test_a_process_killed_between_commit_and_publish_loses_no_event(soon: Settings, redis: Server, where: str) -> None:
    redis.ask("FLUSHALL")
    events = redis.url if where == "through Redis" else "memory://"
    # Nobody looks for what others have left while this runs: who starts does.
    never = timedelta(days=1)
    settings = soon.model_copy(update={"events_url": events, "cache_url": redis.url, "events_sweep": never})
    with started(settings, "killed_at_commit:create") as (doomed, process):
        with httpx.Client(base_url=f"{doomed}/api/v1", timeout=20) as shop, pytest.raises(httpx.RemoteProtocolError):
            buy(shop)
        assert process.wait(50) == -signal.SIGKILL
    assert len(ask(settings, "SELECT id FROM outbox")) == 3
    assert redis.ask("EXISTS", WORK) == b":0"
    with ExitStack() as running:
        place = running.enter_context(serving(settings))
        if where == "through Redis":
            running.enter_context(working(settings))
        shop = running.enter_context(httpx.Client(base_url=f"{place}/api/v1", timeout=20))
        soon_ = Soon()
        while shop.get("/products/bestsellers").json() != SOLD:
            assert soon_.asking()
        while ask(settings, "SELECT id FROM outbox"):
            assert soon_.asking()


@pytest.mark.parametrize("moment", ["within", "after"])
def test_what_a_worker_was_killed_at_another_claims_and_does_once(shared: Settings, redis: Server, moment: str) -> None:
    put(redis, placed())
    die_of_it(shared, moment)
    done = ask(shared, "SELECT quantity FROM sales")
    assert done == ([(1,)] if moment == "after" else [])
    assert redis.ask("XLEN", WORK) == b":1"
    with working(shared):
        soon = Soon()
        while redis.ask("XLEN", WORK) != b":0":
            assert soon.asking()
    assert ask(shared, "SELECT product_id, quantity FROM sales") == [(2, 1)]
    # Nothing is left of it, nor of the worker that has ended in order; the dead one's name is all that stays.
    assert redis.ask("XPENDING", WORK, GROUP) == b"*4"
    assert redis.ask("EXISTS", DEAD) == b":0"
    assert consumers_of(redis) == 1


def test_an_event_that_fails_too_often_becomes_a_dead_letter_that_can_be_replayed(
    shared: Settings, redis: Server
) -> None:
    # What a dead consumer had would be left alone for a day; what has failed is not.
    impatient = shared.model_copy(update={"events_attempts": 3, "events_patience": timedelta(days=1)})
    ask(impatient, BROKEN)
    bad, good = placed(), changed(2)
    with working(impatient):
        put(redis, bad, good)
        soon = Soon()
        while redis.ask("XLEN", DEAD) != b":1":
            assert soon.asking()
        assert ask(impatient, "SELECT product_id FROM changes") == [(2,)]
        assert redis.ask("XLEN", WORK) == b":0"
        asyncio.run(_shown(impatient, bad.id, "3 attempts", "sales are out of order"))
        ask(impatient, REPAIRED)
        asyncio.run(_replayed(impatient))
        while ask(impatient, "SELECT quantity FROM sales") != [(1,)]:
            assert soon.asking()
    asyncio.run(_shown(impatient))


def test_an_event_that_kills_whoever_takes_it_becomes_a_dead_letter(
    shared: Settings, redis: Server, tmp_path: Path
) -> None:
    # In a file: a store that does not answer in time would be an attempt that nobody dies of.
    impatient = shared.model_copy(update={"events_attempts": 2, "cache_url": f"local://{tmp_path}/cache"})
    put(redis, placed())
    for _ in range(2):
        die_of_it(impatient, "within")
    with working(impatient):
        soon = Soon()
        while redis.ask("XLEN", DEAD) != b":1":
            assert soon.asking()
    asyncio.run(_shown(impatient, "died of it"))
    assert ask(impatient, "SELECT quantity FROM sales") == []


def test_what_is_no_event_becomes_a_dead_letter_at_once(shared: Settings, redis: Server) -> None:
    later = {"name": "order.returned", "id": "7", "at": "2030-01-01T00:00:00Z"}
    for text in ("{", json.dumps(later), json.dumps({"data": "x"})):
        redis.ask("XADD", WORK, "*", "__data__", text)
    redis.ask("XADD", WORK, "*", "other", "x")
    with working(shared):
        soon = Soon()
        while redis.ask("XLEN", DEAD) != b":4":
            assert soon.asking()
        put(redis, placed())
        while not ask(shared, "SELECT quantity FROM sales"):
            assert soon.asking()
    printed = StringIO()
    asyncio.run(letters.show(shared, Console(file=printed, width=1000)))
    assert printed.getvalue().count("1 attempts") == 4
    assert "order.returned" in printed.getvalue()


def test_while_redis_is_down_orders_are_taken_and_their_events_wait(soon: Settings, tmp_path: Path) -> None:
    redis = Server(tmp_path)
    settings = soon.model_copy(update={"events_url": redis.url})
    try:
        with started(settings) as (place, process), httpx.Client(base_url=f"{place}/api/v1", timeout=20) as shop:
            assert shop.post("/orders", json=BOUGHT, headers=buyer(shop)).status_code == 201
            assert len(ask(settings, "SELECT id FROM outbox")) == 3
            redis.start()
            soon_ = Soon()
            while redis.ask("XLEN", WORK) != b":3":
                assert soon_.asking()
            while ask(settings, "SELECT id FROM outbox"):
                assert soon_.asking()
            process.send_signal(signal.SIGINT)
            assert process.wait(50) == 0
    finally:
        redis.end()


def test_a_worker_whose_redis_has_forgotten_everything_ends_to_be_started_again(
    shared: Settings, redis: Server
) -> None:
    with unattended(shared) as process:
        soon = Soon()
        put(redis, placed())
        while not ask(shared, "SELECT quantity FROM sales"):
            assert soon.asking()
        redis.ask("FLUSHALL")
        assert process.wait(50) == 1


def test_a_worker_without_redis_says_what_it_lacks(settings: Settings, redis: Server) -> None:
    for lacking in ({}, {"events_url": redis.url}, {"cache_url": redis.url}):
        environment = environment_of(settings.model_copy(update=lacking))
        command = [sys.executable, "-m", "storefront.worker"]
        said = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)
        assert said.returncode == 1
        assert "set STOREFRONT_EVENTS_URL to a redis:// URL, and STOREFRONT_CACHE_URL" in said.stderr


def put(redis: Server, *events: Event) -> None:
    for event in events:
        redis.ask("XADD", WORK, "*", "__data__", event.model_dump_json())


def consumers_of(redis: Server) -> int:
    said = redis.ask("XINFO", "CONSUMERS", WORK, GROUP)
    return int(said[1:]) if said.startswith(b"*") else 0
