"""What the README says about what stands around the application: limits, headers, health."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from httpx import AsyncClient, Response
from pydantic import ValidationError
from redis_server import Server, free_port
from shop_client import bearer, client_of, is_hit, lifespan
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn_server import serving

from storefront.logs import OfRequest
from storefront.main import surrounded
from storefront.middleware import REQUEST_ID, BodyLimited, Identified
from storefront.parts import Parts
from storefront.settings import Settings

SHOP, OTHER = "https://shop.example", "https://partner.example"


@asynccontextmanager
async def shop_with(settings: Settings, **more: object) -> AsyncGenerator[AsyncClient]:
    app = surrounded(Parts.made_for(settings.model_copy(update=more)))
    async with lifespan(app), client_of(app) as shop:
        yield shop


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "redis"])
def rate_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    server: Server = request.getfixturevalue("redis")
    server.ask("FLUSHALL")
    return server.url


def refused(answer: Response) -> bool:
    if answer.status_code != 429:
        return False
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 3600
    assert answer.headers["cache-control"] == "no-store"
    assert "cache-status" not in answer.headers
    return True


async def test_hits_in_front_are_limited_too_and_a_429_is_never_stored(settings: Settings, rate_url: str) -> None:
    async with shop_with(settings, rate="5/hour", rate_url=rate_url) as shop:
        answers = [await shop.get("/products/1") for _ in range(7)]
        assert [is_hit(answer) for answer in answers] == [False, True, True, True, True, False, False]
        assert [refused(answer) for answer in answers] == [False] * 5 + [True] * 2
        assert (await shop.get("http://shop/healthz")).status_code == 200


async def test_an_address_that_was_refused_costs_another_nothing(settings: Settings, rate_url: str) -> None:
    app = surrounded(Parts.made_for(settings.model_copy(update={"rate": "2/hour", "rate_url": rate_url})))
    async with lifespan(app):
        for address in ("192.0.2.1", "192.0.2.2"):
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with AsyncClient(transport=transport, base_url="http://shop/api/v1") as shop:
                answers = [await shop.get("/products/1") for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_searches_and_logins_have_stricter_rates(settings: Settings) -> None:
    async with shop_with(settings, rate_search="2/hour", rate_login="1/hour") as shop:
        searches = [await shop.get(url) for url in ("/products", "/products/facets", "/stats/prices")]
        assert [refused(answer) for answer in searches] == [False, False, True]
        logins = [await shop.post("/token", data={"username": "alice", "password": "x"}) for _ in range(2)]
        assert [answer.status_code for answer in logins] == [400, 429]
        assert (await shop.get("/products/1")).status_code == 200


async def test_a_user_is_limited_on_every_address_and_on_hits(settings: Settings, rate_url: str) -> None:
    async with shop_with(settings, rate_user="3/hour", rate_url=rate_url) as shop:
        alice, bob = await bearer(shop, "alice", "wonderland"), await bearer(shop, "bob", "christmas")
        answers = [await shop.get("/orders", headers=alice) for _ in range(4)]
        assert [is_hit(answer) for answer in answers] == [False, True, True, False]
        assert (answers[3].status_code, "stored" in answers[3].headers.get("cache-status", "")) == (429, False)
        assert (await shop.get("/orders", headers=bob)).status_code == 200


async def test_workers_count_together_in_redis(settings: Settings, redis: Server) -> None:
    redis.ask("FLUSHALL")
    shared = {"rate": "3/hour", "rate_url": redis.url}
    async with shop_with(settings, **shared) as one, shop_with(settings, **shared) as two:
        answers = [await shop.get("/products/1") for shop in (one, two, one, two)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


@pytest.mark.parametrize("how", ["gone", "frozen"])
async def test_where_redis_does_not_answer_nobody_is_turned_away(
    settings: Settings, redis: Server, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    place = redis.url if how == "frozen" else f"redis://127.0.0.1:{free_port()}"
    redis.freeze()
    try:
        async with shop_with(settings, rate="1/hour", rate_url=place) as shop:
            assert [(await shop.get("/products/1")).status_code for _ in range(2)] == [200, 200]
    finally:
        redis.thaw()
    assert "not counted" in caplog.text


@pytest.mark.parametrize("given", [{"rate": "often"}, {"cors_origins": ["*"]}, {"body_limit": 0}])
def test_a_setting_that_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(given)


# -- headers -----------------------------------------------------------------------------------------------------------


async def test_no_header_of_one_request_is_replayed_by_a_hit(shop: AsyncClient) -> None:
    answers = [await shop.get("/products/1", headers={"X-Request-ID": f"request-{n}"}) for n in range(3)]
    answers.append(await shop.get("/products/1"))
    assert [is_hit(answer) for answer in answers] == [False, True, True, True]
    ids = [answer.headers.get_list("x-request-id") for answer in answers]
    assert ids[:3] == [["request-0"], ["request-1"], ["request-2"]]
    assert len(ids[3][0]) == 16
    assert all(len(answer.headers.get_list("server-timing")) == 1 for answer in answers)


async def test_a_request_id_that_could_forge_the_log_is_replaced(shop: AsyncClient) -> None:
    for sent in ("x", "a b c d e f g h", "x" * 65, 'id"},{"forged'):
        answer = await shop.get("/products/1", headers={"X-Request-ID": sent})
        assert answer.headers["x-request-id"] != sent


async def test_every_line_of_the_log_can_name_its_request(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inner(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(REQUEST_ID.get())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    seen: list[str] = []
    caplog.set_level(logging.INFO, "storefront.requests")
    monkeypatch.setattr(caplog.handler, "filters", [OfRequest()])
    async with client_of(Identified(inner)) as shop:
        answer = await shop.get("/x", headers={"X-Request-ID": "request-7"})
    assert (answer.status_code, seen, REQUEST_ID.get()) == (204, ["request-7"], "-")
    told = [(vars(record)["request_id"], record.getMessage().partition(" in ")[0]) for record in caplog.records]
    assert ("request-7", "GET /api/v1/x 204") in told


async def test_cors_is_right_for_two_origins_and_silent_for_others(settings: Settings) -> None:
    async with shop_with(settings, cors_origins=(SHOP, OTHER)) as shop:
        answers = [
            await shop.get("/products/1", headers={"Origin": origin}) for origin in (SHOP, OTHER, "https://evil")
        ]
        answers.append(await shop.get("/products/1"))
        assert [is_hit(answer) for answer in answers] == [False, True, True, True]
        allowed = [answer.headers.get("access-control-allow-origin") for answer in answers]
        assert allowed == [SHOP, OTHER, None, None]
        assert all("Origin" in answer.headers["vary"] for answer in answers[:2])
        asked = {"Origin": OTHER, "Access-Control-Request-Method": "PATCH"}
        assert (await shop.options("/products/1", headers=asked)).headers["access-control-allow-origin"] == OTHER


@pytest.mark.parametrize("url", ["/products/1", "/products/999999", "/me", "http://shop/healthz"])
async def test_every_answer_tells_browsers_to_be_careful(shop: AsyncClient, url: str) -> None:
    for _ in range(2):
        answer = await shop.get(url)
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert ("content-security-policy" in answer.headers) == ("/api/" in str(answer.url))


async def test_an_answer_500_has_its_headers_too(settings: Settings) -> None:
    parts = Parts.made_for(settings.model_copy(update={"cors_origins": (SHOP,)}))
    transport = httpx.ASGITransport(surrounded(parts), raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://shop/api/v1") as shop:
        async with parts.database.engine.begin() as connection:
            await connection.exec_driver_sql("DROP TABLE reviews")
        answer = await shop.get("/products/1/reviews", headers={"Origin": SHOP})
    await parts.database.aclose()
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert len(answer.headers["x-request-id"]) == 16


async def test_a_host_that_is_not_ours_is_refused_and_never_part_of_an_entry(shop: AsyncClient) -> None:
    await shop.get("/products/1")
    answer = await shop.get("/products/1", headers={"Host": "evil.example"})
    assert (answer.status_code, is_hit(await shop.get("/products/1"))) == (400, True)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_a_413(settings: Settings, *, announced: bool) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b'"' + b"x" * 98 + b'"'

    async with shop_with(settings, body_limit=1_000) as shop:
        alice = await bearer(shop, "alice", "wonderland")
        body = b"x" * 2_000 if announced else in_pieces()
        json = {**alice, "Content-Type": "application/json"}
        answer = await shop.patch("/products/1", content=body, headers=json)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert (await shop.patch("/products/1", json={"price": 1}, headers=alice)).status_code == 200


async def test_an_application_that_ignores_a_large_body_has_answered_already() -> None:
    sent: list[Message] = []

    async def inner(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"xx"}

    async def send(message: Message) -> None:
        sent.append(message)

    await BodyLimited(inner, limit=1)({"type": "http", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


# -- health ------------------------------------------------------------------------------------------------------------


async def test_health_and_readiness_are_never_cached(shop: AsyncClient) -> None:
    for url in ("http://shop/healthz", "http://shop/readyz"):
        for answer in [await shop.get(url) for _ in range(2)]:
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
            assert "cache-status" not in answer.headers
    assert (await shop.get("http://shop/readyz")).json() == {"database": "ok", "store": "ok"}


async def test_readiness_tells_of_a_database_that_is_gone_and_of_a_store(settings: Settings, tmp_path: Path) -> None:
    parts = Parts.made_for(settings.model_copy(update={"cache_url": f"redis://127.0.0.1:{free_port()}"}))
    app: ASGIApp = surrounded(parts)
    async with lifespan(app), client_of(app) as shop:
        ready = await shop.get("http://shop/readyz")
        assert (ready.status_code, ready.json()) == (200, {"database": "ok", "store": "unreachable"})
    gone = Parts.made_for(settings.model_copy(update={"database_url": f"sqlite+aiosqlite:///{tmp_path}/no/such.db"}))
    async with client_of(surrounded(gone)) as shop:
        ready = await shop.get("http://shop/readyz")
        assert (ready.status_code, ready.json()) == (503, {"database": "unreachable", "store": "ok"})
        assert (await shop.get("http://shop/healthz")).status_code == 200


def test_under_a_real_server_all_of_it_is_in_place(settings: Settings) -> None:
    with serving(settings) as place, httpx.Client(base_url=place, timeout=20) as shop:
        answers = [shop.get("/api/v1/products/1", headers={"X-Request-ID": f"request-{n}"}) for n in range(2)]
    assert [is_hit(answer) for answer in answers] == [False, True]
    assert [answer.headers["x-request-id"] for answer in answers] == ["request-0", "request-1"]
    assert {answer.headers["x-frame-options"] for answer in answers} == {"DENY"}
