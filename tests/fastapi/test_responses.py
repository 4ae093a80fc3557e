"""What a cached route answers: the same bytes on a hit as on a miss, whatever made them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from tiercel import Cache
from tiercel._core.events import Event, Failed
from tiercel._engine.tiers import Shelf
from tiercel.testing import VirtualClock

ONE_USE = {b"age", b"date", b"cache-status"}
OURS = {b"cache-control", b"cache-groups", b"cache-status", b"etag", b"vary"}


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop")


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


def lasting(response: httpx.Response, *, but: set[bytes] = ONE_USE) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """All of a response that a hit has in common with its miss, in order."""
    return response.status_code, [line for line in response.headers.raw if line[0] not in but], response.content


class Shop:
    """An application with a cache, and a twin without."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, observers=[self])
        self.app, self.twin = FastAPI(), FastAPI()
        self.cache.install(self.app)

    def on_event(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.told.append(event.where)

    def route(
        self, endpoint: Callable[..., Any], path: str = "/", *, policy: Mapping[str, Any] | None = None, **route: Any
    ) -> None:
        fields: Any = {"ttl": 60, **(policy or {})}
        self.twin.add_api_route(path, endpoint, **route)
        self.app.add_api_route(path, self.cache.response(**fields)(endpoint), **route)


# -- every class of response -----------------------------------------------------------------------------------------


class Named(BaseModel):
    name: str
    secret: str = "hidden"
    price: Annotated[float, Field(serialization_alias="unitPrice")] = 9.5


PAGE = Path(__file__)
TEXT = PAGE.read_bytes()


async def as_json() -> dict[str, Any]:
    return {"name": "ada", "none": None, "float": 1.5, "text": "žluťoučký"}


def as_json_in_a_thread() -> dict[str, int]:
    return {"one": 1}


async def as_model() -> Any:
    return Named(name="ada")


async def as_annotated_model() -> Named:
    return Named(name="ada")


async def as_nothing() -> None:
    return None


async def as_text() -> str:
    return "text"


async def as_html() -> str:
    return "<p>ada</p>"


async def as_response() -> Response:
    return Response(
        b"\x00\xff", status_code=203, headers={"X-Own": "yes", "content-language": "de"}, media_type="image/x-test"
    )


async def as_repeated_fields() -> Response:
    response = Response("x")
    response.headers.append("Link", "</a>; rel=next")
    response.headers.append("Link", "</b>; rel=prev")
    return response


async def as_redirect() -> RedirectResponse:
    return RedirectResponse("/elsewhere?a=b")


async def as_file() -> FileResponse:
    return FileResponse(PAGE, filename="page.py")


async def as_path() -> str:
    return str(PAGE)


async def as_stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"one ", b"", b"two ", b"three"):
            yield chunk

    return StreamingResponse(chunks(), media_type="text/plain")


def as_stream_in_a_thread() -> StreamingResponse:
    return StreamingResponse(iter(["one ", "two"]))


async def as_measured_stream() -> StreamingResponse:
    return StreamingResponse(iter(["one ", "two"]), headers={"Content-Length": "7"})


async def as_lines() -> AsyncIterator[Named]:
    for name in ("ada", "bob"):
        yield Named(name=name)


def as_lines_in_a_thread() -> Iterator[Named]:
    yield Named(name="ada")
    yield Named(name="bob")


async def as_chunks() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


async def as_injected(response: Response) -> dict[str, int]:
    response.headers["X-Injected"] = "yes"
    response.status_code = 203
    return {"one": 1}


def injects(response: Response) -> None:
    response.headers["X-From-Dependency"] = "yes"


async def as_injected_by_a_dependency(_: Annotated[None, Depends(injects)]) -> int:
    return 1


class Case(NamedTuple):
    endpoint: Callable[..., Any]
    route: Mapping[str, Any] = MappingProxyType({})
    status: int = 200
    body: bytes | None = None


SHOWN = b'{"name":"ada","unitPrice":9.5}'
CASES = [
    Case(as_json, body='{"name":"ada","none":null,"float":1.5,"text":"žluťoučký"}'.encode()),
    Case(as_json_in_a_thread),
    Case(as_json, {"response_class": JSONResponse}),
    Case(as_model, {"response_model": Named, "response_model_exclude": {"secret"}}, body=SHOWN),
    Case(as_model, {"response_model": Named, "response_model_include": {"name"}}, body=b'{"name":"ada"}'),
    Case(as_model, {"response_model": Named, "response_model_by_alias": False, "response_model_exclude_unset": True}),
    Case(as_annotated_model, {"response_class": JSONResponse}),
    Case(as_annotated_model),
    Case(as_nothing, body=b"null"),
    Case(as_nothing, {"status_code": 204}, 204, b""),
    Case(as_json, {"status_code": 203}, 203),
    Case(as_text, {"response_class": PlainTextResponse}, body=b"text"),
    Case(as_html, {"response_class": HTMLResponse}),
    Case(as_response, status=203, body=b"\x00\xff"),
    Case(as_repeated_fields),
    Case(as_redirect, status=307),
    Case(as_redirect, {"status_code": 308}, 307),
    Case(as_text, {"response_class": RedirectResponse, "status_code": 308}, 308),
    Case(as_file, body=TEXT),
    Case(as_path, {"response_class": FileResponse}, body=TEXT),
    Case(as_stream, body=b"one two three"),
    Case(as_stream_in_a_thread, body=b"one two"),
    Case(as_measured_stream, body=b"one two"),
    Case(as_lines),
    Case(as_lines_in_a_thread),
    Case(as_chunks, {"response_class": StreamingResponse}, body=b"one two"),
    Case(as_injected, status=203),
    Case(as_injected_by_a_dependency),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.endpoint.__name__}-{CASES.index(case)}")


@every_case
async def test_a_hit_equals_its_miss_byte_for_byte(case: Case) -> None:
    shop = Shop()
    shop.route(case.endpoint, **case.route)
    async with client(shop.app) as http:
        miss, hit = await http.get("/"), await http.get("/")
    assert (status(miss), status(hit)) == ("tiercel; fwd=uri-miss; stored", "tiercel; hit")
    assert lasting(hit) == lasting(miss)
    assert hit.status_code == case.status
    assert case.body is None or hit.content == case.body
    assert ("age" in miss.headers, hit.headers["age"]) == (False, "0")


@every_case
async def test_a_miss_is_what_the_application_sends_without_a_cache_and_the_fields_of_the_cache(case: Case) -> None:
    shop = Shop()
    shop.route(case.endpoint, **case.route)
    async with client(shop.app) as http:
        cached = await http.get("/")
    async with client(shop.twin) as http:
        bare = await http.get("/")
    assert lasting(cached, but=OURS) == lasting(bare, but=OURS)
    for name in OURS & {name for name, _ in bare.headers.raw}:
        assert cached.headers[name.decode()] == bare.headers[name.decode()], "what the endpoint says itself wins"


async def test_what_is_stored_is_what_was_sent_and_never_more() -> None:
    shop = Shop()
    shop.route(as_model, response_model=Named, response_model_exclude={"secret"})
    async with client(shop.app) as http:
        await http.get("/")
    stored = [slot.value for _, slot in shop.cache.engine.tiers.memory.entries()]
    bodies = [entry.body for shelf in stored if isinstance(shelf, Shelf) for entry in shelf.entries]
    assert bodies == [SHOWN]


# -- what the route says itself --------------------------------------------------------------------------------------


async def test_an_entity_tag_of_the_endpoint_is_left_alone() -> None:
    shop = Shop()

    async def tagged() -> Response:
        return Response("x", headers={"ETag": 'W/"own"'})

    shop.route(tagged)
    async with client(shop.app) as http:
        answers = [await http.get("/") for _ in range(2)]
        same = await http.get("/", headers={"if-none-match": 'W/"own"'})
    assert [answer.headers.get_list("etag") for answer in answers] == [['W/"own"']] * 2
    assert same.status_code == 304


async def test_a_response_without_an_entity_tag_gets_a_strong_one_by_its_content() -> None:
    shop = Shop()

    async def numbered(number: int) -> int:
        return number // 2

    shop.route(numbered)
    async with client(shop.app) as http:
        tags = [(await http.get("/", params={"number": number})).headers["etag"] for number in (0, 1, 2)]
    assert tags[0] == tags[1] != tags[2]
    assert tags[0].startswith('"')


@pytest.mark.parametrize(
    ("own", "stored"),
    [
        ("no-store", False),
        ("private", False),
        ("private, max-age=60", False),
        ("max-age=5", True),
        ("public, max-age=600", True),
        ("no-cache", False),
    ],
)
async def test_the_endpoints_own_cache_control_wins_and_stays_as_it_is(own: str, stored: bool) -> None:  # noqa: FBT001
    shop = Shop()

    async def said() -> Response:
        return Response("x", headers={"Cache-Control": own})

    shop.route(said)
    async with client(shop.app) as http:
        answers = [await http.get("/") for _ in range(2)]
    assert [answer.headers.get_list("cache-control") for answer in answers] == [[own]] * 2
    assert ("stored" in status(answers[0])) is stored


async def test_the_endpoints_own_lifetime_wins_over_the_declared_one() -> None:
    shop = Shop()

    async def said() -> Response:
        return Response("x", headers={"Cache-Control": "max-age=10, s-maxage=20"})

    shop.route(said)
    async with client(shop.app) as http:
        await http.get("/")
        assert (await http.get("/")).headers["cache-status"] == "tiercel; hit; ttl=20"


# -- what is not stored ----------------------------------------------------------------------------------------------


def too_large() -> Response:
    return Response(b"x" * 10_000)


def with_a_cookie() -> Response:
    response = Response("x")
    response.set_cookie("session", "1")
    return response


def with_an_injected_cookie(response: Response) -> int:
    response.set_cookie("session", "1")
    return 1


def varying_by_anything() -> Response:
    return Response("x", headers={"vary": "*"})


def failing() -> Response:
    return Response("x", status_code=500)


def missing() -> None:
    raise HTTPException(404)


def partial() -> Response:
    return Response("x", status_code=206, headers={"content-range": "bytes 0-0/2"})


def events() -> StreamingResponse:
    return StreamingResponse(iter(["data: 1\n\n"]), media_type="text/event-stream")


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        (too_large, "too-large"),
        (with_a_cookie, "set-cookie"),
        (with_an_injected_cookie, "set-cookie"),
        (varying_by_anything, "vary-any"),
        (failing, "error-without-freshness"),
        (missing, "error-without-freshness"),
        (partial, "partial-content"),
        (events, "event-stream"),
    ],
)
async def test_what_must_not_be_stored_is_passed_on_as_it_is(endpoint: Callable[..., Any], reason: str) -> None:
    shop = Shop()
    shop.cache.engine.tiers.limit = 5_000
    shop.route(endpoint)
    async with client(shop.app) as http:
        answers = [await http.get("/") for _ in range(2)]
    async with client(shop.twin) as http:
        bare = await http.get("/")
    for answer in answers:
        assert answer.headers["cache-status"].startswith("tiercel; fwd=uri-miss; detail=")
        assert f"detail={reason}" in answer.headers["cache-status"]
        assert lasting(answer, but=OURS) == lasting(bare, but=OURS)


async def test_an_error_with_explicit_freshness_is_stored() -> None:
    shop, calls = Shop(), list[int]()

    async def missing() -> None:
        calls.append(1)
        raise HTTPException(404, headers={"Cache-Control": "max-age=30"})

    shop.route(missing)
    async with client(shop.app) as http:
        answers = [await http.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert len(calls) == 1
    assert lasting(answers[0]) == lasting(answers[1])


# -- background tasks ------------------------------------------------------------------------------------------------


async def test_background_tasks_run_once_for_a_miss_and_never_for_a_hit() -> None:
    shop, done = Shop(), list[str]()

    async def with_tasks(background: BackgroundTasks) -> int:
        background.add_task(done.append, "injected")
        return 1

    shop.route(with_tasks)
    async with client(shop.app) as http:
        for _ in range(3):
            await http.get("/")
    assert done == ["injected"]


async def test_a_background_task_of_a_returned_response_runs_once() -> None:
    shop, done = Shop(), list[str]()

    async def with_task() -> Response:
        return JSONResponse(1, background=BackgroundTask(done.append, "returned"))

    shop.route(with_task)
    async with client(shop.app) as http:
        for _ in range(3):
            await http.get("/")
    assert done == ["returned"]


# -- conditions, ranges, methods -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status_code"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"a", W/"b", {tag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("{bare}", 200),
        ('"unclosed', 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
async def test_if_none_match_is_answered_for_the_stored_response(sent: str, status_code: int, stored: bool) -> None:  # noqa: FBT001
    shop = Shop()
    shop.route(as_json)
    async with client(shop.app) as http:
        tag = (await http.get("/")).headers["etag"]
        if not stored:
            await shop.cache.clear()
        answer = await http.get("/", headers={"if-none-match": sent.format(tag=tag, bare=tag.strip('"'))})
    assert answer.status_code == status_code
    if status_code == 304:
        assert answer.content == b""
        assert answer.headers["etag"] == tag
        assert "content-length" not in answer.headers
        assert answer.headers["cache-control"] == "max-age=0, must-revalidate"


async def test_a_condition_that_fails_is_a_412_and_changes_nothing() -> None:
    shop = Shop()
    shop.route(as_json)
    async with client(shop.app) as http:
        await http.get("/")
        assert (await http.get("/", headers={"if-match": '"other"'})).status_code == 412
        assert status(await http.get("/")) == "tiercel; hit"


@pytest.mark.parametrize(
    ("wanted", "status_code", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"one ", "bytes 0-3/13"),
        ("bytes=-5", 206, b"three", "bytes 8-12/13"),
        ("bytes=8-", 206, b"three", "bytes 8-12/13"),
        ("bytes=99-", 416, b"", "bytes */13"),
        ("lines=1-2", 200, b"one two three", None),
    ],
)
async def test_a_range_is_cut_from_the_stored_response(
    wanted: str, status_code: int, body: bytes, content_range: str | None
) -> None:
    shop = Shop()
    shop.route(as_stream)
    async with client(shop.app) as http:
        await http.get("/")
        answer = await http.get("/", headers={"range": wanted})
    assert (answer.status_code, answer.content) == (status_code, body)
    assert answer.headers.get("content-range") == content_range


async def test_several_ranges_are_sent_as_one_multipart_body() -> None:
    shop = Shop()
    shop.route(as_stream)
    async with client(shop.app) as http:
        await http.get("/")
        answer = await http.get("/", headers={"range": "bytes=0-2, 4-6"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"one" in answer.content
    assert b"two" in answer.content


async def test_a_range_of_a_file_is_cut_by_the_cache_and_the_whole_is_stored() -> None:
    shop = Shop()
    shop.route(as_file)
    async with client(shop.app) as http:
        first = await http.get("/", headers={"range": "bytes=0-9"})
        second = await http.get("/")
    assert (first.status_code, first.content) == (206, TEXT[:10])
    assert (second.content, status(second)) == (TEXT, "tiercel; hit")


@pytest.mark.parametrize("order", [("GET", "HEAD"), ("HEAD", "GET")])
async def test_head_has_the_fields_of_get_and_no_content(order: tuple[str, str]) -> None:
    shop = Shop()
    shop.route(as_json, methods=["GET", "HEAD"])
    async with client(shop.app) as http:
        answers = {method: await http.request(method, "/") for method in order}
        again = await http.head("/")
    get, head = answers["GET"], answers["HEAD"]
    assert (head.status_code, head.content, again.content) == (200, b"", b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert status(again) == "tiercel; hit"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "PROPFIND"])
async def test_other_methods_are_answered_as_without_a_cache(method: str) -> None:
    shop = Shop()
    shop.route(as_json)
    async with client(shop.app) as http:
        await http.get("/")
        cached = await http.request(method, "/")
    async with client(shop.twin) as http:
        bare = await http.request(method, "/")
    assert lasting(cached) == lasting(bare)
    assert cached.status_code == 405


async def test_a_request_with_content_is_not_answered_from_the_cache() -> None:
    shop = Shop()
    shop.route(as_json)
    async with client(shop.app) as http:
        await http.get("/")
        answer = await http.request("GET", "/", content=b"{}")
    assert answer.headers["cache-status"] == "tiercel; fwd=bypass; detail=request-content"
    assert json.loads(answer.content)["name"] == "ada"


# -- what clients are told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "cache_control", "cdn"),
    [
        ({}, "max-age=0, must-revalidate", None),
        ({"browser_ttl": 30}, "max-age=30", None),
        (
            {"browser_ttl": "1m", "stale_while_revalidate": 30, "stale_if_error": "1h"},
            "max-age=60, stale-while-revalidate=30, stale-if-error=3600",
            None,
        ),
        ({"cdn_ttl": "1d"}, "max-age=0, must-revalidate", "max-age=86400"),
    ],
)
async def test_browsers_and_cdns_are_told_what_the_policy_says(
    policy: dict[str, Any], cache_control: str, cdn: str | None
) -> None:
    shop = Shop()
    shop.route(as_json, policy=policy)
    async with client(shop.app) as http:
        answers = [await http.get("/") for _ in range(2)]
    for answer in answers:
        assert answer.headers["cache-control"] == cache_control
        assert answer.headers.get("cdn-cache-control") == cdn


Tagging = Callable[[Any, Any], Any]


def of_both(arguments: Any, value: Any) -> Iterator[str]:
    yield f"n:{arguments['number']}"
    yield f"v:{value['id']}"


def saying(tags: Any) -> Tagging:
    def said(arguments: Any, value: Any) -> Any:
        return tags

    return said


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        (of_both, '"n:7", "v:14"'),
        (saying("one"), '"one"'),
        (saying(["a", "a", "b"]), '"a", "b"'),
        (saying(()), None),
    ],
)
@pytest.mark.parametrize("guarded", [True, False])
async def test_tags_can_be_a_callable_over_the_arguments_and_the_returned_value(
    tags: Tagging,
    named: str | None,
    guarded: bool,  # noqa: FBT001
) -> None:
    shop = Shop()

    async def read(number: int) -> dict[str, int]:
        return {"id": number * 2}

    async def asked(number: int, request: Request) -> dict[str, int]:
        return await read(number)

    shop.route(asked if guarded else read, "/{number}", policy={"tags": tags})
    async with client(shop.app) as http:
        answers = [await http.get("/7") for _ in range(2)]
        assert [answer.headers.get("cache-groups") for answer in answers] == [named] * 2
        assert status(answers[1]) == "tiercel; hit"
        if named:
            await shop.cache.invalidate(named.split('"')[1])
            assert "hit" not in status(await http.get("/7"))


def raising(arguments: Any, value: Any) -> list[str]:
    raise LookupError("no name")


@pytest.mark.parametrize(
    "tags",
    [raising, saying(None), saying([1]), saying([""]), "{item.id}"],
)
@pytest.mark.parametrize("guarded", [True, False])
async def test_what_cannot_be_named_is_not_stored_and_that_is_told(tags: Any, guarded: bool) -> None:  # noqa: FBT001
    shop = Shop()
    calls: list[int] = []

    async def item() -> None:
        return None

    async def read(item: Annotated[None, Depends(item)]) -> int:
        calls.append(1)
        await asyncio.sleep(1)
        return 1

    async def asked(request: Request, item: Annotated[None, Depends(item)]) -> int:
        return await read(None)

    shop.route(asked if guarded else read, policy={"tags": tags})
    loop = asyncio.get_running_loop()
    async with client(shop.app) as http:
        first = await http.get("/")
        began = loop.time()
        answers = [first, *await asyncio.gather(*[http.get("/") for _ in range(10)])]
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "1")] * 11
    assert {status(answer) for answer in answers} == {"tiercel; fwd=uri-miss; detail=tags-unknown"}
    assert len(calls) == 11
    assert loop.time() - began == 1.0, "nobody waits for what cannot be shared"
    assert shop.told == ["the tags of GET /"] * 11


async def test_tags_are_told_as_cache_groups() -> None:
    shop = Shop()

    async def numbered(number: int) -> int:
        return number

    shop.route(numbered, "/{number}", policy={"tags": ("number:{number}", "numbers")})
    async with client(shop.app) as http:
        assert (await http.get("/042")).headers["cache-groups"] == '"number:42", "numbers"'
