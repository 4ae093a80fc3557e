"""A cache in an application."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Header, Request, Response, WebSocket
from starlette.applications import Starlette

from tiercel import Cache, ConfigurationError, Policy
from tiercel._engine.observed import Watch
from tiercel.fastapi import CacheDep
from tiercel.testing import SimulatedServer, SimulatedStore

Next = Callable[[Request], Awaitable[Response]]


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://shop", headers={"user-agent": "a"}
    )


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


class Counting:
    """An application with one cached route that counts its calls."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.app = FastAPI()
        self.calls = 0

    def declare(self) -> None:
        @self.app.get("/count")
        @self.cache.response(ttl=60)
        async def count() -> int:
            self.calls += 1
            return self.calls


async def test_a_declared_route_is_answered_from_the_cache() -> None:
    shop = Counting()
    shop.cache.install(shop.app)
    shop.declare()
    async with client(shop.app) as http:
        answers = [await http.get("/count") for _ in range(3)]
    assert [answer.text for answer in answers] == ["1"] * 3
    assert [status(answer) for answer in answers] == ["tiercel; fwd=uri-miss; stored"] + ["tiercel; hit"] * 2


async def test_a_route_that_was_declared_before_the_installation_is_answered_as_well() -> None:
    shop = Counting()
    shop.declare()
    shop.cache.install(shop.app)
    async with client(shop.app) as http:
        assert [(await http.get("/count")).text for _ in range(2)] == ["1", "1"]


# -- what middleware outside reads -----------------------------------------------------------------------------------

tenant: ContextVar[str] = ContextVar("tenant", default="")


class Tenants:
    """Takes identity from a field, and hands it in by a context variable, where no dependency tree shows it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            tenant.set(next((value.decode() for name, value in scope["headers"] if name == b"x-tenant"), ""))
        await self.app(scope, receive, send)


@pytest.mark.parametrize("outside", [True, False])
async def test_identity_that_a_middleware_takes_from_a_field_selects(outside: bool) -> None:  # noqa: FBT001
    cache, app = Cache(), FastAPI()
    if outside:
        cache.install(app)
        app.add_middleware(Tenants)
    else:
        app.add_middleware(Tenants)
        cache.install(app)

    @app.get("/who")
    @cache.response(ttl=60)
    async def who() -> str:
        return tenant.get()

    async with client(app) as http:
        said = [
            (await http.get("/who", headers={"x-tenant": name} if name else {})).json()
            for name in ("ada", "bob", "", "ada", "bob", "")
        ]
        again = await http.get("/who", headers={"x-tenant": "ada", "accept-language": "de"})
    assert said == ["ada", "bob", ""] * 2
    assert status(again) == "tiercel; hit"
    assert again.headers["vary"] == "x-tenant"


class Copying(Tenants):
    """Copies the fields first: nothing shows which of them it wants, and which it finds absent."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            tenant.set(dict(scope["headers"]).get(b"x-tenant", b"").decode())
        await self.app(scope, receive, send)


@pytest.mark.parametrize("outside", [True, False])
async def test_identity_from_a_copy_of_all_fields_reaches_nobody_else(outside: bool) -> None:  # noqa: FBT001
    cache, app = Cache(), FastAPI()
    if outside:
        cache.install(app)
        app.add_middleware(Copying)
    else:
        app.add_middleware(Copying)
        cache.install(app)

    @app.get("/who")
    @cache.response(ttl=60)
    async def who() -> str:
        return tenant.get()

    async with client(app) as http:
        names = ["", "ada", "bob", "", "ada"]
        answers = [await http.get("/who", headers={"x-tenant": name} if name else {}) for name in names]
    assert [answer.json() for answer in answers] == names
    assert status(answers[-1]) == "tiercel; hit"


@pytest.mark.called
async def test_a_middleware_outside_is_watched_where_the_answer_may_be_stored() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    seen: list[object] = []

    @app.middleware("http")
    async def look(request: Request, call_next: Next) -> Response:
        seen.append(request.scope.get("tiercel.watch"))
        return await call_next(request)

    @app.get("/cached")
    @cache.response(ttl=60)
    async def cached() -> None: ...

    @app.get("/other")
    async def other() -> None: ...

    async with client(app) as http:
        await http.get("/cached")
        await http.get("/other")
        await http.post("/cached")
    assert isinstance(seen[0], Watch)
    # It may rewrite the path, and so decide which route answers: whatever may be stored is watched.
    assert [isinstance(one, Watch) for one in seen[1:]] == [True, False]


async def test_a_stack_that_is_built_twice_works() -> None:
    shop = Counting()
    shop.cache.install(shop.app)
    shop.app.add_middleware(Tenants)
    shop.declare()
    shop.app.middleware_stack = shop.app.build_middleware_stack()
    shop.app.middleware_stack = shop.app.build_middleware_stack()
    async with client(shop.app) as http:
        assert [(await http.get("/count")).text for _ in range(2)] == ["1", "1"]


# -- the cache as a dependency ---------------------------------------------------------------------------------------


def asks_for_the_cache(router: APIRouter) -> None:
    @router.get("/mine")
    async def mine(cache: CacheDep) -> int:
        return id(cache)


async def test_the_installed_cache_is_injected_also_where_applications_are_mounted() -> None:
    cache, app, inner, router = Cache(), FastAPI(), FastAPI(), APIRouter(prefix="/in")
    asks_for_the_cache(app.router)
    asks_for_the_cache(inner.router)
    asks_for_the_cache(router)
    app.mount("/inner", inner)
    app.include_router(router)
    cache.install(app)
    async with client(app) as http:
        for path in ("/mine", "/inner/mine", "/in/mine"):
            assert (await http.get(path)).json() == id(cache)


async def test_the_nearest_cache_is_injected() -> None:
    cache, other, app, inner = Cache(), Cache(), FastAPI(), FastAPI()
    cache.install(app)
    other.install(inner)
    asks_for_the_cache(inner.router)
    app.mount("/inner", inner)
    async with client(app) as http:
        assert (await http.get("/inner/mine")).json() == id(other)


@pytest.mark.called
async def test_without_a_cache_the_dependency_says_what_to_do() -> None:
    app = FastAPI()
    asks_for_the_cache(app.router)
    async with client(app) as http:
        with pytest.raises(ConfigurationError, match=r"/mine.*cache\.install\(app\)"):
            await http.get("/mine")


async def test_a_route_that_asks_for_the_cache_is_answered_in_front() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def read(cache: CacheDep) -> int:
        return cache.stats().hits

    async with client(app) as http:
        first, second = await http.get("/"), await http.get("/")
    assert first.text == second.text
    assert "private" not in first.headers["cache-control"]
    assert status(second) == "tiercel; hit"


def test_a_websocket_that_is_declared_as_cached_is_a_mistake() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.websocket("/ws")
    @cache.response(ttl=60)
    async def socket(websocket: WebSocket) -> None: ...

    with pytest.raises(ConfigurationError, match=r"@cache.response on /ws .*a WebSocket has no response"):
        app.openapi()


async def test_a_websocket_gets_the_cache_too() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    got: list[Cache] = []

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, cache: CacheDep) -> None:
        got.append(cache)

    async def nothing(*_: object) -> Any:
        return {"type": "websocket.connect"}

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/ws",
        "headers": [],
        "query_string": b"",
        "scheme": "ws",
        "subprotocols": [],
    }
    await app(scope, nothing, nothing)
    assert got == [cache]


# -- start and end ---------------------------------------------------------------------------------------------------


async def lived(app: FastAPI) -> list[str]:
    """Start an application and end it; what it says of that."""
    said: list[str] = []
    asked = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(asked)}

    async def send(message: dict[str, str]) -> None:
        said.append(message["type"])

    try:
        await app({"type": "lifespan", "state": {}}, receive, send)  # type: ignore[arg-type]
    except ConfigurationError as error:
        said.append(str(error))
    return said


class Closing(Cache):
    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def aclose(self) -> None:
        self.log.append("closed")
        await super().aclose()


async def test_what_runs_behind_its_callers_ends_before_the_resources_of_the_application() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, str]]:
        log.append("start")
        yield {"name": "shop"}
        log.append("end")

    app = FastAPI(lifespan=lifespan)
    Closing(log).install(app)
    assert await lived(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log == ["start", "closed", "end", "closed"]
    assert (await lived(app))[0] == "lifespan.startup.complete"


async def test_the_cache_is_closed_where_the_application_fails_to_start() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        raise RuntimeError("no database")
        yield

    app = FastAPI(lifespan=lifespan)
    Closing(log).install(app)
    with pytest.raises(RuntimeError, match="no database"):
        await lived(app)
    assert log == ["closed"]


async def test_a_mistake_stops_the_application_at_its_start() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    app.add_middleware(Tenants)

    @app.get("/x")
    @cache.response(ttl=60, tags="x:{y}")
    async def read() -> None: ...

    failed, message = await lived(app)
    assert failed == "lifespan.startup.failed"
    assert "'x:{y}'" in message


async def test_an_application_starts_without_a_store_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    server, app = SimulatedServer(), FastAPI()
    server.refuses = True
    Cache(SimulatedStore(server)).install(app)
    assert await lived(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "The application starts without its shared store" in caplog.text


@pytest.mark.called
async def test_without_a_lifespan_a_mistake_shows_at_the_first_request() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.get("/x")
    @cache.response(ttl=60, tags="x:{y}")
    async def read() -> None: ...

    async with client(app) as http:
        with pytest.raises(ConfigurationError, match=r"x:\{y\}"):
            await http.get("/elsewhere")


# -- modes -----------------------------------------------------------------------------------------------------------


async def test_in_declared_mode_other_responses_are_left_alone() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.get("/other")
    async def other() -> Response:
        return Response("x", headers={"cache-control": "public, max-age=60"})

    async with client(app) as http:
        answers = [await http.get("/other") for _ in range(2)]
    assert ["cache-status" in answer.headers for answer in answers] == [False, False]


async def test_in_headers_mode_what_the_response_permits_is_stored() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app, mode="headers")

    @app.get("/other")
    async def other(x_any: Annotated[str, Header()] = "") -> Response:
        return Response(x_any, headers={"cache-control": "public, max-age=60"})

    async with client(app) as http:
        answers = [await http.get("/other", headers={"x-any": name}) for name in ("a", "b")]
    assert [answer.text for answer in answers] == ["a", "a"], "only Vary counts: RFC 9111 §4.1"
    assert status(answers[1]) == "tiercel; hit"


# -- mistakes --------------------------------------------------------------------------------------------------------


def twice(app: FastAPI) -> None:
    cache = Cache()
    cache.install(app)
    cache.install(app)


def two(app: FastAPI) -> None:
    Cache().install(app)
    Cache().install(app)


def unknown_mode(app: FastAPI) -> None:
    Cache().install(app, mode="all")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def useless_default(app: FastAPI) -> None:
    Cache().install(app, default=Policy(ttl=1))


def started(app: FastAPI) -> None:
    app.middleware_stack = app.build_middleware_stack()
    Cache().install(app)


def starlette(app: FastAPI) -> None:
    Cache().install(Starlette())


@pytest.mark.parametrize(
    ("install", "says"),
    [
        (twice, "already.*once"),
        (two, "another cache already.*Install one"),
        (unknown_mode, "mode='all'.*'declared' or 'headers'"),
        (useless_default, "mode='headers'.*leave"),
        (started, "started already.*where the application is made"),
        (starlette, "not Starlette.*CacheMiddleware"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_to_do(install: Callable[[FastAPI], None], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        install(FastAPI())
