"""What two requests must have in common to get the same response."""

from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict
from starlette.routing import Host, Mount

from tiercel import Cache


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


def client(app: Any, host: str = "shop") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers={"user-agent": "a"})


def shop(*endpoints: tuple[str, Callable[..., Any]], **policy: Any) -> FastAPI:
    """An application with cached routes."""
    cache, app = Cache(), FastAPI()
    cache.install(app)
    fields: Any = {"ttl": 60, **policy}
    for path, endpoint in endpoints:
        app.add_api_route(path, cache.response(**fields)(endpoint))
    return app


async def shared(app: FastAPI, one: str, other: str, **request: Any) -> bool:
    """Whether the second request is answered with the response to the first, and rightly said to be."""
    async with client(app) as http:
        first, second = await http.get(one), await http.get(other, **request)
    assert first.status_code == second.status_code
    if status(second) == "tiercel; hit":
        assert second.content == first.content
        return True
    return False


# -- the query -------------------------------------------------------------------------------------------------------


async def with_query(page: int = 1, tag: Annotated[list[str] | None, Query()] = None, name: str | None = None) -> str:
    return f"{page} {tag} {name!r}"


class Filters(BaseModel):
    page: int = 1
    name: str | None = None


class StrictFilters(Filters):
    model_config = ConfigDict(extra="forbid")


class OpenFilters(Filters):
    model_config = ConfigDict(extra="allow")


async def with_model(filters: Annotated[Filters, Query()]) -> str:
    return repr(filters)


async def with_strict_model(filters: Annotated[StrictFilters, Query()]) -> str:
    return repr(filters)


async def with_open_model(filters: Annotated[OpenFilters, Query()]) -> str:
    return repr(filters) + repr(filters.model_extra)


async def with_request(request: Request) -> str:
    return str(request.url)


def paging(page: int = 1) -> int:
    return page


async def with_dependency(page: Annotated[int, Depends(paging)]) -> int:
    return page


async def with_alias(page: Annotated[int, Query(alias="p")] = 1) -> int:
    return page


@pytest.mark.parametrize("endpoint", [with_query, with_model, with_dependency])
@pytest.mark.parametrize("other", ["/?utm_source=x", "/?page=1&fbclid=1", "/?Page=1"])
async def test_query_parameters_that_nobody_declares_drop_out(endpoint: Callable[..., Any], other: str) -> None:
    first = "/?page=1" if other.startswith("/?page") else "/"
    assert await shared(shop(("/", endpoint)), first, other)


@pytest.mark.parametrize(
    ("endpoint", "one", "other"),
    [
        (with_query, "/?page=1", "/?page=2"),
        (with_query, "/", "/?name="),
        (with_query, "/?name=", "/?name=a"),
        (with_query, "/?tag=a&tag=b", "/?tag=b&tag=a"),
        (with_query, "/?tag=a", "/?tag=a&tag=a"),
        (with_query, "/?tag=ab", "/?tag=a&tag=b"),
        (with_query, "/?name=1", "/?page=1"),
        (with_model, "/?page=1", "/?page=2"),
        (with_model, "/", "/?name="),
        (with_open_model, "/", "/?utm_source=x"),
        (with_request, "/", "/?utm_source=x"),
        (with_request, "/?a=1&b=2", "/?b=2&a=1"),
        (with_dependency, "/?page=1", "/?page=2"),
        (with_alias, "/?p=1", "/?p=2"),
    ],
)
async def test_what_a_route_can_see_of_the_query_makes_the_key(
    endpoint: Callable[..., Any], one: str, other: str
) -> None:
    assert not await shared(shop(("/", endpoint)), one, other)


async def test_a_parameter_that_a_model_forbids_is_refused_also_when_the_rest_is_stored() -> None:
    app = shop(("/", with_strict_model))
    async with client(app) as http:
        assert (await http.get("/?page=1")).status_code == 200
        assert (await http.get("/?page=1&utm=x")).status_code == 422
        assert status(await http.get("/?page=1")) == "tiercel; hit"


async def test_a_parameter_that_does_not_validate_is_refused_also_when_others_are_stored() -> None:
    app = shop(("/", with_query))
    async with client(app) as http:
        assert (await http.get("/?page=1")).status_code == 200
        assert (await http.get("/?page=x")).status_code == 422
        assert (await http.get("/?page=x")).status_code == 422


# -- fields ----------------------------------------------------------------------------------------------------------


async def with_header(x_currency: Annotated[str, Header()] = "none") -> str:
    return x_currency


async def with_cookie(currency: Annotated[str, Cookie()] = "none") -> str:
    return currency


class Cookies(BaseModel):
    currency: str = "none"


async def with_cookie_model(cookies: Annotated[Cookies, Cookie()]) -> str:
    return cookies.currency


async def test_a_declared_header_selects_and_is_told_in_vary() -> None:
    app = shop(("/", with_header))
    said: list[str] = []
    async with client(app) as http:
        for currency in ("eur", "usd", "", None, "eur", "usd", "", None):
            answer = await http.get("/", headers={} if currency is None else {"x-currency": currency})
            said.append(f"{answer.json()} {'hit' in status(answer)}")
            assert answer.headers["vary"] == "x-currency"
    assert said == [f"{currency} {hit}" for hit in (False, True) for currency in ("eur", "usd", "", "none")]


@pytest.mark.parametrize("endpoint", [with_cookie, with_cookie_model])
async def test_a_declared_cookie_selects_and_others_do_not(endpoint: Callable[..., Any]) -> None:
    app = shop(("/", endpoint))
    said: list[str] = []
    async with client(app) as http:
        for cookie in ("currency=eur", "currency=usd", "a=1", "a=2; currency=eur; b=3", "currency=usd", "b=9"):
            answer = await http.get("/", headers={"cookie": cookie})
            said.append(f"{answer.json()} {'hit' in status(answer)}")
    assert said == ["eur False", "usd False", "none False", "eur True", "usd True", "none True"]


async def test_a_header_that_nobody_reads_does_not_select() -> None:
    app = shop(("/", with_query))
    async with client(app) as http:
        answers = [await http.get("/", headers={"accept-language": code}) for code in ("de", "cs", "en")]
    assert [status(answer) for answer in answers[1:]] == ["tiercel; hit"] * 2
    assert "vary" not in answers[0].headers


async def test_declared_vary_selects_by_what_nobody_was_seen_to_read() -> None:
    app = shop(("/", with_query), vary="x-experiment")
    async with client(app) as http:
        answers = [await http.get("/", headers={"x-experiment": name}) for name in ("a", "b", "a")]
    assert ["hit" in status(answer) for answer in answers] == [False, False, True]
    assert answers[0].headers["vary"] == "x-experiment"


async def test_a_declared_key_adds_to_what_the_route_reads() -> None:
    def initial(request: Request) -> str:
        return request.headers["user-agent"][0]

    app = shop(("/", with_query), key=initial)
    async with client(app) as http:
        answers = [await http.get("/", headers={"user-agent": name}) for name in ("a1", "b1", "a2")]
    assert ["hit" in status(answer) for answer in answers] == [False, False, True]


# -- places ----------------------------------------------------------------------------------------------------------


def where(name: str) -> Callable[[], Any]:
    async def read() -> str:
        return name

    return read


async def test_two_hosts_never_share() -> None:
    async def host(request: Request) -> str:
        return request.url.netloc

    async def plain() -> int:
        return 1

    app = shop(("/host", host), ("/plain", plain))
    for path in ("/host", "/plain"):
        for name in ("a.example", "b.example", "a.example:8080"):
            async with client(app, name) as http:
                assert "hit" not in status(await http.get(path))
                assert status(await http.get(path)) == "tiercel; hit"


async def test_two_mounts_of_one_application_never_share() -> None:
    cache, app, inner = Cache(), FastAPI(), FastAPI()

    @inner.get("/")
    @cache.response(ttl=60)
    async def read(request: Request) -> str:
        return str(request.scope["root_path"])

    @inner.get("/plain")
    @cache.response(ttl=60)
    async def plain() -> int:
        return 1

    app.mount("/a", inner)
    app.mount("/b", inner)
    cache.install(app)
    async with client(app) as http:
        for _ in range(2):
            assert [(await http.get(f"/{place}/")).json() for place in "ab"] == ["/a", "/b"]
        assert [status(await http.get(f"/{place}/plain")) for place in "aba"] == [
            "tiercel; fwd=uri-miss; stored",
            "tiercel; fwd=uri-miss; stored",
            "tiercel; hit",
        ]


async def test_sub_applications_hosts_and_prefixes_never_share() -> None:
    cache, app = Cache(), FastAPI()

    def cached(name: str) -> Callable[[], Any]:
        return cache.response(ttl=60)(where(name))

    sub, hosted, router, inner = FastAPI(), FastAPI(), APIRouter(), APIRouter()
    sub.add_api_route("/x", cached("sub"))
    hosted.add_api_route("/x", cached("hosted"))
    router.add_api_route("/x", cached("router"))
    inner.add_api_route("/x", cached("inner"))
    router.include_router(inner, prefix="/inner")
    app.add_api_route("/x", cached("app"))
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    app.router.routes.insert(0, Host("api.shop", hosted))
    app.router.routes.append(Mount("/sub", sub))
    cache.install(app)
    expected = {"/x": "app", "/v1/x": "router", "/v2/x": "router", "/v1/inner/x": "inner", "/v2/inner/x": "inner"}
    for _ in range(2):
        async with client(app) as http:
            for path, name in {**expected, "/sub/x": "sub"}.items():
                assert (await http.get(path)).json() == name
        async with client(app, "api.shop") as http:
            assert (await http.get("/x")).json() == "hosted"


async def test_paths_that_different_convertors_take_never_share() -> None:
    async def file(path: str) -> str:
        return f"file {path!r}"

    async def number(number: int) -> str:
        return f"number {number}"

    async def real(real: float) -> str:
        return f"real {real}"

    app = shop(("/f/{path:path}", file), ("/n/{number:int}", number), ("/n/{real:float}", real))
    paths = ["/f/a/b", "/f/a%2Fb", "/f/a%252Fb", "/f/", "/f/a//b", "/f/a/../b", "/n/1", "/n/1.0", "/n/01"]
    async with client(FastAPI(routes=app.routes)) as http:
        bare = {path: (await http.get(path)).content for path in paths}
    for _ in range(2):
        async with client(app) as http:
            assert {path: (await http.get(path)).content for path in paths} == bare


async def test_an_uncached_route_that_matches_first_answers() -> None:
    cache, app = Cache(), FastAPI()
    app.add_api_route("/{name}", cache.response(ttl=60)(where("late")))
    app.add_api_route("/special", cache.response(ttl=60)(where("never")))
    app.router.add_api_route("/other/special", where("first"))
    app.add_api_route("/other/{name}", cache.response(ttl=60)(where("second")))
    cache.install(app)
    async with client(app) as http:
        for _ in range(2):
            assert (await http.get("/other/special")).json() == "first"
            assert (await http.get("/other/x")).json() == "second"
            assert (await http.get("/special")).json() == "late"
        assert "cache-status" not in (await http.get("/other/special")).headers


async def test_a_route_that_is_added_in_front_of_a_stored_one_answers_at_once() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    app.add_api_route("/{name}", cache.response(ttl=60)(where("late")))
    async with client(app) as http:
        assert (await http.get("/x")).json() == "late"
        app.add_api_route("/x", where("early"))
        app.router.routes.insert(0, app.router.routes.pop())
        assert (await http.get("/x")).json() == "early"


# -- overrides -------------------------------------------------------------------------------------------------------


async def test_an_override_that_reads_more_is_honoured_at_once() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    def currency() -> str:
        return "eur"

    def chosen(x_currency: Annotated[str, Header()]) -> str:
        return x_currency

    @app.get("/")
    @cache.response(ttl=60)
    async def read(currency: Annotated[str, Depends(currency)]) -> str:
        return currency

    async with client(app) as http:
        assert (await http.get("/")).json() == "eur"
        app.dependency_overrides[currency] = chosen
        said = [(await http.get("/", headers={"x-currency": name})).json() for name in ("usd", "czk", "usd")]
        assert said == ["usd", "czk", "usd"]


async def test_an_override_gets_no_response_that_was_made_without_it() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    def currency() -> str:
        return "eur"

    @app.get("/")
    @cache.response(ttl=60)
    async def read(currency: Annotated[str, Depends(currency)]) -> str:
        return currency

    async with client(app) as http:
        assert (await http.get("/")).json() == "eur"
        app.dependency_overrides[currency] = lambda: "usd"
        assert (await http.get("/")).json() == "usd"
        app.dependency_overrides.clear()
        assert (await http.get("/")).json() == "eur"


# -- rewriting -------------------------------------------------------------------------------------------------------


async def test_a_path_that_a_middleware_outside_rewrites_is_the_one_that_counts() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    tenant = ["a"]

    class Rewriting:
        """Puts in front of the path what no request field says."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "path": f"/{tenant[0]}{scope['path']}"}, receive, send)

    app.add_middleware(Rewriting)

    @app.get("/{tenant}/x", response_class=PlainTextResponse)
    @cache.response(ttl=60)
    async def read(tenant: str) -> str:
        return tenant

    async with client(app) as http:
        for tenant[0] in ("a", "b", "a", "b"):
            assert (await http.get("/x")).text == tenant[0]
