"""What the README says about the graph: what GET keeps, what POST may ask, and what nobody may."""

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient, Response
from shop_client import bearer, client_of, is_hit, lifespan
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp

from storefront.catalogue import service
from storefront.graphql.persisted import Persisted
from storefront.graphql.service import Graph
from storefront.main import surrounded
from storefront.parts import Parts
from storefront.settings import Settings

FOLDER = Path(__file__).parents[1] / "storefront" / "graphql" / "persisted"
GRAPH = "http://shop/graphql"


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.graphql").read_text()


def named(name: str) -> str:
    return json.dumps({"persistedQuery": {"version": 1, "sha256Hash": sha256(text_of(name).encode()).hexdigest()}})


async def get(shop: AsyncClient, name: str, **variables: object) -> Response:
    return await shop.get(GRAPH, params={"extensions": named(name), "variables": json.dumps(variables)})


async def post(shop: AsyncClient, query: str, **variables: object) -> Response:
    return await shop.post(GRAPH, json={"query": query, "variables": variables})


def data(answer: Response) -> Any:
    assert answer.headers["content-type"] == "application/graphql-response+json"
    assert "errors" not in answer.json(), answer.json()
    return answer.json()["data"]


def messages(answer: Response) -> list[str]:
    return [error["message"] for error in answer.json()["errors"]]


# -- what is kept ------------------------------------------------------------------------------------------------------


async def test_a_persisted_query_by_get_is_a_hit_the_second_time(shop: AsyncClient, statements: list[str]) -> None:
    first = await get(shop, "product", id=1)
    before = len(statements)
    second = await get(shop, "product", id=1)
    assert [is_hit(first), is_hit(second)] == [False, True]
    assert first.content == second.content
    assert len(statements) == before
    assert data(second)["product"]["price"] == 326


async def test_a_query_by_post_is_never_stored(shop: AsyncClient, statements: list[str]) -> None:
    await get(shop, "product", id=1)
    asked = [{"query": text_of("product")}, {"extensions": json.loads(named("product"))}]
    for body in asked * 2:
        before = len(statements)
        answer = await shop.post(GRAPH, json={**body, "variables": {"id": 1}})
        assert data(answer)["product"]["id"] == 1
        assert len(statements) > before
        assert answer.headers["cache-control"] == "no-store"
        assert "hit" not in answer.headers.get("cache-status", "")
        assert "stored" not in answer.headers.get("cache-status", "")


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("product", {"id": 1}),
    ("compare", {"ids": [3, 1, 2]}),
    ("products", {"filters": {"cut": ["IDEAL"]}, "first": 3}),
    ("facets", {}),
]


@pytest.mark.parametrize(("name", "variables"), QUESTIONS)
async def test_a_patch_over_rest_makes_the_graph_fall_at_once(
    shop: AsyncClient, alice: dict[str, str], name: str, variables: dict[str, Any]
) -> None:
    for price in (340, 341):
        await get(shop, name, **variables)
        assert is_hit(await get(shop, name, **variables))
        await shop.patch("/products/1", json={"price": price}, headers=alice)
        after = await get(shop, name, **variables)
        assert not is_hit(after)
        assert (
            name == "facets"
            or f'"id":1,"carat":0.23,"cut":"IDEAL","color":"E","clarity":"SI2","price":{price}' in after.text
        )


async def test_a_patch_leaves_what_was_read_of_other_products(shop: AsyncClient, alice: dict[str, str]) -> None:
    await get(shop, "product", id=2)
    await shop.patch("/products/1", json={"price": 340}, headers=alice)
    assert is_hit(await get(shop, "product", id=2))


async def test_a_review_is_seen_in_the_graph_by_the_next_get(either: Settings) -> None:
    app = surrounded(Parts.made_for(either.model_copy(update={"allowed_hosts": ("shop",)})))
    async with lifespan(app), client_of(app) as shop:
        for name, variables in (("product", {"id": 5}), ("compare", {"ids": [4, 5]})):
            assert '"count":0,"mean":null' in (await get(shop, name, **variables)).text
        for stars, who in ((4, ("bob", "christmas")), (5, ("alice", "wonderland")), (5, ("queen", "croquet"))):
            await shop.post("/products/5/reviews", json={"stars": stars}, headers=await bearer(shop, *who))
        assert data(await get(shop, "product", id=5))["product"]["rating"] == {"count": 3, "mean": 4.67}
        compared = data(await get(shop, "compare", ids=[4, 5]))["productsById"]
    assert [each["rating"]["count"] for each in compared] == [0, 3]


async def test_a_product_that_was_missing_is_found_in_the_graph_once_it_is_there(
    shop: AsyncClient, alice: dict[str, str], new_product: dict[str, Any]
) -> None:
    missing = 53_941
    assert [data(await get(shop, "product", id=missing))["product"] for _ in range(2)] == [None, None]
    assert is_hit(await get(shop, "product", id=missing))
    added = await shop.post("/products", json=new_product, headers=alice)
    assert added.json()["id"] == missing
    assert data(await get(shop, "product", id=missing))["product"]["price"] == new_product["price"]


@pytest.fixture
async def new_product(shop: AsyncClient) -> dict[str, Any]:
    found = (await shop.get("/products/7")).json()
    return {name: value for name, value in found.items() if name not in {"id", "version"}}


async def test_one_question_has_one_entry_however_it_is_spelled(shop: AsyncClient) -> None:
    digest = sha256(text_of("products").encode()).hexdigest()
    first = await get(shop, "products", filters={"cut": ["IDEAL"], "priceMin": 500}, first=3)
    for spelled in (
        {
            "variables": '{"first" : 3,"filters":{"priceMin":500, "cut":["ID\\u0045AL"]}}',
            "extensions": named("products"),
        },
        {
            "extensions": f'{{"more":[],"persistedQuery":{{"sha256Hash":"{digest.upper()}","version":1}}}}',
            "variables": '{"first":1,"first":3,"filters":{"cut":["IDEAL"],"priceMin":500}}',
            "operationName": "Products",
            "utm_source": "mail",
        },
    ):
        second = await shop.get(GRAPH, params=spelled)
        assert is_hit(second)
        assert second.content == first.content


async def test_other_variables_are_another_question(shop: AsyncClient) -> None:
    asked: list[dict[str, Any]] = [{}, {"first": 2}, {"first": 2, "order": "PRICE_DOWN"}, {"filters": {"cut": "FAIR"}}]
    answers = [await get(shop, "products", **variables) for variables in asked]
    assert not any(is_hit(answer) for answer in answers)
    assert len({answer.content for answer in answers}) == 4


async def test_releases_with_another_schema_share_no_answers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = settings.model_copy(update={"cache_url": f"local://{tmp_path}/cache"})
    old, same = surrounded(Parts.made_for(shared)), surrounded(Parts.made_for(shared))
    monkeypatch.setattr(Graph, "shape", "of-another-release")
    new = surrounded(Parts.made_for(shared))
    shops = [client_of(each) for each in (old, same, new, new)]
    async with lifespan(old), lifespan(same), lifespan(new):
        hits = [is_hit(await get(shop, "product", id=1)) for shop in shops]
    assert hits == [False, True, False, True]


# -- what GET refuses --------------------------------------------------------------------------------------------------

UNKNOWN = json.dumps({"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}})
REFUSED: list[tuple[dict[str, str], int, str]] = [
    ({"query": "mutation { remove(id: 1) }"}, 400, "GET takes no query"),
    ({"query": "mutation { remove(id: 1) }", "extensions": named("facets")}, 400, "GET takes no query"),
    ({"query": "", "extensions": named("facets")}, 400, "GET takes no query"),
    ({"extensions": UNKNOWN}, 404, "no persisted query has this hash"),
    ({}, 400, "GET needs extensions="),
    ({"extensions": '{"persistedQuery":{"version":2,"sha256Hash":"x"}}'}, 400, "GET needs extensions="),
    ({"extensions": "{"}, 400, "extensions is not a JSON object"),
    ({"extensions": "[" * 4_000}, 400, "extensions is not a JSON object"),
    ({"extensions": "[]"}, 400, "extensions is not a JSON object"),
    ({"extensions": named("facets"), "variables": "7"}, 400, "variables is not a JSON object"),
    ({"extensions": named("facets"), "variables": '{"junk":1}'}, 400, "no variables of these names: junk"),
]


async def test_a_get_that_names_no_persisted_query_is_refused_and_not_stored(shop: AsyncClient) -> None:
    await get(shop, "facets")
    for params, status, detail in REFUSED * 2:
        answer = await shop.get(GRAPH, params=params)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert detail in answer.json()["detail"]
        assert "stored" not in answer.headers["cache-status"]
        assert not is_hit(answer)


async def test_parameters_that_come_twice_are_never_answered_by_an_entry_of_another_question(shop: AsyncClient) -> None:
    await get(shop, "product", id=1)
    twice = {"extensions": named("product"), "variables": ['{"id":1}', '{"id":2}']}
    answers = [await shop.get(GRAPH, params=twice) for _ in range(2)]
    assert [data(answer)["product"]["id"] for answer in answers] == [2, 2]


async def test_an_answer_with_errors_is_never_stored(shop: AsyncClient) -> None:
    for variables in ({"first": 101}, {"after": "x"}, {"first": "many"}, {"filters": {"priceMin": -1}}):
        answers = [await get(shop, "products", **variables) for _ in range(2)]
        assert [is_hit(answer) for answer in answers] == [False, False]
        assert all(messages(answer) for answer in answers)
        assert answers[0].headers["cache-control"] == "no-store"
    assert (await get(shop, "products", first="many")).status_code == 400


# -- what may be asked -------------------------------------------------------------------------------------------------


async def test_the_graph_says_what_rest_says(shop: AsyncClient) -> None:
    product = (await shop.get("/products/1")).json()
    shown = data(await post(shop, f"{{product(id: 1) {{{' '.join(product)}}}}}"))["product"]
    words = {"cut": "IDEAL"}
    assert shown == {**product, **words}
    facets = (await shop.get("/products/facets?cut=Fair&color=J")).json()
    filters = {"cut": ["FAIR"], "color": ["J"]}
    counted = data(await post(shop, text_of("facets"), filters=filters))["facets"]
    assert counted["price"] == facets["price"]
    assert [each["count"] for each in counted["clarity"]] == [each["count"] for each in facets["clarity"]]


async def test_the_graph_walks_a_list_by_its_cursor(shop: AsyncClient) -> None:
    url: str | None = "/products?cut=Fair&order=-price&limit=40"
    filters, after = {"cut": ["FAIR"]}, None
    for _ in range(3):
        page = (await shop.get(f"{url}&cursor={after}" if after else f"{url}")).json()
        answer = await get(shop, "products", filters=filters, order="PRICE_DOWN", first=40, after=after)
        shown = data(answer)["products"]
        assert [each["id"] for each in shown["items"]] == [each["id"] for each in page["items"]]
        assert shown["next"] == page["next"]
        after = page["next"]


async def test_many_fields_that_ask_by_id_are_one_statement(shop: AsyncClient, statements: list[str]) -> None:
    before = len(statements)
    query = "{a: product(id: 1) {...p} b: product(id: 2) {...p} products(first: 100) {items {...p}}}"
    answer = await post(shop, f"{query} fragment p on Product {{id price rating {{count}}}}")
    assert len(data(answer)["products"]["items"]) == 100
    # The products by id, the list, and the ratings: together, or of each, whichever comes first.
    assert 3 <= len(statements) - before <= 4


TWENTY = " ".join(["id"] * 20)
ELEVEN = " ".join(f"i{n}: id" for n in range(11))
FIVE = " ".join(f"f{n}: facets {{total}}" for n in range(5))
TOO_LARGE = [
    ("{a{b{c{d{e{f}}}}}}", "6 levels deep: at most 5"),
    (f"{{product(id: 1) {{{ELEVEN}}}}}", "11 aliases: at most 10"),
    (f"{{product(id: 1) {{...a}}}} fragment a on Product {{... {{{ELEVEN}}}}}", "11 aliases: at most 10"),
    (f"{{products(first: 100) {{items {{{TWENTY}}}}}}}", "2,101 values: at most 2,000"),
    (f"query($n: Int) {{products(first: $n) {{items {{{TWENTY}}}}}}}", "2,101 values: at most 2,000"),
    (f"query($n: Int = 100) {{products(first: $n) {{items {{{TWENTY}}}}}}}", "2,101 values: at most 2,000"),
    (f"query($i: [Int!]!) {{productsById(ids: $i) {{{' '.join([TWENTY] * 3)}}}}}", "3,001 values: at most 2,000"),
    (f"{{{'facets {total cut {value count}} ' * 13}}}", "2,093 values: at most 2,000"),
    (f"{{{FIVE}}}", "5 walks over the catalogue: at most 4"),
    ("{facets {total} ...b ...b} fragment b on Query {a: products {next} b: facets {total}}", "5 walks over the"),
    (f"{{{' '.join(['a'] * 1_000)}}}", "more than 1000 tokens"),
]


async def test_a_query_that_is_too_large_is_refused_before_it_is_run(shop: AsyncClient, statements: list[str]) -> None:
    before = len(statements)
    for query, message in TOO_LARGE:
        answer = await post(shop, query, i=list(range(50)))
        assert answer.status_code == 400
        assert any(message in found for found in messages(answer)), answer.json()
    assert len(statements) == before


async def test_a_query_may_walk_over_the_catalogue_four_times(shop: AsyncClient) -> None:
    four = [f"f{n}: facets(filters: {{cut: [{cut}]}}) {{total}}" for n, cut in enumerate(("FAIR", "GOOD"))]
    four += [f"p{n}: products(first: 3, order: {order}) {{items {{id}}}}" for n, order in enumerate(("ID", "CARAT"))]
    found = data(await post(shop, f"{{{' '.join(four)} a: product(id: 1) {{id}}}}"))
    assert [*found] == ["f0", "f1", "p0", "p1", "a"]


async def test_fragments_that_spread_each_other_twice_are_measured_once(shop: AsyncClient) -> None:
    chain = "".join(f" fragment f{n} on Product {{...f{n + 1} ...f{n + 1}}}" for n in range(60))
    refused = await post(shop, "{product(id: 1) {...f0}}" + chain + " fragment f60 on Product {a: id}")
    assert "aliases: at most" in messages(refused)[0]
    circle = await post(shop, "{product(id: 1) {...a}} fragment a on Product {...b} fragment b on Product {...a id}")
    assert "Cannot spread fragment" in messages(circle)[0]
    assert circle.status_code == 400


async def test_a_mutation_is_none_of_what_the_graph_takes(shop: AsyncClient) -> None:
    answer = await post(shop, "mutation {remove(id: 1)}")
    assert answer.status_code == 400
    assert messages(answer)
    nothing = await shop.post(GRAPH, json={})
    assert (nothing.status_code, nothing.json()["detail"]) == (400, "there is no query")


async def test_what_goes_wrong_in_the_graph_is_logged_and_not_told(
    shop: AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_session: AsyncSession, _ids: object) -> object:
        raise RuntimeError("the password of the database is swordfish")

    monkeypatch.setattr(service, "products", broken)
    caplog.set_level(logging.ERROR, "storefront.graphql")
    for answer in (await get(shop, "product", id=1), await post(shop, "{product(id: 1) {id}}")):
        assert answer.json() == {
            "data": {"product": None},
            "errors": [
                {
                    "message": "something went wrong on our side; it has been logged",
                    "locations": answer.json()["errors"][0]["locations"],
                    "path": ["product"],
                }
            ],
        }
        assert not is_hit(answer)
    assert "swordfish" in caplog.text
    monkeypatch.undo()
    assert data(await get(shop, "product", id=1))["product"]["id"] == 1


async def test_a_mistake_of_a_client_is_told_and_not_logged(
    shop: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await post(shop, '{products(after: "x") {next}}')
    assert "not a cursor of ours" in messages(answer)[0]
    answer = await post(shop, "query($ids: [Int!]!) {productsById(ids: $ids) {id}}", ids=list(range(51)))
    assert messages(answer) == ["ids: at most 50"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_production_does_not_show_the_schema_of_the_graph(app: ASGIApp, settings: Settings) -> None:
    asked = ["{__schema {types {name}}}", '{__type(name: "Product") {name}}', "{produkt(id: 1) {id}}"]
    async with client_of(app) as shop:
        assert "Product" in (await post(shop, asked[0])).text
        assert "Did you mean" in (await post(shop, asked[2])).text
    production = surrounded(Parts.made_for(settings.model_copy(update={"environment": "production"})))
    async with lifespan(production), client_of(production) as shop:
        for query in asked:
            answer = await post(shop, query)
            assert answer.status_code == 400
            assert "Did you mean" not in answer.text
            assert '"data"' not in answer.text
        assert data(await get(shop, "product", id=1))["product"]["id"] == 1


@pytest.mark.parametrize("text", ["{nothing}", "mutation {x}", f"{{products(first: 100) {{items {{{TWENTY}}}}}}}"])
def test_a_persisted_query_that_could_not_be_run_is_found_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="a persisted query is not valid"):
        Graph(production=False, persisted=Persisted({"x": (text, frozenset())}))
