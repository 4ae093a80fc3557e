"""Which declared route a request falls under, and how it is keyed there."""

from collections.abc import Callable, Iterable, MutableMapping
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Form, Header, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyQuery, HTTPBearer

from tiercel import Cache, Policy
from tiercel._core.entry import Header as Field
from tiercel._core.events import Event, Failed
from tiercel._core.plan import RouteRules, Target
from tiercel._engine.guard import CLIENT
from tiercel.fastapi import CacheDep
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


class Shop:
    """An application with one cached route, and what is resolved there."""

    def __init__(self, endpoint: Callable[..., Any], path: str = "/", **policy: Any) -> None:
        self.cache = Cache()
        self.app = FastAPI()
        self.app.add_api_route(path, self.cache.response(ttl=60, **policy)(endpoint))
        self.table = table_of(self.app, self.cache)

    def target(self, url: str = "/", **more: Any) -> Target:
        target = self.table(scope_of(url, **more))
        assert target is not None
        return target

    def rules(self) -> RouteRules:
        return self.target().rules

    def key(self, url: str = "/", **more: Any) -> bytes:
        return self.target(url, **more).primary


# -- the key ---------------------------------------------------------------------------------------------------------


def by_query(q: str = "", limit: int = 10) -> None: ...


SAME_QUERY = [
    ("/?q=1", "/?q=1&utm_source=mail"),
    ("/?q=1&limit=2", "/?limit=2&q=1"),
    ("/?q=a%20b", "/?q=a+b"),
    ("/?q=%61", "/?q=a"),
    ("/", "/?other=1"),
]
OTHER_QUERY = [
    ("/?q=1", "/?q=2"),
    ("/?q=", "/"),
    ("/?q=1&q=2", "/?q=2&q=1"),
    ("/?q=1", "/?q=1&q=1"),
    ("/?q=1", "/?limit=1"),
    ("/?q=1&q=limit", "/?q=1&limit=q"),
    ("/?Q=1", "/?q=1"),
]


@pytest.mark.parametrize(("one", "other"), SAME_QUERY)
def test_query_parameters_that_the_route_cannot_see_or_tell_apart_share_a_key(one: str, other: str) -> None:
    shop = Shop(by_query)
    assert shop.key(one) == shop.key(other)


@pytest.mark.parametrize(("one", "other"), OTHER_QUERY)
def test_declared_query_parameters_make_the_key(one: str, other: str) -> None:
    shop = Shop(by_query)
    assert shop.key(one) != shop.key(other)


def by_request(request: Request) -> None: ...


@pytest.mark.parametrize(("one", "other"), [("/?a=1", "/?a=2"), ("/?a=1&b=2", "/?b=2&a=1"), ("/", "/?a")])
def test_who_takes_the_request_sees_the_whole_query(one: str, other: str) -> None:
    shop = Shop(by_request)
    assert shop.key(one) != shop.key(other)


def by_item(item: str) -> None: ...


def test_the_key_holds_host_scheme_path_and_mount() -> None:
    shop = Shop(by_item, "/{item}")
    assert shop.key("/a") == shop.key("/a")
    assert shop.key("/a") != shop.key("/b")
    assert shop.key("/a") != shop.key("/a", scheme="https")
    assert shop.key("/a") != shop.key("/a", root_path="/api")
    other = {**scope_of("/a"), "headers": [(b"host", b"SHOP")]}
    assert shop.table(other) == shop.target("/a")
    assert shop.table({**other, "headers": [(b"host", b"shop:8000")]}) != shop.target("/a")
    assert shop.table({**other, "headers": []}) != shop.target("/a")


def test_paths_are_compared_as_the_route_is_given_them() -> None:
    shop = Shop(by_item, "/{item}")
    assert shop.key("/a", raw_path=b"/%61") == shop.key("/a")
    assert shop.key("/\udcff") != shop.key("/a")


def test_a_route_that_takes_the_request_is_given_the_raw_path_as_well() -> None:
    shop = Shop(by_request)
    assert shop.key(raw_path=b"/%2e") != shop.key()


def by_cookie(session: Annotated[str | None, Cookie()] = None, theme: Annotated[str, Cookie()] = "") -> None: ...


def test_declared_cookies_make_the_key_and_others_do_not() -> None:
    shop = Shop(by_cookie)

    def key(*lines: bytes) -> bytes:
        return shop.key(headers=[(b"cookie", line) for line in lines])

    assert key(b"session=1; ad=2") == key(b"ad=3; session=1") == key(b'session="1"')
    assert key(b"session=1; theme=2") == key(b"session=1", b"theme=2")
    assert key(b"session=1") != key(b"session=2")
    assert key(b"session=1") != key(b"theme=1")
    assert key(b"session=") != key()
    rules = shop.rules()
    assert (rules.guarded, rules.private, rules.by_url, rules.keyed) == (False, True, False, frozenset())


def test_head_shares_the_key_of_get() -> None:
    cache, app = Cache(), FastAPI()
    app.add_api_route("/", cache.response(ttl=1)(by_query), methods=["GET", "HEAD", "QUERY"])
    table = table_of(app, cache)
    assert table(scope_of(method="HEAD")) == table(scope_of())
    query = table(scope_of(method="QUERY"))
    assert query is not None
    assert query != table(scope_of())


def test_a_key_callable_adds_parts() -> None:
    def key(request: Request) -> tuple[str, str]:
        return request.headers.get("x-a", ""), request.headers.get("x-b", "")

    shop = Shop(by_query, key=key)
    assert shop.key(headers=[(b"x-a", b"1")]) != shop.key(headers=[(b"x-b", b"1")])
    assert shop.key(headers=[(b"x-a", b"1")]) == shop.key("/?other=1", headers=[(b"x-a", b"1"), (b"x-c", b"1")])
    assert (shop.rules().by_url, shop.rules().private, shop.rules().guarded) == (False, False, False)
    assert not shop.table.by_url


def x_user(request: Request) -> str:
    return request.headers["x-user"]


def no_text(request: Request) -> int:
    return 1


def no_text_among_texts(request: Request) -> tuple[str, int]:
    return "a", 1


@pytest.mark.parametrize("key", [x_user, no_text, no_text_among_texts])
def test_a_callable_that_fails_leaves_the_request_to_the_application_and_says_so(key: Any) -> None:
    class Seen:
        def __init__(self) -> None:
            self.events: list[Event] = []

        def on_event(self, event: Event) -> None:
            self.events.append(event)

    seen = Seen()
    cache, app = Cache(observers=[seen]), FastAPI()
    app.add_api_route("/", cache.response(ttl=1, key=key)(by_query))
    assert table_of(app, cache)(scope_of()) is None
    (event,) = seen.events
    assert isinstance(event, Failed)
    assert event.where == "the key of GET /"


# -- rules -----------------------------------------------------------------------------------------------------------


def current_user(token: Annotated[Any, Depends(HTTPBearer())], theme: Annotated[str, Header()] = "") -> str:
    return "ada"


def for_user(user: Annotated[str, Depends(current_user)]) -> None: ...


def with_cache(cache: CacheDep, q: str = "") -> None: ...


def with_key(key: Annotated[str, Depends(APIKeyQuery(name="key"))]) -> None: ...


def with_form(text: Annotated[str, Form()]) -> None: ...


def with_header(lang: Annotated[str, Header(alias="Accept-Language")] = "") -> None: ...


BEARER = frozenset({b"authorization"})
UNKNOWN = frozenset({b"authorization", b"cookie", CLIENT})
THEME = frozenset({b"theme"})

RULES: list[tuple[str, Callable[..., Any], dict[str, Any], dict[str, Any]]] = [
    ("in front", by_query, {}, {}),
    ("with the cache", with_cache, {}, {}),
    ("headers select", with_header, {}, {"selecting": frozenset({b"accept-language"})}),
    ("vary selects", by_query, {"vary": "X-Tenant"}, {"selecting": frozenset({b"x-tenant"})}),
    (
        "guarded by its credentials",
        for_user,
        {},
        {"guarded": True, "private": True, "credentials": BEARER, "selecting": THEME},
    ),
    (
        "guarded and shared",
        for_user,
        {"per": "shared"},
        {"guarded": True, "private": True, "keyed": BEARER, "selecting": THEME},
    ),
    (
        "guarded by an argument",
        for_user,
        {"per": "user"},
        {"guarded": True, "private": True, "keyed": BEARER, "selecting": THEME},
    ),
    ("an argument guards", by_query, {"per": "q"}, {"guarded": True, "private": True}),
    ("a callable", by_query, {"per": x_user}, {"private": True, "by_url": False}),
    (
        "a callable, guarded",
        for_user,
        {"per": x_user},
        {"guarded": True, "private": True, "by_url": False, "keyed": BEARER, "selecting": THEME},
    ),
    ("the request", by_request, {}, {"guarded": True, "private": True, "credentials": UNKNOWN}),
    (
        "the request, shared",
        by_request,
        {"per": "shared"},
        {"guarded": True, "private": True, "keyed": UNKNOWN - {CLIENT}},
    ),
    ("a key in the query", with_key, {}, {"guarded": True, "private": True}),
    ("a form", with_form, {}, {"guarded": True, "private": True}),
    ("cookies", by_cookie, {}, {"private": True, "by_url": False}),
    (
        "what varies is not accounted for",
        for_user,
        {"per": "shared", "vary": "authorization"},
        {"guarded": True, "private": True, "selecting": THEME | BEARER},
    ),
]


@pytest.mark.parametrize(("endpoint", "policy", "expected"), [pytest.param(*row[1:], id=row[0]) for row in RULES])
def test_rules_follow_from_what_is_declared_and_read(
    endpoint: Callable[..., Any], policy: dict[str, Any], expected: dict[str, Any]
) -> None:
    target = Shop(endpoint, **policy).target(headers=[(b"x-user", b"ada")])
    rules = target.rules
    assert rules == RouteRules(label="GET /", policy=rules.policy, declared=True, shape=rules.shape, **expected)


def test_a_key_in_the_query_is_part_of_the_key() -> None:
    shop = Shop(with_key)
    assert shop.key("/?key=1") != shop.key("/?key=2")


def test_per_a_callable_keys_by_what_it_returns() -> None:
    shop = Shop(by_query, per=x_user)
    assert shop.key(headers=[(b"x-user", b"ada")]) != shop.key(headers=[(b"x-user", b"bob")])


class Timed(APIRoute):
    def get_route_handler(self) -> Any:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await inner(request)

        return handler


def test_a_route_class_that_wraps_the_handler_guards() -> None:
    cache, app = Cache(), FastAPI()
    router = APIRouter(route_class=Timed)
    router.add_api_route("/", cache.response(ttl=1)(by_query))
    app.include_router(router)
    target = table_of(app, cache)(scope_of())
    assert target is not None
    assert target.rules.guarded
    assert target.rules.credentials == UNKNOWN


# -- overrides, and routes that come later ---------------------------------------------------------------------------


def test_overrides_are_seen_when_they_come_and_when_they_go() -> None:
    shop = Shop(for_user)
    assert shop.rules().guarded
    version = shop.table.version()
    shop.app.dependency_overrides[current_user] = lambda: "ada"
    assert shop.table.version() != version
    assert not shop.rules().guarded
    shop.app.dependency_overrides = {}
    assert shop.rules().guarded
    assert shop.table.version() == shop.table.version()


def test_an_override_that_guards_is_seen() -> None:
    shop = Shop(for_user)
    shop.app.dependency_overrides[current_user] = by_query
    assert not shop.rules().guarded
    shop.app.dependency_overrides[current_user] = by_request
    assert shop.rules().guarded


def test_a_mounted_application_has_overrides_of_its_own() -> None:
    cache, app, inner = Cache(), FastAPI(), FastAPI()
    inner.add_api_route("/", cache.response(ttl=1)(for_user))
    app.mount("/inner", inner)
    table = table_of(app, cache)
    for provider, guarded in ((app, True), (inner, False)):
        provider.dependency_overrides[current_user] = by_query
        target = table(scope_of("/inner/"))
        assert target is not None
        assert target.rules.guarded is guarded


def test_routes_that_are_added_later_are_found() -> None:
    cache, app, router, mounted = Cache(), FastAPI(), APIRouter(), FastAPI()
    cached = cache.response(ttl=1)(by_query)
    app.include_router(router)
    app.mount("/m", mounted)
    table = table_of(app, cache)
    for holder, url in ((app.router, "/a"), (router, "/b"), (mounted.router, "/m/c")):
        assert table(scope_of(url)) is None
        holder.add_api_route(url.removeprefix("/m"), cached)
        target = table(scope_of(url))
        assert target is not None
        assert target.rules.label == f"GET {url}"
