"""What stands around an application may know more of a request than the cache sees: nobody gets another's response."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tiercel import Cache

USERS = ("ada", "bob", "ada", "bob")


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop")


def status(response: httpx.Response) -> str:
    said: str = response.headers["cache-status"]
    return said.partition("; ttl=")[0]


async def greeted(app: Any, path: str = "/", **fields: str) -> list[tuple[str, str]]:
    async with client(app) as http:
        return [(name, (await http.get(path, headers={"x-user": name, **fields})).json()) for name in USERS]


class Naming:
    """Says in the scope who it is, and may keep the field to itself."""

    def __init__(self, app: ASGIApp, how: Callable[[Scope, str], None], *, hides: bool = False) -> None:
        self.app = app
        self.how = how
        self.hides = hides

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.how(scope, dict(scope["headers"])[b"x-user"].decode())
            if self.hides:
                scope["headers"] = [line for line in scope["headers"] if line[0] != b"x-user"]
        await self.app(scope, receive, send)


def in_state(scope: Scope, name: str) -> None:
    scope.setdefault("state", {})["name"] = name


def as_user(scope: Scope, name: str) -> None:
    scope["user"] = name


WAYS: dict[str, tuple[Callable[[Scope, str], None], Callable[[Request], str]]] = {
    "state": (in_state, lambda request: str(request.state.name)),
    "user": (as_user, lambda request: str(request.scope["user"])),
}


def greeting(read: Callable[[Request], str]) -> FastAPI:
    app, cache = FastAPI(), Cache()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def greet(request: Request) -> str:
        return read(request)

    return app


@pytest.mark.parametrize("way", WAYS)
async def test_who_somebody_outside_of_the_application_says_it_is_gets_no_other_users_response(way: str) -> None:
    how, read = WAYS[way]
    outer = FastAPI()
    outer.add_middleware(Naming, how=how)
    outer.mount("/inner", greeting(read))
    assert await greeted(outer, "/inner/") == [(name, name) for name in USERS]


async def test_the_state_of_the_applications_own_lifespan_says_nothing_of_users() -> None:
    cache = Cache()
    inner = FastAPI(lifespan=lambda _: State())
    cache.install(inner)

    @inner.get("/")
    @cache.response(ttl=60)
    async def greet(request: Request) -> str:
        return str(request.state.shop)

    async with inner.router.lifespan_context(inner) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, "state": dict(state or {})}, receive, send)

        async with client(served) as http:
            said = [status(await http.get("/", headers={"x-anything": one})) for one in ("1", "2")]
    assert said == ["tiercel; fwd=uri-miss; stored", "tiercel; hit"]


class State:
    async def __aenter__(self) -> dict[str, str]:
        return {"shop": "open"}

    async def __aexit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("way", WAYS)
async def test_a_field_that_middleware_outside_takes_out_of_the_request_keeps_users_apart(way: str) -> None:
    how, read = WAYS[way]
    app, cache = FastAPI(), Cache()
    cache.install(app)
    app.add_middleware(Naming, how=how, hides=True)

    @app.get("/")
    @cache.response(ttl=60)
    async def greet(request: Request) -> str:
        return read(request)

    assert await greeted(app) == [(name, name) for name in USERS]


name_of: ContextVar[str] = ContextVar("name_of")


def in_context(scope: Scope, name: str) -> None:
    name_of.set(name)


async def test_a_field_that_is_taken_out_and_handed_in_where_nobody_sees_it_keeps_users_apart() -> None:
    app, cache = FastAPI(), Cache()
    cache.install(app)
    app.add_middleware(Naming, how=in_context, hides=True)

    @app.get("/")
    @cache.response(ttl=60)
    async def greet() -> str:
        return name_of.get()

    assert await greeted(app) == [(name, name) for name in USERS]


class QueryReading:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name_of.set(scope.get("query_string", b"").decode())
        await self.app(scope, receive, send)


@pytest.mark.parametrize("wrapped", [True, False])
async def test_middleware_of_a_mounted_application_may_read_the_query(wrapped: bool) -> None:  # noqa: FBT001
    app, inner, cache = FastAPI(), FastAPI(), Cache()
    cache.install(app)

    @inner.get("/")
    @cache.response(ttl=60)
    async def greet() -> str:
        return name_of.get()

    if not wrapped:
        inner.add_middleware(QueryReading)
    app.mount("/inner", QueryReading(inner) if wrapped else inner)
    async with client(app) as http:
        answers = [(name, (await http.get(f"/inner/?{name}")).json()) for name in USERS]
    assert answers == [(name, name) for name in USERS]


class LostError(Exception):
    pass


def failing() -> tuple[FastAPI, Cache]:
    app, cache = FastAPI(), Cache()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def fail() -> str:
        raise LostError

    @app.get("/missing")
    @cache.response(ttl=60)
    async def missing() -> str:
        raise HTTPException(404, headers={"cache-control": "max-age=5"})

    return app, cache


async def test_what_an_exception_handler_of_the_programs_answers_is_not_stored() -> None:
    app, _ = failing()

    @app.exception_handler(LostError)
    async def handle(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(request.query_params["name"])

    async with client(app) as http:
        answers = [await http.get("/", params={"name": name}) for name in USERS]
    assert [answer.json() for answer in answers] == list(USERS)
    assert "detail=exception-handler" in status(answers[0])


async def test_an_error_with_a_lifetime_of_its_own_is_stored_where_the_framework_answers() -> None:
    app, _ = failing()
    async with client(app) as http:
        said = [status(await http.get("/missing")) for _ in range(2)]
    assert said == ["tiercel; fwd=uri-miss; stored", "tiercel; hit"]


async def test_applications_that_share_a_cache_never_share_a_response() -> None:
    cache = Cache()

    def shop(name: str) -> FastAPI:
        app = FastAPI()
        cache.install(app)

        @app.get("/")
        @cache.response(ttl=60)
        async def greet() -> str:
            return name

        return app

    shops = {name: shop(name) for name in ("ada", "bob")}
    for name in USERS:
        async with client(shops[name]) as http:
            assert (await http.get("/")).json() == name
