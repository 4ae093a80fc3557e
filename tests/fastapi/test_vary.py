"""What selects a response, and what the tiers outside us are told of that."""

import asyncio
from contextvars import ContextVar
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Cookie, Depends, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from tiercel import Cache, Policy
from tiercel.testing import VirtualClock


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop")


async def test_asking_whether_a_stored_response_is_still_good_does_not_make_it_vary() -> None:
    app, cache, calls = FastAPI(), Cache(clock=VirtualClock(), jitter=0.0), list[int]()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=1)
    async def read() -> int:
        calls.append(1)
        return len(calls)

    async with client(app) as http:
        await http.get("/")
        await asyncio.sleep(2)
        renewed = await http.get("/")
        other = await http.get("/", headers={"user-agent": "another"})
    assert (renewed.json(), other.json()) == (2, 2)
    assert "vary" not in renewed.headers


async def test_a_guarded_response_names_what_identity_was_taken_from() -> None:
    app, cache = FastAPI(), Cache()
    cache.install(app)
    key = APIKeyCookie(name="key")

    @app.get("/named")
    @cache.response(ttl=60, browser_ttl=60, per="user.credentials")
    async def named(user: Annotated[Any, Depends(HTTPBearer())]) -> str:
        return str(user.credentials)

    @app.get("/cookie")
    @cache.response(ttl=60)
    async def cookie(user: Annotated[str, Depends(key)]) -> str:
        return user

    async with client(app) as http:
        answers = [
            await http.get("/named", headers={"authorization": "Bearer ada"}),
            await http.get("/cookie", headers={"cookie": "key=ada"}),
        ]
    assert [answer.headers["vary"] for answer in answers] == ["authorization", "cookie"]


class Themes:
    """An application whose endpoint chooses by a cookie, or by the caller's token, and may say so."""

    def __init__(self, *, says: str = "", field: str = "cookie", front: bool = False, **policy: Any) -> None:
        self.calls = 0
        self.app, self.cache = FastAPI(), Cache(clock=VirtualClock(), jitter=0.0, draw=lambda: 0.0)
        self.cache.install(self.app)
        fields: dict[str, Any] = {"ttl": 60, "stale_while_revalidate": 60, **policy}

        async def user(request: Request) -> dict[str, str]:
            return {"id": request.headers.get("x-user", "")}

        async def read(request: Request, response: Response, user: Annotated[Any, Depends(user)]) -> str:
            del user
            self.calls += 1
            await asyncio.sleep(0.1)
            if says:
                response.headers["vary"] = says
            return request.headers.get(field, "none")

        async def ignore(response: Response) -> str:
            self.calls += 1
            response.headers["vary"] = says
            return str(self.calls)

        self.app.get("/")(self.cache.response(**fields)(ignore if front else read))

    async def get(self, **headers: str) -> httpx.Response:
        async with client(self.app) as http:
            return await http.get("/", headers=headers)


def everyone(_: Request) -> str:
    return "all"


async def both(shop: Themes, field: str) -> list[str]:
    """What two get who differ in a field, one after the other, twice."""
    return [(await shop.get(**{field: value})).json() for value in ("a=1", "b=2", "a=1", "b=2")]


@pytest.mark.parametrize("per", ["shared", "user.id", everyone])
@pytest.mark.parametrize(("field", "says"), [("cookie", "Cookie"), ("authorization", "accept, AUTHORIZATION")])
async def test_what_a_guarded_endpoint_says_that_it_varies_by_selects_whosever_it_is_declared_to_be(
    per: Any, field: str, says: str
) -> None:
    shop = Themes(says=says, field=field, per=per)
    assert await both(shop, field) == ["a=1", "b=2", "a=1", "b=2"]
    assert shop.calls == 2
    assert "hit" in (await shop.get(**{field: "a=1"})).headers["cache-status"]
    assert (await shop.get()).json() == "none"


@pytest.mark.parametrize("per", ["shared", "user.id"])
@pytest.mark.parametrize("field", ["cookie", "authorization"])
async def test_what_a_guarded_endpoint_reads_and_says_nothing_of_is_everyones_where_that_is_declared(
    per: str, field: str
) -> None:
    shop = Themes(field=field, per=per)
    assert await both(shop, field) == ["a=1"] * 4
    assert shop.calls == 1


@pytest.mark.parametrize("per", ["auto", "shared"])
async def test_what_an_endpoint_in_front_says_that_it_varies_by_selects_though_it_never_reads_it(per: str) -> None:
    shop = Themes(says="Cookie", front=True, per=per)
    assert await both(shop, "cookie") == ["1", "2", "1", "2"]
    assert await both(shop, "x-other") == ["3"] * 4


async def test_who_waits_for_a_fill_that_turns_out_to_vary_is_given_one_of_its_own() -> None:
    shop = Themes(says="Cookie", per="shared")
    values = ["a=1", "b=2", "a=1", "b=2"]
    answers = await asyncio.gather(*[shop.get(cookie=value) for value in values])
    assert [answer.json() for answer in answers] == values


async def test_a_stale_response_is_renewed_for_the_caller_whose_it_is() -> None:
    shop = Themes(says="Cookie", per="shared")
    await both(shop, "cookie")
    await asyncio.sleep(61)
    assert await both(shop, "cookie") == ["a=1", "b=2", "a=1", "b=2"]


class Sessions:
    """Hands in who asks from outside of the cache, as session middleware does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["user"] = HTTPConnection(scope).headers.get("x-key", "nobody")
        await self.app(scope, receive, send)


async def test_under_a_default_lifetime_nobody_shares_what_depends_on_who_asks() -> None:
    app, cache = FastAPI(), Cache()
    cache.install(app, mode="headers", default=Policy(ttl=60))
    app.add_middleware(Sessions)

    @app.get("/me")
    async def read(request: Request) -> str:
        return str(request.scope["user"])

    @app.get("/cookie")
    async def cookie(name: Annotated[str, Cookie()] = "nobody") -> str:
        return name

    async with client(app) as http:
        users = ["ada", "bob", "ada"]
        assert [(await http.get("/me", headers={"x-key": user})).json() for user in users] == users
        assert [(await http.get("/cookie", headers={"cookie": f"name={user}"})).json() for user in users] == users
        assert (await http.get("/me", headers={"x-key": "ada"})).headers["cache-status"].startswith("tiercel; hit")


tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Tenants:
    """Takes who asks from the query, or from the path, which it rewrites; hands it on where nobody sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = HTTPConnection(scope)
            head, _, rest = scope["path"][1:].partition("/")
            tenant.set(asked.query_params.get("token") or head)
            if rest:
                scope["path"] = f"/{rest}"
        await self.app(scope, receive, send)


@pytest.mark.parametrize("outside", [True, False])
async def test_what_a_middleware_takes_from_query_or_path_makes_an_entry_of_its_own(outside: bool) -> None:  # noqa: FBT001
    app, cache = FastAPI(), Cache()
    if not outside:
        app.add_middleware(Tenants)
    cache.install(app)
    if outside:
        app.add_middleware(Tenants)

    @app.get("/items")
    @cache.response(ttl=60)
    async def read() -> str:
        return tenant.get()

    async with client(app) as http:
        asked = [await http.get(url) for url in ("/items?token=a", "/items?token=b", "/c/items", "/d/items")]
        again = await http.get("/items?token=a")
    assert [answer.json() for answer in asked] == ["a", "b", "c", "d"]
    assert again.headers["cache-status"].startswith("tiercel; hit")


async def test_familiar_middleware_leaves_undeclared_parameters_out_of_the_key() -> None:
    app, cache = FastAPI(), Cache()
    cache.install(app)
    app.add_middleware(CORSMiddleware, allow_origins=["http://shop"])

    @app.get("/")
    @cache.response(ttl=60)
    async def read() -> int:
        return 1

    async with client(app) as http:
        await http.get("/")
        assert "hit" in (await http.get("/?utm_source=mail")).headers["cache-status"]
