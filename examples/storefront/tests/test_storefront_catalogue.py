"""What the README says about the catalogue."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from statistics import fmean, median
from typing import Any

import pytest
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from shop_client import client_of
from sqlalchemy import event
from starlette.types import ASGIApp

from storefront.errors import BadCursor
from storefront.paging import Cursor
from storefront.parts import Parts

Diamond = dict[str, Any]
Passes = Callable[[Diamond], bool]

FILTERS: list[tuple[str, Passes]] = [
    ("", lambda _: True),
    ("cut=Fair&cut=Good", lambda d: d["cut"] in {"Fair", "Good"}),
    ("color=D&clarity=IF", lambda d: (d["color"], d["clarity"]) == ("D", "IF")),
    (
        "cut=Very%20Good&color=J&carat_min=2.5",
        lambda d: (d["cut"], d["color"]) == ("Very Good", "J") and d["carat"] >= 2.5,
    ),
    ("price_min=1000&price_max=1010", lambda d: 1000 <= d["price"] <= 1010),
    ("carat_min=0.7&carat_max=0.7&clarity=SI1", lambda d: (d["carat"], d["clarity"]) == (0.7, "SI1")),
    ("price_min=2000&price_max=1000", lambda _: False),
]
ORDERS: dict[str, Callable[[Diamond], Any]] = {
    "id": lambda d: d["id"],
    "price": lambda d: (d["price"], d["id"]),
    "-price": lambda d: (-d["price"], -d["id"]),
    "carat": lambda d: (d["carat"], d["id"]),
    "-carat": lambda d: (-d["carat"], -d["id"]),
}


def cursor(content: object) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


async def walk(shop: AsyncClient, query: str) -> list[Diamond]:
    """All pages, one after the other."""
    found: list[Diamond] = []
    after: str | None = ""
    while after is not None:
        page = (await shop.get(f"/products?{query}{after and f'&cursor={after}'}")).json()
        found += page["items"]
        after = page["next"]
    return found


@pytest.mark.parametrize(("query", "passes"), FILTERS[1:])
async def test_filters_select_what_they_say(
    shop: AsyncClient, diamonds: list[Diamond], query: str, passes: Passes
) -> None:
    found = await walk(shop, f"{query}&limit=100")
    assert [each["id"] for each in found] == [each["id"] for each in diamonds if passes(each)]


@pytest.mark.parametrize("order", ORDERS)
async def test_pages_walk_a_list_in_order_and_meet_each_product_once(
    shop: AsyncClient, diamonds: list[Diamond], order: str
) -> None:
    # Many of these have the same price or the same weight, so pages end between equals.
    found = await walk(shop, f"clarity=I1&color=G&limit=7&order={order}")
    expected = sorted((d for d in diamonds if (d["clarity"], d["color"]) == ("I1", "G")), key=ORDERS[order])
    assert [each["id"] for each in found] == [each["id"] for each in expected]


@pytest.mark.parametrize("step", ["page", "offset"])
async def test_pages_by_number_and_by_offset_walk_a_list_and_say_how_long_it_is(
    shop: AsyncClient, diamonds: list[Diamond], step: str
) -> None:
    expected = [each["id"] for each in diamonds if (each["clarity"], each["color"]) == ("I1", "G")]
    found: list[Diamond] = []
    for number in range(-(-len(expected) // 7)):
        place = f"page={number + 1}" if step == "page" else f"offset={number * 7}"
        page = (await shop.get(f"/products?clarity=I1&color=G&limit=7&{place}")).json()
        assert (page["total"], page["next"] is None) == (len(expected), len(found) + 7 >= len(expected))
        found += page["items"]
    assert [each["id"] for each in found] == expected
    beyond = (await shop.get("/products?clarity=I1&color=G&limit=7&page=10000")).json()
    assert beyond == {"items": [], "next": None, "total": len(expected)}


async def test_a_page_that_is_the_last_says_so(shop: AsyncClient) -> None:
    query = "color=D&clarity=IF&cut=Fair"
    everything = (await shop.get(f"/products?{query}&limit=100")).json()
    exactly = (await shop.get(f"/products?{query}&limit={len(everything['items'])}")).json()
    assert everything["next"] is None
    assert exactly == everything


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "💎",
        "%00",
        cursor("words"),
        cursor({"order": "id"}),
        cursor({"order": "id", "after": []}),
        cursor({"order": "id", "after": ["1"]}),
        cursor({"order": "id", "after": [True]}),
        cursor({"order": "id", "after": [1, 2]}),
        cursor({"order": "id", "after": [10**30]}),
        cursor({"order": "id", "after": [float("nan")]}),
        cursor({"order": "price", "after": [1, 1]}),
        cursor({"order": "id", "after": [1], "more": 1}),
    ],
)
async def test_a_bad_cursor_is_a_400_problem_json(shop: AsyncClient, bad: str) -> None:
    answer = await shop.get("/products", params={"cursor": bad})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["title"] == "Bad Request"


@given(st.text() | st.binary().map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_any_text_is_read_as_a_cursor_or_refused_as_a_bad_one(text: str) -> None:
    with suppress(BadCursor):
        Cursor.read(text)


@given(st.text(), st.lists(st.integers(0, 2**31 - 1) | st.floats(0, 2**31 - 1), min_size=1, max_size=2))
def test_a_cursor_comes_back_as_it_was(order: str, after: list[float]) -> None:
    written = Cursor(order=order, after=tuple(after))
    assert Cursor.read(written.write()) == written


@pytest.mark.parametrize(("query", "passes"), FILTERS)
async def test_facets_equal_an_independent_count_over_the_csv(
    shop: AsyncClient, diamonds: list[Diamond], query: str, passes: Passes
) -> None:
    facets = (await shop.get(f"/products/facets?{query}")).json()
    passing = [each for each in diamonds if passes(each)]
    assert facets["total"] == len(passing)
    for name in ("cut", "color", "clarity"):
        assert {row["value"]: row["count"] for row in facets[name]} == Counter(each[name] for each in passing)
    bars = {row["low"]: row["count"] for row in facets["price"]}
    assert bars == Counter(int(each["price"] // 1000 * 1000) for each in passing)
    assert list(bars) == sorted(bars)


async def test_price_statistics_equal_an_independent_computation_over_the_csv(
    shop: AsyncClient, diamonds: list[Diamond]
) -> None:
    groups: dict[tuple[str, str], list[float]] = {}
    for each in diamonds:
        groups.setdefault((each["cut"], each["color"]), []).append(each["price"])
    rows = (await shop.get("/stats/prices")).json()
    assert len(rows) == len(groups) == 35
    for row in rows:
        prices = groups[row["cut"], row["color"]]
        counted = (row["count"], row["min"], row["max"], row["median"])
        assert counted == (len(prices), min(prices), max(prices), median(prices))
        assert row["mean"] == pytest.approx(fmean(prices), abs=0.005)


async def test_no_page_and_no_aggregate_reads_the_table_without_an_index(parts: Parts, shop: AsyncClient) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        asked.append((statement, parameters))

    engine = parts.database.engine
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    for order in ORDERS:
        start = (await shop.get(f"/products?order={order}&limit=1")).json()["next"]
        await shop.get(f"/products?order={order}&cursor={start}")
    for url in ("/products/1", "/products/facets", "/products/facets?cut=Ideal&color=D", "/stats/prices"):
        await shop.get(url)
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    async with engine.connect() as connection:
        plans = [
            (
                statement,
                [row.detail for row in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)],
            )
            for statement, values in asked
        ]
    pages = [plan for statement, plan in plans if "LIMIT" in statement]
    # The rows lie in the order of their ids: to read them so needs no index.
    indexed = [plan for statement, plan in plans if "ORDER BY products.id ASC" not in statement]
    assert len(plans) == 14
    assert [step for plan in indexed for step in plan if " products" in step and "USING" not in step] == []
    assert [step for plan in pages for step in plan if "TEMP B-TREE" in step] == []


async def test_two_changes_at_once_are_both_counted(shop: AsyncClient, alice: dict[str, str]) -> None:
    changes = [shop.patch("/products/5", json={"stock": stock}, headers=alice) for stock in range(10)]
    answers = await asyncio.gather(*changes)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 12))
    latest = max(answers, key=lambda answer: answer.json()["version"])
    assert (await shop.get("/products/5")).json() == latest.json()


@pytest.mark.parametrize(
    "url",
    [
        "/products/99999999999999999999999",
        "/products/-1",
        "/products/%00",
        "/products/1e3",
        "/products?limit=0",
        "/products?limit=101",
        "/products?cut=Perfect",
        "/products?price_min=99999999999999999999",
        "/products?carat_min=nan",
        "/products?carat_max=inf",
        "/products?order=name",
        "/products?page=0",
        "/products?offset=-1",
        "/products?page=2&offset=20",
        f"/products?cursor={'A' * 10_000}",
        "/products/facets?" + "&".join(["color=D"] * 100),
    ],
)
async def test_a_hostile_request_is_a_422_problem_json(shop: AsyncClient, url: str) -> None:
    answer = await shop.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"]


@pytest.mark.parametrize("body", [{}, {"price": None}, {"price": -1}, {"price": 10**30}, {"carat": 3}, [], None])
async def test_a_change_that_changes_nothing_or_too_much_is_a_422(
    shop: AsyncClient, alice: dict[str, str], body: Any
) -> None:
    answer = await shop.patch("/products/1", json=body, headers=alice)
    assert answer.status_code == 422
    assert (await shop.get("/products/1")).json()["version"] == 1


async def test_an_unknown_product_is_a_404_problem_json(shop: AsyncClient, alice: dict[str, str]) -> None:
    read = await shop.get("/products/999999")
    changed = await shop.patch("/products/999999", json={"price": 1}, headers=alice)
    problem = {"title": "Not Found", "status": 404, "detail": "there is no product 999999"}
    assert read.json() == changed.json() == problem
    assert read.headers["content-type"] == "application/problem+json"


NEW: Diamond = {
    "carat": 0.5, "cut": "Ideal", "color": "D", "clarity": "IF",
    "depth": 61.0, "table": 57.0, "x": 5.1, "y": 5.1, "z": 3.1, "price": 2500, "stock": 3,
}  # fmt: skip


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_product_that_was_added_can_be_read_changed_and_removed(
    app: ASGIApp, shop: AsyncClient, alice: dict[str, str], version: str
) -> None:
    async with client_of(app, version) as client:
        added = await client.post("/products", json=NEW, headers=alice)
        assert (added.status_code, added.json()["id"]) == (201, 53_941)
        place = f"http://shop{added.headers['location']}"
        assert (await client.get(place)).json() == added.json()
        assert (await shop.get("/products/53941")).json() == {**NEW, "id": 53_941, "version": 1}
        changed = await client.patch(place, json={"stock": 2}, headers=alice)
        assert (await client.get(place)).json() == changed.json() == {**added.json(), "stock": 2, "version": 2}
        assert (await client.delete(place, headers=alice)).status_code == 204
        assert [(await client.get(place)).status_code, (await shop.get("/products/53941")).status_code] == [404, 404]
        assert (await client.delete(place, headers=alice)).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {**NEW, "cut": "Perfect"},
        {**NEW, "carat": 0},
        {**NEW, "price": -1},
        {**NEW, "id": 1},
        {**NEW, "x": "NaN"},
        [],
    ],
)
async def test_a_product_that_makes_no_sense_is_a_422(shop: AsyncClient, alice: dict[str, str], wrong: Any) -> None:
    assert (await shop.post("/products", json=wrong, headers=alice)).status_code == 422
    assert (await shop.get("/products/53941")).status_code == 404
