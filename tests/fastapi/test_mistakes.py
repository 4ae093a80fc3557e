"""Mistakes in declarations are found when the application starts."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, MutableMapping
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.security import HTTPBearer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tiercel import Cache, ConfigurationError, Policy
from tiercel._core.entry import Header as Field
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


def current_user(token: Annotated[Any, Depends(HTTPBearer())], theme: Annotated[str, Header()] = "") -> str:
    return "ada"


async def starlette_page(request: Request) -> Response:
    return PlainTextResponse("")


async def generating() -> AsyncIterator[str]:
    yield "a"


def guarded_generator(user: Annotated[str, Depends(current_user)]) -> Iterator[str]:
    yield "a"


async def awaited(request: Request) -> str:
    return ""


def upside_down(app: FastAPI, cache: Cache) -> None:
    @cache.response(ttl=60)
    @app.get("/x")
    def read() -> None: ...


def upside_down_invalidates(app: FastAPI, cache: Cache) -> None:
    @cache.invalidates("x")
    @app.post("/x")
    def write() -> None: ...


def another_cache(app: FastAPI, cache: Cache) -> None:
    app.add_api_route("/x", Cache().response(ttl=60)(lambda: None))


def another_cache_mounted(app: FastAPI, cache: Cache) -> None:
    inner = FastAPI()
    another_cache(inner, cache)
    app.mount("/m", inner)


def only_post(app: FastAPI, cache: Cache) -> None:
    @app.post("/x")
    @cache.response(ttl=60)
    def write() -> None: ...


def starlette_route(app: FastAPI, cache: Cache) -> None:
    app.router.add_route("/x", cache.response(ttl=60)(starlette_page))


def starlette_invalidates(app: FastAPI, cache: Cache) -> None:
    app.mount("/m", Starlette(routes=[Route("/x", cache.invalidates("x")(starlette_page))]))


def declared(endpoint: Callable[..., Any], **policy: Any) -> Callable[[FastAPI, Cache], None]:
    def setup(app: FastAPI, cache: Cache) -> None:
        app.add_api_route("/x", cache.response(ttl=60, **policy)(endpoint))

    return setup


def invalidating(app: FastAPI, cache: Cache) -> None:
    @app.put("/x/{item}")
    @cache.invalidates("item:{item}", "item:{other}")
    def write(item: int) -> None: ...


MISTAKES: list[tuple[str, Callable[[FastAPI, Cache], None], list[str]]] = [
    ("decorators in the wrong order", upside_down, ["@cache.response", "GET /x", "read", "Write it below"]),
    ("the same of invalidates", upside_down_invalidates, ["@cache.invalidates", "POST /x", "write", "Write it below"]),
    ("another cache", another_cache, ["another Cache", "GET /x", "one object"]),
    ("another cache in a mounted application", another_cache_mounted, ["another Cache", "GET /m/x"]),
    ("a method that cannot be cached", only_post, ["POST /x", "cannot be stored", "@cache.invalidates"]),
    ("a route of Starlette", starlette_route, ["GET /x", "Starlette", "@app.get"]),
    ("invalidates on a route of Starlette", starlette_invalidates, ["GET /m/x", "Starlette"]),
    ("an unknown name in a tag", declared(by_query, tags="q:{query}"), ["'q:{query}'", "'query'", "limit, q"]),
    ("an unknown name in a tag that is cut", invalidating, ["'item:{other}'", "PUT /x/{item}"]),
    ("an unknown owner", declared(by_query, per="user.id"), ["per='user.id'", "'user'", "a dependency will do"]),
    ("an asynchronous owner", declared(by_query, per=awaited), ["`per`", "async def", "Make it `def`"]),
    ("an asynchronous key", declared(by_query, key=awaited), ["`key`", "async def"]),
    ("a generator behind a guard", declared(guarded_generator), ["yields", "StreamingResponse"]),
]


@pytest.mark.parametrize(("setup", "says"), [pytest.param(*row[1:], id=row[0]) for row in MISTAKES])
def test_a_mistake_is_an_error_that_says_what_where_and_what_to_do(
    setup: Callable[[FastAPI, Cache], None], says: list[str]
) -> None:
    cache, app = Cache(), FastAPI()
    setup(app, cache)
    table = table_of(app, cache)
    with pytest.raises(ConfigurationError) as raised:
        table.version()
    for words in says:
        assert words in str(raised.value)
    with pytest.raises(ConfigurationError):
        table(scope_of())


def no_lifetime(app: FastAPI, cache: Cache) -> None:
    app.add_api_route("/x", cache.response()(by_query))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def test_a_response_without_a_lifetime_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        no_lifetime(FastAPI(), Cache())


def allowed_generator(app: FastAPI, cache: Cache) -> None:
    def generator() -> Iterator[str]:
        yield "a"

    declared(generator, tags="x")(app, cache)
    app.add_api_route("/y", cache.invalidates("x")(generating), methods=["POST"])


def allowed_both(app: FastAPI, cache: Cache) -> None:
    """The function is a route of its own, too."""

    def read() -> None: ...

    app.add_api_route("/plain", read)
    app.add_api_route("/cached", cache.response(ttl=60)(read))


def allowed_invalidates(app: FastAPI, cache: Cache) -> None:
    @app.get("/y/{item}")
    @cache.invalidates("item:{item}")
    def read(item: int) -> None: ...


def allowed_unused(app: FastAPI, cache: Cache) -> None:
    cache.response(ttl=60)(by_query)


def allowed_own(app: FastAPI, cache: Cache) -> None:
    """A mounted application with a cache of its own is left to that."""
    inner, other = FastAPI(), Cache()
    other.install(inner)
    inner.add_api_route("/x", other.response(ttl=60)(by_query))
    app.mount("/m", inner)


@pytest.mark.parametrize("setup", [allowed_generator, allowed_both, allowed_invalidates, allowed_unused, allowed_own])
def test_what_only_looks_like_a_mistake_is_none(setup: Callable[[FastAPI, Cache], None]) -> None:
    cache, app = Cache(), FastAPI()
    setup(app, cache)
    table = table_of(app, cache)
    table.version()
    assert table(scope_of("/m/x")) is None


# -- what no error can say --------------------------------------------------------------------------------------------


async def test_a_cache_that_is_installed_nowhere_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    cache, app = Cache(), FastAPI()

    @app.get("/")
    @cache.response(ttl=60)
    async def read() -> int:
        return 1

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as http:
        assert [(await http.get("/")).json() for _ in range(2)] == [1, 1]
    assert [record.getMessage().partition(" is ")[2] for record in caplog.records if record.name == "tiercel"] == [
        "declared with a cache that is installed nowhere. Call cache.install(app)."
    ]


class Nobody:
    """Has no name."""


async def test_an_identity_that_leads_nowhere_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60, per="user.naem")
    async def read(user: Annotated[Any, Depends(Nobody)]) -> int:
        return 1

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as http:
        answer = await http.get("/")
    assert "detail=identity-unknown" in answer.headers["cache-status"]
    assert any("the identity of GET /" in record.getMessage() for record in caplog.records if record.name == "tiercel")
