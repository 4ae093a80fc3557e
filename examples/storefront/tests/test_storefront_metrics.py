"""What the README says about what is measured, and who may see it."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from httpx import ASGITransport, AsyncClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, ValidationError
from shop_client import is_hit, lifespan
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn_server import serving

from storefront.main import surrounded
from storefront.metrics import Measured, Metrics
from storefront.parts import Parts
from storefront.settings import Settings
from tiercel import StoreError
from tiercel.spi import Failed, Unreadable

METRICS = "http://shop/metrics"
TOKEN = "a-token-that-is-as-long-as-a-token-has-to-be"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0)


async def scraped(shop: AsyncClient) -> Samples:
    answer = await shop.get(METRICS)
    assert answer.status_code == 200
    return samples(answer.text)


# -- what is counted ---------------------------------------------------------------------------------------------------

PRODUCT = "/api/v1/products/{product_id}"


async def test_requests_are_counted_by_route_and_status_hits_included(shop: AsyncClient) -> None:
    for url in ("/products/1", "/products/1", "/products/2", "/products/99999", "/products/x"):
        await shop.get(url)
    found = await scraped(shop)
    for status, count in (("200", 3), ("404", 1), ("422", 1)):
        assert value(found, "http_requests_total", method="GET", route=PRODUCT, status=status) == count
    assert value(found, "http_request_duration_seconds_count", method="GET", route=PRODUCT) == 5
    assert 0 < value(found, "http_request_duration_seconds_sum", method="GET", route=PRODUCT) < 60


async def test_what_the_cache_did_is_counted_and_why(shop: AsyncClient, alice: dict[str, str]) -> None:
    for _ in range(3):
        await shop.get("/products/1")
    await shop.patch("/products/1", json={"price": 340}, headers=alice)
    await shop.get("/products/1")
    await shop.get("/products/99999")
    found = await scraped(shop)
    answers = {result: value(found, "cache_answers_total", of=f"GET {PRODUCT}", result=result) for result in RESULTS}
    assert answers == {"hit": 2, "miss": 3}
    assert value(found, "cache_forwarded_total", route=PRODUCT, reason="uri-miss") == 3
    assert value(found, "cache_discarded_total", reason="exception-handler") == 1
    assert value(found, "cache_stored_total") >= 2
    assert value(found, "cache_stored_bytes_total") > 300
    assert value(found, "cache_invalidations_total", kind="hard") >= 1


RESULTS = ("hit", "miss")


async def test_what_went_wrong_unseen_is_counted_by_its_class(parts: Parts, shop: AsyncClient) -> None:
    parts.metrics.on_event(Failed(where="store", error=StoreError("a connection to 10.0.0.7:41523 is given up")))
    parts.metrics.on_event(Unreadable(where="store", reason="damaged", key="5abae6953fe66a12e97a8e64558d7376"))
    text = (await shop.get(METRICS)).text
    assert value(samples(text), "cache_failures_total", error="StoreError") == 1
    assert value(samples(text), "cache_unreadable_total") == 1
    assert "10.0.0.7" not in text
    assert "5abae69" not in text


async def test_the_number_of_time_series_does_not_grow_with_what_clients_ask(shop: AsyncClient) -> None:
    async def ask(first: int) -> None:
        for number in range(first, first + 20):
            await shop.get(f"/products/{number}?price_min={number}")
            await shop.get(f"http://shop/nothing/{number}")
            await shop.request(f"METHOD{number}", "/products")
            await shop.get("/products/1", headers={"X-Request-ID": f"request-{number}"})

    await ask(100)
    await scraped(shop)
    before = await scraped(shop)
    await ask(200)
    after = await scraped(shop)
    assert after.keys() == before.keys()
    assert value(after, "http_requests_total", method="GET", route="none", status="404") == 40
    assert value(after, "http_requests_total", method="other", route="/api/v1/products", status="405") == 40


async def test_connections_to_the_database_are_counted(shop: AsyncClient, parts: Parts) -> None:
    await shop.get("/products/1")
    async with parts.database.sessions() as session:
        await session.connection()
        found = await scraped(shop)
    states = {state: value(found, "database_connections", state=state) for state in ("at_most", "open", "in_use")}
    assert states == {"at_most": 8, "open": 1, "in_use": 1}
    assert value(await scraped(shop), "database_connections", state="in_use") == 0


async def test_a_request_that_fails_is_counted_as_a_500(shop: AsyncClient) -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError

    metrics = Metrics()
    async with AsyncClient(transport=ASGITransport(Measured(broken, metrics, [])), base_url="http://shop") as client:
        with pytest.raises(RuntimeError):
            await client.get("/")
    found = samples(metrics.shown().decode())
    assert value(found, "http_requests_total", method="GET", route="none", status="500") == 1


async def test_refused_requests_are_counted_too(settings: Settings) -> None:
    app = surrounded(Parts.made_for(settings.model_copy(update={"rate": "1/hour"})))
    async with asking(app) as shop:
        for _ in range(3):
            await shop.get("http://shop/api/v1/grades")
        found = await scraped(shop)
    assert value(found, "http_requests_total", method="GET", route="/api/v1/grades", status="429") == 2


def test_workers_count_together(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with ExitStack() as running:
        places = [running.enter_context(serving(settings)) for _ in range(2)]
        for place, times in zip(places, (2, 3), strict=True):
            for _ in range(times):
                assert httpx.get(f"{place}/api/v1/grades").status_code == 200
        found = [samples(httpx.get(f"{place}/metrics").text) for place in places]
    for each in found:
        assert value(each, "http_requests_total", method="GET", route="/api/v1/grades", status="200") == 5
        assert value(each, "cache_answers_total", of="GET /api/v1/grades", result="hit") == 3
        assert value(each, "database_connections", state="at_most") == 16
    # Who has ended has no connections any more, and has counted what it has counted.
    with serving(settings) as place:
        after = samples(httpx.get(f"{place}/metrics").text)
    assert value(after, "http_requests_total", method="GET", route="/api/v1/grades", status="200") == 5
    assert value(after, "database_connections", state="at_most") == 8


# -- who may see it ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def asking(app: ASGIApp, address: str = "127.0.0.1") -> AsyncGenerator[AsyncClient]:
    transport = ASGITransport(app, client=(address, 1))
    async with lifespan(app), AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


async def test_in_dev_metrics_are_for_this_host_alone_unless_there_is_a_token(settings: Settings) -> None:
    statuses: list[int] = []
    for address in ("127.0.0.1", "::1", "192.0.2.1", "unix"):
        async with asking(surrounded(Parts.made_for(settings)), address) as shop:
            statuses.append((await shop.get(METRICS)).status_code)
    assert statuses == [200, 200, 404, 404]
    async with asking(surrounded(Parts.made_for(settings))) as shop:
        for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
            assert (await shop.get(METRICS, headers={name: "127.0.0.1"})).status_code == 404


async def test_in_production_metrics_are_for_nobody_unless_there_is_a_token(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": "production"})
    async with asking(surrounded(Parts.made_for(production))) as shop:
        assert (await shop.get(METRICS)).status_code == 404
    known = production.model_copy(update={"metrics_token": SecretStr(TOKEN)})
    async with asking(surrounded(Parts.made_for(known))) as shop:
        answers = [await shop.get(METRICS, headers=sent) for sent in ({}, {"Authorization": f"Bearer {TOKEN}"})]
    assert [answer.status_code for answer in answers] == [401, 200]


async def test_with_a_token_metrics_are_for_who_has_it(settings: Settings) -> None:
    known = settings.model_copy(update={"metrics_token": SecretStr(TOKEN)})
    async with asking(surrounded(Parts.made_for(known)), "192.0.2.1") as shop:
        assert (await shop.get(METRICS, headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200
        for sent in (b"", b"Bearer x", TOKEN.encode(), b"Bearer \xe9"):
            refused = await shop.get(METRICS, headers={b"Authorization": sent})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.headers["content-type"] == "application/problem+json"
            assert "http_requests" not in refused.text
    async with asking(surrounded(Parts.made_for(known))) as shop:
        assert (await shop.get(METRICS)).status_code == 401
    with pytest.raises(ValidationError):
        Settings.model_validate({"metrics_token": "short"})


async def test_metrics_are_never_cached(shop: AsyncClient) -> None:
    answers = [await shop.get(METRICS) for _ in range(2)]
    assert [is_hit(answer) for answer in answers] == [False, False]
    assert answers[0].headers["cache-control"] == "no-store"
    assert answers[0].headers["content-type"].startswith("text/plain; version=")
    assert answers[0].text != answers[1].text
