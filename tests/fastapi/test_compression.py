"""Compressed responses of routes: for everyone's, for one user's, and beside middleware that compresses itself."""

import zlib
from contextvars import ContextVar
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, Response
from fastapi.security import APIKeyHeader
from starlette.middleware.gzip import GZipMiddleware

from tiercel import Cache
from tiercel.testing import VirtualClock

TEXT = "a diamond " * 300
Key = Annotated[str, Depends(APIKeyHeader(name="x-key"))]


class Shop:
    """An application with routes of several kinds."""

    def __init__(self, compress: Any, *, middleware: str = "") -> None:
        self.calls: list[str] = []
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, draw=lambda: 0.0, compress=compress)
        self.app = FastAPI()
        if middleware == "inside":
            self.app.add_middleware(GZipMiddleware, minimum_size=10)
        self.cache.install(self.app)
        if middleware == "outside":
            self.app.add_middleware(GZipMiddleware, minimum_size=10)

        @self.app.get("/open")
        @self.cache.response(ttl=60)
        async def read_open() -> str:
            self.calls.append("open")
            return TEXT

        @self.app.get("/mine")
        @self.cache.response(ttl=60)
        async def read_mine(key: Key) -> str:
            self.calls.append("mine")
            return TEXT + key

        @self.app.get("/shared")
        @self.cache.response(ttl=60, per="shared")
        async def read_shared(key: Key, response: Response) -> str:
            self.calls.append("shared")
            response.headers["cache-control"] = "public, max-age=60"
            return TEXT

        @self.app.get("/tenant")
        @self.cache.response(ttl=60)
        async def read_tenant(x_tenant: Annotated[str, Header()]) -> str:
            self.calls.append("tenant")
            return TEXT + x_tenant

        @self.app.get("/uncached")
        async def read_uncached() -> str:
            return TEXT

    async def get(self, path: str, codings: str | None = "gzip", **headers: str) -> httpx.Response:
        given = {"x-key": "ada", "x-tenant": "t", **headers}
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", headers=given) as client:
            del client.headers["accept-encoding"]
            if codings is not None:
                client.headers["accept-encoding"] = codings
            return await client.get(path)


def coding(response: httpx.Response) -> str:
    assert response.text.startswith('"' + TEXT[:10])
    return str(response.headers.get("content-encoding", ""))


async def test_what_is_everyones_is_compressed_on_hit_and_miss() -> None:
    shop, path = Shop("public"), "/open"
    found = [await shop.get(path) for _ in range(3)]
    assert [coding(one) for one in found] == ["gzip"] * 3
    assert len({one.headers["etag"] for one in found}) == 1
    assert coding(await shop.get(path, None)) == ""
    assert coding(await shop.get(path, "br;q=0, identity")) == ""
    assert len(shop.calls) == 1
    assert "accept-encoding" in found[0].headers["vary"]
    same = await shop.get(path, **{"if-none-match": found[0].headers["etag"]})
    assert same.status_code == 304


@pytest.mark.parametrize("path", ["/mine", "/shared", "/tenant"])
async def test_what_may_be_one_users_is_compressed_only_where_that_is_said(path: str) -> None:
    for compress, expected in (("public", ""), ("all", "gzip"), ("off", "")):
        shop = Shop(compress)
        assert [coding(await shop.get(path)) for _ in range(3)] == [expected] * 3
        assert coding(await shop.get(path, None)) == ""
        assert len(shop.calls) == 1


async def test_users_never_share_whatever_the_coding() -> None:
    shop = Shop("all")
    for _ in range(2):
        for key in ("ada", "bob"):
            for codings in ("gzip", "zstd", None):
                found = await shop.get("/mine", codings, **{"x-key": key})
                if codings != "zstd":
                    assert found.text.endswith(key + '"')
    assert len(shop.calls) == 2


async def test_off_is_the_default_and_changes_nothing() -> None:
    assert Cache().engine.encoder is None
    found = await Shop("off").get("/open")
    assert (coding(found), found.headers.get("vary")) == ("", None)


@pytest.mark.parametrize("middleware", ["inside", "outside"])
async def test_middleware_that_compresses_itself_is_let_be(middleware: str) -> None:
    """Inside, its answer is stored as it is; outside, it leaves alone what is encoded already."""
    shop = Shop("public", middleware=middleware)
    for _ in range(3):
        for codings in ("gzip", "gzip;q=0.7, x-1", "identity", None):
            found = await shop.get("/open", codings)
            expected = "gzip" if codings and "gzip" in codings else ""
            assert coding(found) == expected
    assert coding(await shop.get("/uncached")) == "gzip"
    assert len(shop.calls) <= 4


@pytest.mark.called  # served, the cache stands outside of that, too
async def test_what_somebody_outside_has_made_of_the_field_is_kept_apart_by_all_of_it() -> None:
    """Both clients want none of ours, but that is not all that one has seen who stands outside of the cache."""
    shop = Shop("public")
    seen: ContextVar[str] = ContextVar("seen")

    class Outside:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            told = [value for name, value in scope["headers"] if name == b"accept-encoding"]
            seen.set("deflate" if b"deflate" in told else "nothing")
            await self.app(scope, receive, send)

    shop.app.add_middleware(Outside)

    @shop.app.get("/seen")
    @shop.cache.response(ttl=60)
    async def read_seen() -> str:
        return seen.get()

    for _ in range(2):
        for codings, answer in (("identity", "nothing"), ("deflate", "deflate")):
            assert (await shop.get("/seen", codings)).json() == answer


async def test_explain_finds_what_the_application_has_encoded() -> None:
    shop = Shop("public", middleware="inside")
    await shop.get("/open", "gzip;q=0.5")
    headers = [(b"host", b"shop"), (b"accept-encoding", b"gzip, deflate")]
    place = {"path": "/open", "raw_path": b"/open", "query_string": b"", "scheme": "http", "root_path": ""}
    scope = {"type": "http", "method": "GET", **place, "headers": headers}
    assert shop.cache.explain(scope).decision == "hit"


async def test_what_is_decoded_is_what_was_said() -> None:
    shop = Shop("public")
    scope_body = await shop.get("/open", None)
    found = await shop.get("/open", "gzip")
    assert found.content == scope_body.content
    assert len(zlib.compress(scope_body.content, 6, 31)) == int(found.headers["content-length"])


async def test_who_has_seen_it_compressed_may_change_it() -> None:
    app, cache = FastAPI(), Cache(compress="public")

    @app.get("/page")
    @cache.response(ttl=60)
    async def read(response: Response) -> str:
        response.headers["etag"] = '"v1"'
        return TEXT

    @app.put("/page")
    async def write(if_match: Annotated[str, Header()]) -> str:
        return if_match

    cache.install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as http:
        tag = (await http.get("/page", headers={"accept-encoding": "gzip"})).headers["etag"]
        assert tag.startswith('"v1;gzip-')
        assert (await http.put("/page", headers={"if-match": tag})).json() == '"v1"'
