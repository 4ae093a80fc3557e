"""What the README says about orders and reviews."""

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import pytest
from httpx import AsyncClient
from redis_server import Server
from shop_client import client_of, is_hit, lifespan
from sqlalchemy import make_url
from starlette.types import ASGIApp
from uvicorn_server import serving, started

from storefront.main import assembled
from storefront.parts import Parts
from storefront.settings import Settings

ORDER: dict[str, Any] = {"lines": [{"product_id": 2, "quantity": 1}, {"product_id": 1}]}


def keyed(headers: dict[str, str], key: str = "first-order") -> dict[str, str]:
    return {**headers, "Idempotency-Key": key}


async def test_an_order_is_placed_once_however_often_it_is_sent(shop: AsyncClient, alice: dict[str, str]) -> None:
    answers = [await shop.post("/orders", json=ORDER, headers=keyed(alice)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["total"] == 326 + 326
    assert [(await shop.get(f"/products/{number}")).json()["stock"] for number in (1, 2)] == [0, 0]
    assert (await shop.get("/orders", headers=alice)).json()["total"] == 1


async def test_an_order_that_is_sent_twice_at_once_is_placed_once(either: Settings) -> None:
    app = assembled(Parts.made_for(either))
    async with lifespan(app), client_of(app) as shop:
        token = (await shop.post("/token", data={"username": "bob", "password": "christmas"})).json()["access_token"]
        headers = keyed({"Authorization": f"Bearer {token}"})
        answers = await asyncio.gather(*(shop.post("/orders", json=ORDER, headers=headers) for _ in range(8)))
        assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
        assert (await shop.get("/orders", headers=headers)).json()["total"] == 1


async def test_a_key_names_one_order_of_one_user(shop: AsyncClient, alice: dict[str, str], bob: dict[str, str]) -> None:
    await shop.post("/orders", json=ORDER, headers=keyed(alice))
    other = {"lines": [{"product_id": 3}]}
    assert (await shop.post("/orders", json=other, headers=keyed(alice))).status_code == 422
    assert (await shop.post("/orders", json=other, headers=keyed(bob))).status_code == 201
    for headers in (alice, keyed(alice, "short")):
        assert (await shop.post("/orders", json=other, headers=headers)).status_code == 422


async def test_an_order_takes_everything_or_nothing(shop: AsyncClient, alice: dict[str, str]) -> None:
    await shop.get("/products/1")
    wanted = {"lines": [{"product_id": 1}, {"product_id": 2, "quantity": 2}]}
    refused = await shop.post("/orders", json=wanted, headers=keyed(alice))
    assert (refused.status_code, refused.json()["detail"]) == (409, "there are no 2 of product 2")
    assert is_hit(await shop.get("/products/1"))
    assert (await shop.get("/products/1")).json()["stock"] == 1
    assert (await shop.get("/orders", headers=alice)).json() == {"items": [], "next": None, "total": 0}


async def test_the_last_one_is_sold_once(either: Settings) -> None:
    app = assembled(Parts.made_for(either))
    async with lifespan(app), client_of(app) as shop:
        token = (await shop.post("/token", data={"username": "bob", "password": "christmas"})).json()["access_token"]
        orders = [keyed({"Authorization": f"Bearer {token}"}, f"order-{number:03}") for number in range(8)]
        answers = await asyncio.gather(*(shop.post("/orders", json=ORDER, headers=each) for each in orders))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


async def test_an_order_is_seen_by_the_next_get_of_all_that_shows_it(shop: AsyncClient, alice: dict[str, str]) -> None:
    urls = {"/products/1": {}, "/products?limit=2": {}, "/orders": alice, "/orders?offset=0&limit=1": alice}
    for url, headers in urls.items():
        await shop.get(url, headers=headers)
        assert is_hit(await shop.get(url, headers=headers))
    placed = (await shop.post("/orders", json=ORDER, headers=keyed(alice))).json()
    after = [(await shop.get(url, headers=headers)).json() for url, headers in urls.items()]
    assert (after[0]["stock"], [each["stock"] for each in after[1]["items"]]) == (0, [0, 0])
    assert after[2]["items"] == after[3]["items"] == [placed]


async def test_nobody_sees_the_orders_of_others(shop: AsyncClient, alice: dict[str, str], bob: dict[str, str]) -> None:
    placed = (await shop.post("/orders", json=ORDER, headers=keyed(alice))).json()
    place = f"/orders/{placed['id']}"
    for _ in range(2):
        answers = [await shop.get(place, headers=headers) for headers in (alice, bob, {})]
        assert [answer.status_code for answer in answers] == [200, 404, 401]
        lists = [(await shop.get("/orders", headers=headers)).json()["total"] for headers in (alice, bob)]
        assert lists == [1, 0]
    assert is_hit(await shop.get(place, headers=alice))


async def test_a_review_is_seen_by_the_next_get_and_leaves_other_products_alone(
    app: ASGIApp, shop: AsyncClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    for url in ("/products/1/reviews", "/products/2/reviews", "/products/1"):
        await shop.get(url)
    first = await shop.post("/products/1/reviews", json={"stars": 5, "text": "It glitters."}, headers=alice)
    second = await shop.post("/products/1/reviews", json={"stars": 3}, headers=bob)
    assert [first.status_code, second.status_code] == [201, 201]
    page = (await shop.get("/products/1/reviews?page=2&limit=1")).json()
    assert page == {"items": [first.json()], "next": None, "total": 2}
    assert [is_hit(await shop.get(url)) for url in ("/products/2/reviews", "/products/1")] == [True, True]
    again = await shop.post("/products/1/reviews", json={"stars": 1}, headers=alice)
    assert [again.status_code, (await shop.get("/products/99999/reviews")).status_code] == [409, 404]


async def test_a_product_that_was_bought_or_reviewed_stays(
    shop: AsyncClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    await shop.post("/orders", json={"lines": [{"product_id": 1}]}, headers=keyed(bob))
    await shop.post("/products/2/reviews", json={"stars": 1}, headers=bob)
    await shop.get("/products/1")
    for number in (1, 2):
        assert (await shop.delete(f"/products/{number}", headers=alice)).status_code == 409
        assert (await shop.get(f"/products/{number}")).status_code == 200


def test_what_a_process_killed_between_commit_and_cut_has_changed_is_cut_half_a_minute_later(
    settings: Settings, redis: Server
) -> None:
    redis.ask("FLUSHALL")
    shared = settings.model_copy(update={"cache_url": redis.url})
    with serving(shared) as place, httpx.Client(base_url=f"{place}/api/v1", timeout=20) as shop:
        with started(shared, "killed_at_commit:create") as (doomed, process):
            form = {"username": "alice", "password": "wonderland"}
            token = shop.post("/token", data=form).json()["access_token"]
            headers = keyed({"Authorization": f"Bearer {token}"})
            for url in ("/products/1", "/products?limit=1", "/products/3"):
                shop.get(url)
                assert is_hit(shop.get(url))
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.post(f"{doomed}/api/v1/orders", json=ORDER, headers=headers, timeout=20)
            assert process.wait(60) == -signal.SIGKILL
        assert committed(shared) == [(0,)]
        while shop.get("/products/1").json()["stock"] != 0:
            sleep(0.1)  # the store keeps the promise of the dead when its 30 seconds are over
        # From then on for everybody and for all that shows it; what it does not concern has stayed.
        assert shop.get("/products?limit=1").json()["items"][0]["stock"] == 0
        assert is_hit(shop.get("/products/3"))
        again = shop.post("/orders", json=ORDER, headers=headers)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")


def committed(settings: Settings) -> list[tuple[int]]:
    with closing(sqlite3.connect(str(Path(str(make_url(settings.database_url).database))))) as connection:
        return connection.execute("SELECT stock FROM products WHERE id = 1").fetchall()
