"""What would be done with a request, and that asking changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import APIKeyHeader

from tiercel import Cache
from tiercel._core.events import Event
from tiercel._engine.explain import Explanation
from tiercel.errors import ConfigurationError
from tiercel.testing import VirtualClock

pytestmark = pytest.mark.usefixtures("road")


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


class Shop:
    """An application, a client, and what the cache says of requests like those of the client."""

    def __init__(self, clock: VirtualClock, **install: Any) -> None:
        self.seen = Seen()
        self.cache = Cache(clock=clock, jitter=0.0, draw=lambda: 0.0, observers=[self.seen])
        self.app = FastAPI()
        self.cache.install(self.app, **install)
        transport = httpx.ASGITransport(app=self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://shop", headers={"user-agent": "a"})

        @self.app.get("/products/{product_id}")
        @self.cache.response(ttl=60, stale_while_revalidate=30, tags="product:{product_id}", vary="accept-language")
        async def read(product_id: int) -> int:
            return product_id

        @self.app.get("/me")
        @self.cache.response(ttl=60)
        async def me(key: Annotated[str, Depends(APIKeyHeader(name="x-key"))]) -> str:
            return key

        @self.app.get("/plain")
        async def plain(response: Response, lifetime: int = 60) -> str:
            response.headers["cache-control"] = f"max-age={lifetime}"
            return "plain"

    def scope(self, path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
        request = self.http.build_request(
            method, path, headers={name.replace("_", "-"): headers[name] for name in headers}
        )
        return {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "root_path": "",
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }

    def explain(self, path: str, method: str = "GET", **headers: str) -> Explanation:
        return self.cache.explain(self.scope(path, method, **headers))

    def says(self, path: str, method: str = "GET", **headers: str) -> tuple[str, str]:
        explained = self.explain(path, method, **headers)
        return explained.decision, explained.detail


@pytest.fixture
async def shop(clock: VirtualClock) -> AsyncIterator[Shop]:
    shop = Shop(clock)
    async with shop.http:
        yield shop


async def test_a_miss_becomes_a_hit_and_that_stale_and_that_expired(shop: Shop) -> None:
    assert shop.explain("/products/7") == Explanation(
        route="GET /products/{product_id}",
        position="front",
        shape=shop.explain("/products/7").shape,
        key=shop.explain("/products/7").key,
        decision="miss",
        detail="uri-miss",
    )
    await shop.http.get("/products/7")
    found = shop.explain("/products/7")
    assert (found.decision, found.detail, found.ttl, found.tags[0]) == ("hit", "", 60.0, "product:7")
    assert len(found.key) == 32
    await asyncio.sleep(75)
    found = shop.explain("/products/7")
    assert (found.decision, found.detail, found.ttl) == ("stale", "", -15.0)
    await asyncio.sleep(15)
    found = shop.explain("/products/7")
    assert (found.decision, found.detail, found.ttl) == ("miss", "stale; expired", -30.0)


async def test_what_selects_decides_as_it_does_for_a_request(shop: Shop) -> None:
    await shop.http.get("/products/7", headers={"accept-language": "de"})
    assert shop.says("/products/7", accept_language="de") == ("hit", "")
    assert shop.says("/products/7", accept_language="fr") == ("miss", "vary-miss")
    assert shop.says("/products/7?utm=1", accept_language="de") == ("hit", "")
    assert shop.says("/products/8", accept_language="de") == ("miss", "uri-miss")


async def test_an_invalidation_counts_at_once_and_softly_where_it_was_soft(shop: Shop) -> None:
    await shop.http.get("/products/7")
    await shop.cache.invalidate("product:7", soft=True)
    found = shop.explain("/products/7")
    assert (found.decision, found.ttl) == ("stale", 0.0)
    await shop.cache.invalidate("product:7")
    assert shop.says("/products/7") == ("miss", "uri-miss")


async def test_what_is_not_for_the_cache_is_said_to_be_left_alone(shop: Shop) -> None:
    untouched = Explanation(decision="untouched")
    assert shop.explain("/plain") == shop.explain("/nowhere") == untouched
    assert shop.explain("/products/7", "POST") == untouched
    assert shop.cache.explain({**shop.scope("/products/7"), "type": "websocket"}) == untouched
    assert shop.says("/products/7", content_length="5") == ("bypass", "request-content")


async def test_a_guarded_route_is_decided_by_whom_its_dependencies_let_pass(shop: Shop) -> None:
    await shop.http.get("/me", headers={"x-key": "a"})
    found = shop.explain("/me", x_key="a")
    assert (found.route, found.position, found.decision, found.detail) == ("GET /me", "guarded", "unknown", "identity")
    assert found.key


async def test_in_headers_mode_the_rules_of_the_installation_hold(clock: VirtualClock) -> None:
    shop = Shop(clock, mode="headers", obey_requests=True)
    assert shop.says("/plain") == ("miss", "uri-miss")
    await shop.http.get("/plain")
    assert shop.says("/plain") == ("hit", "")
    assert shop.says("/plain", cache_control="no-cache") == ("miss", "request; request-no-cache")
    assert shop.says("/plain?lifetime=7", cache_control="only-if-cached") == ("refuse", "only-if-cached")
    assert shop.says("/plain", "QUERY") == ("unknown", "request-content")
    assert shop.explain("/plain").route == "*"
    await shop.http.aclose()


async def test_asking_changes_nothing(shop: Shop) -> None:
    for number in range(3):
        await shop.http.get(f"/products/{number}")
    await shop.cache.invalidate("product:1")
    memory = shop.cache.engine.tiers.memory

    def state() -> object:
        slots = [(key, slot.freq, slot.value, getattr(slot.value, "entries", ())) for key, slot in memory.entries()]
        return slots, shop.cache.stats(), len(shop.seen.events)

    before = state()
    for path in ("/products/0", "/products/1", "/products/9", "/me", "/plain"):
        shop.explain(path)
    assert state() == before


@pytest.mark.parametrize("given", ["/products/1", None, {}, {"type": "http", "path": "/products/1"}], ids=str)
async def test_what_is_neither_a_request_nor_a_scope_is_refused(shop: Shop, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^cache.explain\(.*\): it takes a request, .* or an ASGI scope"):
        shop.cache.explain(given)


async def test_a_request_can_be_explained_by_the_endpoint_that_answers_it(shop: Shop) -> None:
    """There, routing has changed the scope: in a mounted application, its root path."""
    inner, seen = FastAPI(), list[Explanation]()
    shop.app.mount("/inner", inner)

    @inner.get("/{number}")
    @shop.cache.response(ttl=60)
    async def within(number: int, request: Request) -> int:
        seen.append(shop.cache.explain(request))
        return number

    await shop.http.get("/inner/5")
    assert seen == [shop.explain("/inner/5")]
    assert (seen[0].route, seen[0].position) == ("GET /inner/{number}", "guarded")


async def test_what_is_asked_within_a_fill_is_nothing_that_the_application_has_read(clock: VirtualClock) -> None:
    """There, the names of the request fields record who looks at them."""
    cache, app, seen = Cache(clock=clock), FastAPI(), list[str]()

    class Explaining:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(cache.explain(scope).decision)
            await self.app(scope, receive, send)

    app.add_middleware(Explaining)
    cache.install(app)
    app.get("/a")(cache.response(ttl=60)(_answer))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as http:
        for accept in ("text/html", "application/json"):
            await http.get("/a", headers={"accept": accept})
    assert seen == ["miss"]


async def test_of_two_applications_with_one_cache_the_one_that_is_named_is_asked(clock: VirtualClock) -> None:
    cache, apps = Cache(clock=clock), [FastAPI(), FastAPI()]
    for app, path in zip(apps, ("/a", "/{name}"), strict=True):
        cache.install(app)
        app.get(path)(cache.response(ttl=60)(_answer))
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/a", "root_path": "", "query_string": b""}
    scope["headers"] = []
    assert [cache.explain({**scope, "app": app}).route for app in apps] == ["GET /a", "GET /{name}"]
    assert cache.explain(scope).route == "GET /a"
    assert cache.explain({**scope, "path": "/b"}).route == "GET /{name}"


async def _answer() -> int:
    return 1
