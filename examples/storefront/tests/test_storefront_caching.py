"""What the README says about caching."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from redis_server import Server
from shop_client import is_hit


@pytest.fixture(params=["memory", "local", "redis"])
def cache_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """It is so wherever the cache lives."""
    match request.param:
        case "redis":
            server: Server = request.getfixturevalue("redis")
            server.ask("FLUSHALL")
            return server.url
        case "local":
            return f"local://{tmp_path}"
        case _:
            return "memory://"


CACHED = ("/products/1", "/products?cut=Ideal", "/products/facets", "/stats/prices")


@pytest.mark.parametrize("url", CACHED)
async def test_a_second_read_is_a_hit_and_runs_no_sql(shop: AsyncClient, statements: list[str], url: str) -> None:
    first = await shop.get(url)
    statements.clear()
    second = await shop.get(url)
    assert (first.status_code, is_hit(first), is_hit(second)) == (200, False, True)
    assert second.content == first.content
    assert statements == []


@pytest.mark.parametrize("url", CACHED)
async def test_an_undeclared_utm_source_does_not_make_a_second_entry(
    shop: AsyncClient, statements: list[str], url: str
) -> None:
    await shop.get(url)
    statements.clear()
    sep = "&" if "?" in url else "?"
    assert is_hit(await shop.get(f"{url}{sep}utm_source=mail"))
    assert statements == []


@pytest.mark.parametrize(
    "query",
    ["cut=Fair", "color=D", "clarity=IF", "price_min=5000", "price_max=5000", "carat_min=2", "carat_max=2"],
)
async def test_every_declared_filter_makes_an_entry_of_its_own(shop: AsyncClient, query: str) -> None:
    everything = (await shop.get("/products/facets")).json()
    filtered = await shop.get(f"/products/facets?{query}")
    assert not is_hit(filtered)
    assert 0 < filtered.json()["total"] < everything["total"]
    assert (await shop.get("/products/facets")).json() == everything


async def test_a_patch_is_seen_by_the_next_get(shop: AsyncClient, alice: dict[str, str]) -> None:
    before = {url: (await shop.get(url)).json() for url in CACHED}
    changed = await shop.patch("/products/1", json={"price": 1_000_000}, headers=alice)
    after = {url: await shop.get(url) for url in CACHED}
    assert changed.status_code == 200
    assert after["/products/1"].json() == changed.json() == before["/products/1"] | {"price": 1_000_000, "version": 2}
    assert after["/products?cut=Ideal"].json()["items"][0] == changed.json()
    assert after["/products/facets"].json()["price"][-1] == {"low": 1_000_000, "high": 1_001_000, "count": 1}
    assert 1_000_000 in [row["max"] for row in after["/stats/prices"].json()]
    assert not any(is_hit(answer) for answer in after.values())


async def test_while_a_product_changes_no_read_is_older_than_the_last_acknowledged_change(
    shop: AsyncClient, alice: dict[str, str]
) -> None:
    acknowledged = 1
    reads: list[tuple[int, int, bool]] = []

    async def write() -> None:
        nonlocal acknowledged
        for stock in range(30):
            acknowledged = (await shop.patch("/products/1", json={"stock": stock}, headers=alice)).json()["version"]

    async def read(url: str) -> None:
        while acknowledged <= 30:
            before = acknowledged
            answer = await shop.get(url)
            product = answer.json()["items"][0] if "items" in answer.json() else answer.json()
            reads.append((before, product["version"], is_hit(answer)))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for url in ["/products/1", "/products?cut=Ideal"] * 4:
            tasks.create_task(read(url))
    assert [(before, seen) for before, seen, _ in reads if seen < before] == []
    assert any(hit for _, _, hit in reads)


PAGES = ("/products", "/products?page=2", "/products?offset=40&limit=10", "/products?cursor=", "/products?order=price")
NEW = {
    "carat": 0.1, "cut": "Fair", "color": "J", "clarity": "I1",
    "depth": 61.0, "table": 57.0, "x": 3.1, "y": 3.1, "z": 2.0, "price": 0,
}  # fmt: skip


async def test_a_new_product_invalidates_lists_and_not_products(shop: AsyncClient, alice: dict[str, str]) -> None:
    cursor = (await shop.get("/products")).json()["next"]
    pages = [f"{page}{cursor}" if page.endswith("cursor=") else page for page in PAGES]
    counted = ("/products/facets", "/stats/prices")
    for url in (*pages, *counted, "/products/1"):
        await shop.get(url)
        assert is_hit(await shop.get(url))
    added = await shop.post("/products", json=NEW, headers=alice)
    assert added.status_code == 201
    after = {url: await shop.get(url) for url in (*pages, *counted)}
    assert [url for url, answer in after.items() if is_hit(answer)] == []
    assert is_hit(await shop.get("/products/1"))
    assert after["/products?order=price"].json()["items"][0] == added.json()
    assert after["/products?page=2"].json()["total"] == after["/products/facets"].json()["total"] == 53_941


async def test_a_product_that_is_gone_is_gone_from_the_cache(shop: AsyncClient, alice: dict[str, str]) -> None:
    for url in CACHED:
        await shop.get(url)
    assert (await shop.delete("/products/1", headers=alice)).status_code == 204
    after = {url: await shop.get(url) for url in CACHED}
    assert after["/products/1"].status_code == 404
    assert 1 not in [each["id"] for each in after["/products?cut=Ideal"].json()["items"]]
    assert after["/products/facets"].json()["total"] == 53_939
    assert not any(is_hit(answer) for answer in after.values())


async def test_a_patch_leaves_the_entries_of_other_products(shop: AsyncClient, alice: dict[str, str]) -> None:
    await shop.get("/products/2")
    await shop.patch("/products/1", json={"price": 1}, headers=alice)
    assert is_hit(await shop.get("/products/2"))


async def test_a_patch_that_fails_invalidates_nothing(
    shop: AsyncClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    await shop.get("/products/1")
    nobody = await shop.patch("/products/1", json={"price": 1})
    not_permitted = await shop.patch("/products/1", json={"price": 1}, headers=bob)
    not_valid = await shop.patch("/products/1", json={"price": -1}, headers=alice)
    assert [nobody.status_code, not_permitted.status_code, not_valid.status_code] == [401, 403, 422]
    assert is_hit(await shop.get("/products/1"))


async def test_two_users_never_see_each_others_me(
    shop: AsyncClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    answers = [await shop.get("/me", headers=headers) for headers in (alice, bob, alice, bob)]
    assert [answer.json()["name"] for answer in answers] == ["alice", "bob", "alice", "bob"]
    assert [is_hit(answer) for answer in answers] == [False, False, True, True]


async def test_a_hit_on_me_still_checks_the_token(shop: AsyncClient, alice: dict[str, str]) -> None:
    await shop.get("/me", headers=alice)
    assert is_hit(await shop.get("/me", headers=alice))
    forged = {"Authorization": f"{alice['Authorization']}x"}
    assert [(await shop.get("/me")).status_code, (await shop.get("/me", headers=forged)).status_code] == [401, 401]


async def test_me_is_private(shop: AsyncClient, alice: dict[str, str]) -> None:
    answers = [await shop.get("/me", headers=alice) for _ in range(2)]
    assert [is_hit(answer) for answer in answers] == [False, True]
    for answer in answers:
        assert "private" in answer.headers["cache-control"]
        assert "public" not in answer.headers["cache-control"]


@pytest.mark.parametrize("url", CACHED)
async def test_the_etag_of_a_hit_answers_304(shop: AsyncClient, statements: list[str], url: str) -> None:
    await shop.get(url)
    hit = await shop.get(url)
    statements.clear()
    again = await shop.get(url, headers={"If-None-Match": hit.headers["etag"]})
    assert is_hit(hit)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", hit.headers["etag"])
    assert statements == []


async def test_the_etag_from_before_a_patch_answers_200(shop: AsyncClient, alice: dict[str, str]) -> None:
    old = await shop.get("/products/1")
    await shop.patch("/products/1", json={"stock": 7}, headers=alice)
    new = await shop.get("/products/1", headers={"If-None-Match": old.headers["etag"]})
    assert (new.status_code, new.json()["stock"]) == (200, 7)
    assert new.headers["etag"] != old.headers["etag"]


async def test_a_hundred_readers_of_cold_statistics_cause_one_query(shop: AsyncClient, statements: list[str]) -> None:
    answers = await asyncio.gather(*(shop.get("/stats/prices") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len([statement for statement in statements if "row_number" in statement]) == 1


@pytest.mark.parametrize(
    ("url", "status"),
    [("/products/999999", 404), ("/products/0", 422), ("/products?cursor=x", 400), ("/me", 401), ("/nothing", 404)],
)
async def test_an_error_is_never_a_hit(shop: AsyncClient, url: str, status: int) -> None:
    for answer in [await shop.get(url) for _ in range(2)]:
        assert answer.status_code == status
        assert "hit" not in answer.headers.get("cache-status", "")
        assert "stored" not in answer.headers.get("cache-status", "")


async def test_a_token_is_never_stored(shop: AsyncClient) -> None:
    form: dict[str, Any] = {"username": "alice", "password": "wonderland"}
    answer = await shop.post("/token", data=form)
    assert answer.headers["cache-control"] == "no-store"
    assert "stored" not in answer.headers.get("cache-status", "")
