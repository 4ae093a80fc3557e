"""Other ways to run: `headers` mode, shadow mode, other methods, applications in applications; and the end."""

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, Request, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles

from tiercel import Cache, Policy
from tiercel.fastapi import CacheDep
from tiercel.testing import VirtualClock

ONE_USE = {b"age", b"date", b"cache-status"}


def client(app: Any, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop", headers=headers)


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


def lasting(response: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """All of a response that a hit has in common with its miss, in order."""
    return response.status_code, [line for line in response.headers.raw if line[0] not in ONE_USE], response.content


# -- headers mode ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> FastAPI:
    """Static files behind a cache that works by the fields of responses."""
    (tmp_path / "page.html").write_text("<p>page</p>" * 20)
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 1_000)
    app = FastAPI()
    app.mount("/static", StaticFiles(directory=tmp_path, html=True))
    Cache(clock=VirtualClock()).install(app, mode="headers", default=Policy(ttl=60))
    return app


@pytest.mark.parametrize("name", ["page.html", "large.bin"])
async def test_a_static_file_hits_with_the_bytes_and_fields_of_its_miss(files: FastAPI, name: str) -> None:
    async with client(files) as http:
        miss, hit = await http.get(f"/static/{name}"), await http.get(f"/static/{name}")
    assert (status(miss), status(hit)) == ("tiercel; fwd=uri-miss; stored", "tiercel; hit")
    assert lasting(miss) == lasting(hit)
    assert hit.headers.get_list("etag") == miss.headers.get_list("etag")


async def test_conditions_and_ranges_of_a_static_file_are_answered_from_the_cache(
    files: FastAPI, tmp_path: Path
) -> None:
    async with client(files) as http:
        first = await http.get("/static/large.bin")
        (tmp_path / "large.bin").unlink()
        same = await http.get("/static/large.bin", headers={"if-none-match": first.headers["etag"]})
        since = await http.get("/static/large.bin", headers={"if-modified-since": first.headers["last-modified"]})
        part = await http.get("/static/large.bin", headers={"range": "bytes=256-511"})
        none = await http.get("/static/large.bin", headers={"range": "bytes=999999-"})
    assert [answer.status_code for answer in (same, since, part, none)] == [304, 304, 206, 416]
    assert part.content == bytes(range(256))


async def test_a_range_that_comes_first_is_answered_by_the_application(files: FastAPI) -> None:
    async with client(files) as http:
        part = await http.get("/static/large.bin", headers={"range": "bytes=256-511"})
        whole = await http.get("/static/large.bin")
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    assert (whole.status_code, len(whole.content)) == (200, 256_000)


async def test_a_file_that_is_not_there_is_asked_for_each_time(files: FastAPI, tmp_path: Path) -> None:
    async with client(files) as http:
        assert [(await http.get("/static/new.html")).status_code for _ in range(2)] == [404, 404]
        (tmp_path / "new.html").write_text("new")
        assert (await http.get("/static/new.html")).status_code == 200


async def test_in_headers_mode_a_declared_route_is_still_answered_by_its_declaration() -> None:
    cache, app = Cache(clock=VirtualClock()), FastAPI()
    cache.install(app, mode="headers")

    @app.get("/declared")
    @cache.response(ttl=60, tags="declared")
    async def declared(q: str = "") -> str:
        return q

    @app.get("/own")
    async def own(q: str = "") -> Response:
        return Response(q, headers={"cache-control": "max-age=60"})

    @app.get("/silent")
    async def silent() -> str:
        return "x"

    async with client(app) as http:
        for path in ("/declared", "/own", "/silent"):
            await http.get(path)
        assert status(await http.get("/declared?utm=1")) == "tiercel; hit"
        assert status(await http.get("/own?utm=1")) == "tiercel; fwd=uri-miss; stored"
        assert status(await http.get("/own")) == "tiercel; hit"
        assert status(await http.get("/silent")) == "tiercel; fwd=uri-miss; detail=no-freshness"
        await cache.invalidate("declared")
        assert status(await http.get("/declared")) == "tiercel; fwd=uri-miss; stored"


async def test_in_headers_mode_users_share_only_what_is_said_to_be_public() -> None:
    cache, app = Cache(clock=VirtualClock()), FastAPI()
    cache.install(app, mode="headers")

    @app.get("/{own}")
    async def read(own: str, token: Annotated[Any, Depends(HTTPBearer())]) -> Response:
        return Response(token.credentials, headers={"cache-control": own})

    async def say(own: str) -> list[str]:
        said: list[str] = []
        for name in ("ada", "bob"):
            async with client(app, authorization=f"Bearer {name}") as http:
                said.append((await http.get(f"/{own}")).text)
        return said

    assert await say("max-age=60") == ["ada", "bob"]
    assert await say("private, max-age=60") == ["ada", "bob"]
    assert await say("public, max-age=60") == ["ada", "ada"]


# -- shadow mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarded", [True, False])
async def test_in_shadow_mode_the_application_answers_and_the_cache_says_what_it_would_have_done(guarded: bool) -> None:  # noqa: FBT001
    cache, app, twin, calls = Cache(clock=VirtualClock()), FastAPI(), FastAPI(), list[int]()
    cache.install(app, shadow=True)

    async def front() -> int:
        calls.append(1)
        return len(calls)

    async def behind(request: Request) -> int:
        return await front()

    endpoint = behind if guarded else front
    app.get("/")(cache.response(ttl=60)(endpoint))
    twin.get("/")(endpoint)
    async with client(app) as http:
        answers = [await http.get("/") for _ in range(3)]
    assert [answer.text for answer in answers] == ["1", "2", "3"]
    details = [answer.headers["cache-status"] for answer in answers]
    assert details[0] == "tiercel; fwd=bypass; detail=shadow-miss"
    if not guarded:
        assert details[1:] == ["tiercel; fwd=bypass; detail=shadow-hit"] * 2
    async with client(twin) as http:
        bare = await http.get("/")
    assert lasting(answers[0])[1] == lasting(bare)[1], "nothing else is added"


async def test_in_shadow_mode_background_tasks_and_invalidations_happen_as_ever() -> None:
    cache, app, done = Cache(clock=VirtualClock()), FastAPI(), list[int]()
    cache.install(app, shadow=True)

    @app.get("/")
    @cache.response(ttl=60)
    @cache.invalidates("seen")
    async def read(background: BackgroundTasks) -> int:
        background.add_task(done.append, 1)
        return 1

    async with client(app) as http:
        for _ in range(3):
            await http.get("/")
    assert (len(done), cache.stats().invalidations) == (3, 6)


# -- QUERY and HEAD --------------------------------------------------------------------------------------------------


async def test_a_query_is_keyed_by_its_content_and_hands_it_to_the_endpoint() -> None:
    cache, app, calls = Cache(clock=VirtualClock()), FastAPI(), list[Any]()
    cache.install(app)

    @app.api_route("/search", methods=["QUERY"])
    @cache.response(ttl=60)
    async def search(words: Annotated[list[str], Body()]) -> list[str]:
        calls.append(words)
        return words

    async with client(app) as http:
        for _ in range(2):
            for words in (["a"], ["b"], ["a", "b"]):
                assert (await http.request("QUERY", "/search", json=words)).json() == words
    assert calls == [["a"], ["b"], ["a", "b"]]


async def test_head_of_a_guarded_route_is_answered_from_its_get() -> None:
    cache, app, calls = Cache(clock=VirtualClock()), FastAPI(), list[str]()
    cache.install(app)

    @app.api_route("/", methods=["GET", "HEAD"])
    @cache.response(ttl=60)
    async def read(request: Request) -> str:
        calls.append(request.method)
        return "x"

    async with client(app) as http:
        get, head = await http.get("/"), await http.head("/")
    assert calls == ["GET"]
    assert (head.content, head.headers["content-length"], head.headers["etag"]) == (b"", "3", get.headers["etag"])


# -- applications in applications ------------------------------------------------------------------------------------


async def test_an_application_with_a_cache_of_its_own_in_another_with_one_keeps_to_its_own() -> None:
    outer_cache, inner_cache, app, inner = Cache(), Cache(), FastAPI(), FastAPI()
    outer_cache.install(app)
    inner_cache.install(inner)
    app.mount("/inner", inner)

    @app.get("/")
    @outer_cache.response(ttl=60, tags="x")
    async def read(cache: CacheDep) -> bool:
        return cache is outer_cache

    @inner.get("/")
    @inner_cache.response(ttl=60, tags="x")
    async def inner_read(cache: CacheDep) -> bool:
        return cache is inner_cache

    @inner.put("/")
    @inner_cache.invalidates("x")
    async def inner_write() -> None: ...

    async with client(app) as http:
        for path in ("/", "/inner/"):
            assert (await http.get(path)).json() is True
            assert status(await http.get(path)) == "tiercel; hit"
        await http.put("/inner/")
        assert [status(await http.get(path)) for path in ("/", "/inner/")] == [
            "tiercel; hit",
            "tiercel; fwd=uri-miss; stored",
        ]


# -- the end ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[None]:
    """As a server runs an application, from its start to its end."""
    ends = asyncio.Event()
    said: asyncio.Queue[str] = asyncio.Queue()
    asked = iter([lambda: asyncio.sleep(0), ends.wait])

    async def receive() -> Any:
        kind = "startup" if not ends.is_set() and said.empty() and not started else "shutdown"
        await next(asked)()
        return {"type": f"lifespan.{kind}"}

    async def send(message: Any) -> None:
        await said.put(message["type"])

    started: list[str] = []
    scope: Any = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, receive, send))
    started.append(await said.get())
    assert started == ["lifespan.startup.complete"]
    yield
    ends.set()
    await task
    assert await said.get() == "lifespan.shutdown.complete"


async def test_at_the_end_nothing_is_left_running() -> None:
    cache, app = Cache(clock=VirtualClock()), FastAPI()
    cache.install(app)
    log: list[str] = []

    @app.get("/")
    @cache.response(ttl=10, stale_while_revalidate=600)
    async def read() -> int:
        log.append("handler")
        try:
            await asyncio.sleep(1 if len(log) == 1 else 3600)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        return 1

    async with running(app), client(app) as http:
        await http.get("/")
        await asyncio.sleep(20)
        assert (await http.get("/")).status_code == 200
        await asyncio.sleep(1)
    assert log == ["handler", "handler", "cancelled"]
    assert len(cache.engine.background) == 0


@pytest.mark.called
async def test_a_request_takes_as_long_as_its_background_tasks_as_without_a_cache() -> None:
    cache, app, twin = Cache(clock=VirtualClock()), FastAPI(), FastAPI()
    cache.install(app)
    loop = asyncio.get_running_loop()
    log: list[str] = []

    async def session() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(1)
        log.append("closed")

    async def mail() -> None:
        await asyncio.sleep(2)
        log.append("mailed")

    async def read(background: BackgroundTasks) -> int:
        background.add_task(mail)
        return 1

    async def guarded(request: Request, background: BackgroundTasks) -> int:
        return await read(background)

    took: list[float] = []
    for path, endpoint in (("/front", read), ("/guarded", guarded)):
        twin.get(path, dependencies=[Depends(session)])(endpoint)
        app.get(path, dependencies=[Depends(session)])(cache.response(ttl=60)(endpoint))
    for one in (app, twin):
        for path in ("/front", "/guarded"):
            began = loop.time()
            async with client(one) as http:
                await http.get(path)
            took.append(loop.time() - began)
    assert took == [3.0] * 4
    assert log == ["mailed", "closed"] * 4


def test_the_test_client_of_fastapi_sees_all_that_a_request_does() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

    cache, app, log = Cache(), FastAPI(), list[str]()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def read(background: BackgroundTasks) -> int:
        background.add_task(log.append, "mailed")
        return 1

    http: Any = TestClient(app)
    assert [http.get("/").json() for _ in range(3)] == [1, 1, 1]
    assert log == ["mailed"]
    started: Any = TestClient(app)
    with started as http:
        assert http.get("/").headers["cache-status"].startswith("tiercel; hit")


async def test_applications_that_share_a_cache_share_its_tags_and_no_responses() -> None:
    cache, one, other = Cache(), FastAPI(), FastAPI()

    async def read(cache: CacheDep) -> int:
        return 1

    declared: Callable[..., Any] = cache.response(ttl=60, tags="shared")(read)
    for app in (one, other):
        cache.install(app)
        app.get("/")(declared)
    async with client(one) as http:
        await http.get("/")
    async with client(other) as http:
        assert status(await http.get("/")) == "tiercel; fwd=uri-miss; stored"
        assert status(await http.get("/")) == "tiercel; hit"
        await cache.invalidate("shared")
        assert status(await http.get("/")) == "tiercel; fwd=uri-miss; stored"
