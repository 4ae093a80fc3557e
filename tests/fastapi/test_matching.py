"""The route that is found is the one that FastAPI itself would run."""

import asyncio
from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Match, Mount, Router

from tiercel import Cache, Policy
from tiercel._core.entry import Header as Field
from tiercel._core.plan import RouteRules
from tiercel.fastapi._routes import RouteTable

Scope = MutableMapping[str, Any]


def table_of(app: FastAPI, cache: Cache, default: Policy | None = None) -> RouteTable:
    return RouteTable(app, engine=cache.engine, declarations=cache.declarations, default=default)


def scope_of(
    url: str = "/", *, method: str = "GET", headers: Iterable[Field] = (), root_path: str = "", **more: Any
) -> Scope:
    path, _, query = url.partition("?")
    return {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(b"host", b"shop"), *headers],
        **more,
    }


def by_query(q: str = "", limit: int = 10) -> None: ...


class ByVersion(APIRoute):
    """A route that is chosen by a header field, as recipes for versioned interfaces have it."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        match, child = super().matches(scope)
        if match is Match.FULL and dict(scope["headers"]).get(b"x-version") != b"2":
            return Match.NONE, {}
        return match, child


class Odd(BaseRoute):
    """A route of a kind that nobody knows."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        return (Match.FULL if scope["path"] == "/odd" else Match.NONE), {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("odd")(scope, receive, send)


async def starlette_page(request: Request) -> Response:
    return PlainTextResponse("")


async def websocket_page(websocket: WebSocket) -> None: ...


def name_of(rules: RouteRules) -> str:
    tags = rules.policy.tags
    assert not callable(tags)
    return tags[0]


class Everything:
    """An application of all kinds of routes; each endpoint answers with its name."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.app = FastAPI()
        self.plain()
        self.included()
        self.versioned()
        self.mounted()
        self.hosted()
        self.table = table_of(self.app, self.cache)

    def plain(self) -> None:
        router = self.app.router
        self.add(router, "/items/special", "special", cached=False)
        self.add(router, "/items/{item_id:int}", "by int")
        self.add(router, "/items/{item_id}", "by text")
        self.add(router, "/items/{item_id}", "shadowed")
        self.add(router, "/both", "both", methods=["GET", "HEAD"])
        self.add(router, "/post", "post", methods=["POST"], cached=False)
        self.add(router, "/post", "get after post")
        router.add_api_websocket_route("/both", websocket_page)
        router.add_route("/star", starlette_page)
        self.add(router, "/star", "behind a route of Starlette")

    def included(self) -> None:
        inner, outer = APIRouter(prefix="/inner"), APIRouter()
        self.add(inner, "/leaf", "leaf")
        self.add(inner, "/{rest:path}", "inner rest", cached=False)
        outer.include_router(inner, prefix="/outer")
        self.add(outer, "/files/{name:path}", "files")
        self.app.include_router(outer, prefix="/v1")
        self.app.include_router(inner, prefix="/v2")

    def versioned(self) -> None:
        def direct() -> Response:
            return PlainTextResponse("direct")

        declared = self.cache.response(ttl=60, tags="direct")(direct)
        self.app.router.routes += [ByVersion("/direct", declared), Odd()]
        versions = APIRouter(prefix="/versions", route_class=ByVersion)
        self.add(versions, "/x", "version two")
        self.app.include_router(versions)
        self.add(self.app.router, "/versions/x", "version one")
        self.add(self.app.router, "/odd", "behind an odd route")

    def mounted(self) -> None:
        app, shop, rooted, router = self.app, FastAPI(), FastAPI(), APIRouter()
        self.add(shop.router, "/", "shop root")
        self.add(shop.router, "/{item}", "shop item")
        app.mount("/shop", CORSMiddleware(shop, allow_origins=["*"]))
        self.add(app.router, "/shop/never", "behind a mount")
        rooted.root_path = "/elsewhere"
        self.add(rooted.router, "/rooted/x", "rooted")
        app.mount("/rooted", rooted)
        self.add(router, "/r", "in a mounted router", cached=False)
        routes: list[BaseRoute] = [Mount("/deep", routes=[Mount("/er", app=router)])]
        routes.append(Mount("/wrapped", app=shop, middleware=[Middleware(CORSMiddleware)]))
        app.mount("/star-app", Starlette(routes=routes))
        app.mount("/nothing", PlainTextResponse("nothing"))
        self.add(app.router, "/nothing/x", "behind nothing")

    def hosted(self) -> None:
        admin, hosts = FastAPI(), APIRouter()
        self.add(admin.router, "/items/1", "admin")
        self.app.router.routes.insert(0, Host("admin.{place}", app=admin))
        hosts.routes.append(Host("tenant.shop", app=admin))
        self.app.include_router(hosts, prefix="/hosted")

    def add(
        self, router: APIRouter, path: str, name: str, *, cached: bool = True, methods: list[str] | None = None
    ) -> None:
        def endpoint() -> Response:
            return PlainTextResponse(name)

        declared = self.cache.response(ttl=60, tags=name)(endpoint) if cached else endpoint
        router.add_api_route(path, declared, methods=methods, name=name)

    def resolved(self, scope: Scope) -> str | None:
        target = self.table(scope)
        return None if target is None else name_of(target.rules)

    async def answered(self, scope: Scope) -> str:
        """What the application itself answers."""
        said: list[Any] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        await self.app(dict(scope), receive, send)
        body = b"".join(message.get("body", b"") for message in said[1:])
        return f"{said[0]['status']} {body.decode()}"


PATHS = [
    *(
        "/",
        "/items",
        "/items/1",
        "/items/x",
        "/items/special",
        "/items/1/",
        "/both",
        "/post",
        "/star",
        "/outer/inner/leaf",
    ),
    *(
        "/v1/outer/inner/leaf",
        "/v1/outer/inner/other",
        "/v1/files/a/b.txt",
        "/v1/files/",
        "/v2/inner/leaf",
        "/v2/inner/",
    ),
    *(
        "/direct",
        "/odd",
        "/versions/x",
        "/shop",
        "/shop/",
        "/shop/a",
        "/shop/a/b",
        "/shop/never",
        "/rooted/rooted/x",
        "/rooted/x",
    ),
    *("/star-app/deep/er/r", "/star-app/wrapped/a", "/star-app/deep", "/hosted/items/1", "/nothing/x"),
    *("/docs", "/items/é", "/items/%2F", "//items/1", "/items//1"),
]
HOSTS = [b"shop", b"admin.here", b"ADMIN.here:80", b"tenant.shop", b"", b"[::1]:80", b"a b"]
VERSIONS = [b"1", b"2"]
ROOTS = ["", "/items", "/shop", "/api"]


@pytest.fixture(scope="module")
def everything() -> Everything:
    return Everything()


def asking(path: str, method: str, headers: tuple[Field, ...], root: str) -> Scope:
    return {**scope_of(path, method=method, root_path=root), "headers": list(headers)}


scopes = st.builds(
    asking,
    path=st.sampled_from(PATHS) | st.lists(st.sampled_from(PATHS), min_size=2, max_size=2).map("".join),
    method=st.sampled_from(["GET", "HEAD", "POST", "QUERY"]),
    headers=st.tuples(
        st.sampled_from(HOSTS).map(lambda host: (b"host", host)),
        st.sampled_from(VERSIONS).map(lambda version: (b"x-version", version)),
    ),
    root=st.sampled_from(ROOTS),
)


@given(scope=scopes)
def test_the_route_that_is_found_is_the_one_that_answers(everything: Everything, scope: Scope) -> None:
    resolved = everything.resolved(scope)
    answered = asyncio.run(everything.answered(scope))
    if resolved is None:
        cached = {f"200 {name_of(route.plan.rules)}" for route in everything.table.cached()}
        assert answered not in cached or scope["method"] == "POST"
    else:
        assert answered == f"200 {resolved}"


FOUND = [
    ("/items/1", b"shop", "by int"),
    ("/items/x", b"shop", "by text"),
    ("/items/special", b"shop", None),
    ("/post", b"shop", "get after post"),
    ("/star", b"shop", None),
    ("/v1/outer/inner/leaf", b"shop", "leaf"),
    ("/v1/files/a/b", b"shop", "files"),
    ("/v2/inner/leaf", b"shop", "leaf"),
    ("/shop/", b"shop", "shop root"),
    ("/shop/a", b"shop", "shop item"),
    ("/shop/never", b"shop", "shop item"),
    ("/rooted/x", b"shop", "rooted"),
    ("/star-app/wrapped/a", b"shop", "shop item"),
    ("/items/1", b"admin.here", "admin"),
    ("/hosted/items/1", b"tenant.shop", "admin"),
    ("/nothing/x", b"shop", None),
    ("/items/1/", b"shop", None),
    ("/odd", b"shop", None),
]


@pytest.mark.parametrize(("path", "host", "name"), FOUND)
def test_a_route_is_found(everything: Everything, path: str, host: bytes, name: str | None) -> None:
    assert everything.resolved({**scope_of(path), "headers": [(b"host", host)]}) == name


def test_routes_are_named_as_people_write_them(everything: Everything) -> None:
    labels = {route.plan.rules.label for route in everything.table.cached()}
    assert {
        "GET /items/{item_id}",
        "GET /v1/outer/inner/leaf",
        "GET /v1/files/{name}",
        "GET /shop/{item}",
        "GET /star-app/wrapped/{item}",
        "GET admin.{place}/items/1",
    } <= labels


def test_behind_a_route_that_looks_at_more_nothing_follows_from_the_url(everything: Everything) -> None:
    assert not everything.table.by_url
    before, after = (everything.table(scope_of(path)) for path in ("/items/1", "/shop/a"))
    assert before is not None
    assert before.rules.by_url
    assert after is not None
    assert not after.rules.by_url


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_http_request_is_not_for_the_cache(everything: Everything, kind: str) -> None:
    assert everything.table({**scope_of("/both"), "type": kind}) is None
    assert not everything.table.is_declared({**scope_of("/both"), "type": kind})


def test_is_declared_is_asked_for_less(everything: Everything) -> None:
    assert everything.table.is_declared(scope_of("/items/1"))
    assert not everything.table.is_declared(scope_of("/items/special"))
    assert not everything.table.is_declared(scope_of("/items/1", method="POST"))


def test_in_headers_mode_all_that_is_not_declared_goes_by_its_url() -> None:
    cache, app = Cache(), FastAPI()
    app.add_api_route("/cached", cache.response(ttl=1)(by_query))
    app.add_api_route("/other", by_query)
    table = table_of(app, cache, Policy(ttl=5))
    for url in ("/other?a=1", "/missing"):
        target = table(scope_of(url))
        assert target is not None
        assert not target.rules.declared
        assert target.rules.policy == Policy(ttl=5)
        assert target != table(scope_of(url + "&b=1"))
    declared = table(scope_of("/cached?a=1"))
    assert declared is not None
    assert declared.rules.declared
    assert table(scope_of("/other", method="POST")) is None


def test_an_application_mounted_in_itself_ends_somewhere() -> None:
    cache, app = Cache(), FastAPI()
    app.mount("/again", app)
    app.add_api_route("/x", cache.response(ttl=1)(by_query))
    target = table_of(app, cache)(scope_of("/again/again/x"))
    assert target is not None


def test_a_mounted_router_without_application_is_read_as_well() -> None:
    cache, app = Cache(), FastAPI()
    app.mount("/m", Router(routes=[Mount("/n", app=Router(routes=[APIRoute("/x", cache.response(ttl=1)(by_query))]))]))
    target = table_of(app, cache)(scope_of("/m/n/x?q=1"))
    assert target is not None
    assert target.rules.label == "GET /m/n/x"
