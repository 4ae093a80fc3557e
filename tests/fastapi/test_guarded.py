"""Routes whose dependencies run before the cache is asked."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader

from tiercel import Cache
from tiercel._core.events import Event, Failed
from tiercel.testing import VirtualClock

key_header = APIKeyHeader(name="x-key")
Key = Annotated[str, Depends(key_header)]


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


class Shop:
    """An application with a guarded route, and a log of what went on."""

    def __init__(self, **settings: Any) -> None:
        self.log: list[str] = []
        self.events: list[Event] = []
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, observers=[self], draw=lambda: 0.0, **settings)
        self.app = FastAPI()
        self.cache.install(self.app)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def client(self, key: str = "ada", *, raises: bool = True) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=raises)
        return httpx.AsyncClient(transport=transport, base_url="http://shop", headers={"x-key": key})

    def count(self, what: str) -> int:
        return self.log.count(what)

    def slow(self, seconds: float = 1.0, **policy: Any) -> None:
        """Declare a route that takes its time."""

        fields: Any = {"ttl": 60, **policy}

        @self.app.get("/")
        @self.cache.response(**fields)
        async def read(key: Key) -> str:
            self.log.append("handler")
            await asyncio.sleep(seconds)
            return f"{key} {self.count('handler')}"


# -- dependencies run, the handler does not --------------------------------------------------------------------------


async def test_dependencies_run_for_every_caller_and_the_handler_for_the_first() -> None:
    shop = Shop()

    async def limit(request: Request) -> None:
        shop.log.append(f"limit {request.url.path}")

    def audit(request: Request) -> None:
        shop.log.append(f"audit {request.headers['x-key']}")

    @shop.app.get("/", dependencies=[Depends(limit), Depends(audit)])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        shop.log.append("handler")
        return key

    async with shop.client() as http:
        answers = [await http.get("/") for _ in range(3)]
    assert [status(answer) for answer in answers] == ["tiercel; fwd=uri-miss; stored", "tiercel; hit", "tiercel; hit"]
    assert (shop.count("limit /"), shop.count("audit ada"), shop.count("handler")) == (3, 3, 1)


@pytest.mark.parametrize("place", ["application", "router", "route", "argument"])
@pytest.mark.parametrize("per", ["auto", "shared"])
async def test_a_limit_counts_hits_wherever_it_stands(place: str, per: str) -> None:
    shop = Shop()

    async def limit(request: Request) -> None:
        shop.log.append("limit")
        if shop.count("limit") > 2:
            raise HTTPException(429, headers={"Retry-After": "1"})

    limits = [Depends(limit)]
    shop.app = FastAPI(dependencies=limits if place == "application" else [])
    shop.cache.install(shop.app)

    async def plain() -> int:
        return 1

    async def limited(_: Annotated[None, Depends(limit)]) -> int:
        return 1

    endpoint = shop.cache.response(ttl=60, per=per)(limited if place == "argument" else plain)
    if place == "router":
        shop.app.router.dependencies = limits
    shop.app.router.add_api_route("/", endpoint, dependencies=limits if place == "route" else None)
    async with shop.client() as http:
        answers = [await http.get("/") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert status(answers[1]) == "tiercel; hit"
    assert answers[2].headers["retry-after"] == "1"


@pytest.mark.parametrize("status_code", [401, 403, 404, 429, 503])
async def test_a_dependency_that_refuses_is_heard_and_never_stored(status_code: int) -> None:
    shop, refusing = Shop(), [False]

    async def check(request: Request) -> None:
        shop.log.append("check")
        if refusing[0]:
            raise HTTPException(status_code, "no", headers={"Cache-Control": "max-age=600"})

    @shop.app.get("/", dependencies=[Depends(check)])
    @shop.cache.response(ttl=60, per="shared")
    async def read() -> int:
        return 1

    async with shop.client() as http:
        refusing[0] = True
        assert [(await http.get("/")).status_code for _ in range(2)] == [status_code] * 2
        refusing[0] = False
        assert (await http.get("/")).status_code == 200
        refusing[0] = True
        assert (await http.get("/")).status_code == status_code
        refusing[0] = False
        assert status(await http.get("/")) == "tiercel; hit"
    assert shop.count("check") == 5


async def test_an_argument_that_does_not_validate_is_a_422_as_without_a_cache() -> None:
    shop = Shop()

    @shop.app.get("/{number}")
    @shop.cache.response(ttl=60)
    async def read(number: int, key: Key) -> int:
        return number

    async with shop.client() as http:
        answers = [await http.get("/one") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [422, 422]


async def test_a_background_task_of_a_dependency_runs_for_hits_and_that_of_the_handler_does_not() -> None:
    shop = Shop()

    async def audit(background: BackgroundTasks) -> None:
        background.add_task(shop.log.append, "audited")

    @shop.app.get("/", dependencies=[Depends(audit)])
    @shop.cache.response(ttl=60)
    async def read(key: Key, background: BackgroundTasks) -> str:
        background.add_task(shop.log.append, "mailed")
        return key

    async with shop.client() as http:
        for _ in range(3):
            await http.get("/")
    assert (shop.count("audited"), shop.count("mailed")) == (3, 1)


# -- dependencies with yield -----------------------------------------------------------------------------------------


def sessions(shop: Shop) -> None:
    async def outer() -> AsyncIterator[str]:
        shop.log.append("open outer")
        try:
            yield "outer"
        finally:
            shop.log.append("close outer")

    async def inner(outer: Annotated[str, Depends(outer)]) -> AsyncGenerator[str]:
        shop.log.append("open inner")
        try:
            yield "inner"
        except ValueError:
            shop.log.append("inner saw it")
            raise
        finally:
            shop.log.append("close inner")

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key, inner: Annotated[str, Depends(inner)], fail: bool = False) -> str:  # noqa: FBT001, FBT002
        shop.log.append("handler")
        if fail:
            raise ValueError(inner)
        return inner


CLOSED = ["close inner", "close outer"]
OPENED = ["open outer", "open inner"]


async def test_dependencies_are_closed_once_and_in_order_for_a_miss_and_for_a_hit() -> None:
    shop = Shop()
    sessions(shop)
    async with shop.client() as http:
        await http.get("/")
        assert shop.log == [*OPENED, "handler", *CLOSED]
        shop.log.clear()
        assert status(await http.get("/")) == "tiercel; hit"
    assert shop.log == [*OPENED, *CLOSED]


@pytest.mark.called
async def test_dependencies_see_the_exception_of_the_handler_and_are_closed() -> None:
    shop = Shop()
    sessions(shop)
    async with shop.client() as http:
        with pytest.raises(ValueError, match="inner"):
            await http.get("/", params={"fail": True})
    assert shop.log == [*OPENED, "handler", "inner saw it", *CLOSED]


async def test_dependencies_of_all_who_joined_a_fill_are_closed_once_each() -> None:
    shop = Shop()

    async def session() -> AsyncIterator[None]:
        shop.log.append("open")
        yield
        shop.log.append("close")

    @shop.app.get("/", dependencies=[Depends(session)])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        shop.log.append("handler")
        await asyncio.sleep(1)
        return key

    async with shop.client() as http:
        await asyncio.gather(*[http.get("/") for _ in range(20)])
    assert (shop.count("open"), shop.count("handler"), shop.count("close")) == (20, 1, 20)


async def test_an_error_while_a_dependency_closes_after_the_reply_spoils_nothing_and_is_told() -> None:
    shop, lost = Shop(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(str(context["exception"])))

    async def session() -> AsyncIterator[None]:
        yield
        raise OSError("cannot commit")

    @shop.app.get("/", dependencies=[Depends(session)])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        return key

    async with shop.client() as http:
        answers = [await http.get("/") for _ in range(2)]
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, '"ada"')] * 2
    assert lost == ["cannot commit"] * 2
    assert [str(event.error) for event in shop.events if isinstance(event, Failed)] == lost


class Envelopes(APIRoute):
    """Puts what an endpoint returns into an envelope, as many an application does."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await inner(request)
            return JSONResponse({"data": json.loads(bytes(response.body))}, response.status_code)

        return handler


async def test_route_classes_and_middleware_inside_see_on_a_hit_what_the_caller_gets() -> None:
    shop = Shop()
    shop.app = FastAPI()

    @shop.app.middleware("http")
    async def log(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        shop.log.append(f"{response.status_code} {response.headers['content-type']}")
        return response

    async def session() -> AsyncIterator[None]:
        try:
            yield
            shop.log.append("commit")
        except BaseException:
            shop.log.append("rollback")
            raise

    shop.cache.install(shop.app)
    shop.app.router.route_class = Envelopes

    @shop.app.get("/", status_code=203, dependencies=[Depends(session)])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        return key

    async with shop.client() as http:
        answers = [await http.get("/") for _ in range(3)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(203, {"data": "ada"})] * 3
    assert (shop.count("commit"), shop.count("203 application/json"), len(shop.log)) == (3, 3, 6)
    assert [event for event in shop.events if isinstance(event, Failed)] == []


# -- one call for all ------------------------------------------------------------------------------------------------


async def test_a_hundred_callers_with_one_identity_call_the_handler_once() -> None:
    shop = Shop()
    shop.slow()
    async with shop.client() as http:
        answers = await asyncio.gather(*[http.get("/") for _ in range(100)])
    assert {answer.text for answer in answers} == {'"ada 1"'}
    assert shop.log == ["handler"]
    assert [status(answer) for answer in answers].count("tiercel; fwd=uri-miss; collapsed") == 99


async def test_the_handler_is_called_once_also_when_the_first_caller_is_cancelled() -> None:
    shop = Shop()
    shop.slow()
    async with shop.client() as http:
        callers = [asyncio.create_task(http.get("/")) for _ in range(100)]
        await asyncio.sleep(0.5)
        callers[0].cancel()
        answers = await asyncio.gather(*callers[1:])
    assert {answer.text for answer in answers} == {'"ada 1"'}
    assert shop.log == ["handler"]


@pytest.mark.called
async def test_who_leaves_before_the_cache_was_asked_takes_nothing_along() -> None:
    shop = Shop()

    async def slow() -> AsyncIterator[None]:
        try:
            await asyncio.sleep(1)
            yield
        finally:
            shop.log.append("closed")

    @shop.app.get("/", dependencies=[Depends(slow)])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        shop.log.append("handler")
        return key

    async with shop.client() as http:
        first = asyncio.create_task(http.get("/"))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(http.get("/"))
        first.cancel()
        assert status(await second) == "tiercel; fwd=uri-miss; stored"
    assert shop.log == ["closed", "handler", "closed"]


async def test_callers_with_different_identities_call_the_handler_once_each() -> None:
    shop = Shop()
    shop.slow()

    async def ask(key: str) -> str:
        async with shop.client(key) as http:
            return str((await http.get("/")).json()).split()[0]

    assert await asyncio.gather(*[ask(str(number % 7)) for number in range(70)]) == [str(n % 7) for n in range(70)]
    assert shop.count("handler") == 7


@pytest.mark.parametrize("per", ["auto", "shared", "key"])
async def test_those_who_wait_for_an_answer_that_is_not_stored_get_one_of_their_own(per: str) -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60, per=per)
    async def read(key: Key, response: Response) -> int:
        shop.log.append("handler")
        response.set_cookie("number", str(shop.count("handler")))
        await asyncio.sleep(1)
        return 1

    async with shop.client() as http:
        answers = await asyncio.gather(*[httpx_get_alone(shop) for _ in range(10)])
        assert (await http.get("/")).headers["set-cookie"].startswith("number=11;")
    assert len({answer.headers["set-cookie"] for answer in answers}) == 10


async def httpx_get_alone(shop: Shop) -> httpx.Response:
    async with shop.client() as http:
        return await http.get("/")


# -- exceptions ------------------------------------------------------------------------------------------------------


class SoldError(Exception):
    """An error of the domain."""


async def test_the_exception_of_a_handler_reaches_the_exception_handler_of_the_application() -> None:
    shop = Shop()

    @shop.app.exception_handler(SoldError)
    async def sold(request: Request, error: Exception) -> JSONResponse:
        shop.log.append("exception handler")
        return JSONResponse({"sold": True}, 409)

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        await asyncio.sleep(1)
        raise SoldError

    async with shop.client() as http:
        answers = await asyncio.gather(*[http.get("/") for _ in range(3)])
    assert [(answer.status_code, answer.json()) for answer in answers] == [(409, {"sold": True})] * 3


async def test_an_exception_that_nobody_handles_is_a_500_for_all_and_is_not_stored() -> None:
    shop, failing = Shop(), [True]

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        await asyncio.sleep(1)
        if failing[0]:
            raise RuntimeError("broken")
        return key

    async with shop.client(raises=False) as http:
        answers = await asyncio.gather(*[http.get("/") for _ in range(3)])
        failing[0] = False
        after = await http.get("/")
    assert [answer.status_code for answer in answers] == [500] * 3
    assert (after.status_code, status(after)) == (200, "tiercel; fwd=uri-miss; stored")


async def test_the_handler_of_all_exceptions_answers_for_the_application() -> None:
    shop = Shop()

    @shop.app.exception_handler(Exception)
    async def any_error(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 500)

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        raise RuntimeError("broken")

    async with shop.client(raises=False) as http:
        answer = await http.get("/")
    assert (answer.status_code, answer.json()) == (500, {"error": "broken"})


@pytest.mark.parametrize("status_code", [400, 404, 409, 503])
async def test_an_http_exception_of_the_handler_passes(status_code: int) -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        shop.log.append("handler")
        raise HTTPException(status_code, "no", headers={"x-why": "because"})

    async with shop.client() as http:
        answers = [await http.get("/") for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(status_code, {"detail": "no"})] * 2
    assert [answer.headers["x-why"] for answer in answers] == ["because"] * 2
    assert shop.count("handler") == 2


# -- stale -----------------------------------------------------------------------------------------------------------


async def test_a_stale_response_is_served_at_once_and_renewed_behind_the_reply() -> None:
    shop = Shop()
    shop.slow(1.0, ttl=10, stale_while_revalidate=60)
    loop = asyncio.get_running_loop()
    async with shop.client() as http:
        await http.get("/")
        await asyncio.sleep(20)
        began = loop.time()
        stale = [await http.get("/") for _ in range(3)]
        assert loop.time() == began
        await asyncio.sleep(2)
        renewed = await http.get("/")
    assert [answer.text for answer in stale] == ['"ada 1"'] * 3
    assert (renewed.text, status(renewed)) == ('"ada 2"', "tiercel; hit")
    assert shop.count("handler") == 2


async def test_a_renewal_behind_the_reply_that_is_not_for_the_cache_harms_nobody() -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=10, stale_while_revalidate=60)
    async def read(key: Key) -> Response:
        shop.log.append("handler")
        if shop.count("handler") > 1:
            return JSONResponse({"detail": "gone"}, 404)
        return JSONResponse(1)

    async with shop.client() as http:
        await http.get("/")
        await asyncio.sleep(20)
        assert (await http.get("/")).status_code == 200
        await asyncio.sleep(1)
        assert (await http.get("/")).status_code in {200, 404}


async def test_a_stale_response_stands_in_where_the_handler_fails() -> None:
    shop, lost = Shop(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(str(context["exception"])))

    @shop.app.get("/")
    @shop.cache.response(ttl=10, stale_if_error=60)
    async def read(key: Key) -> str:
        shop.log.append("handler")
        if shop.count("handler") > 1:
            raise RuntimeError("broken")
        return key

    async with shop.client() as http:
        await http.get("/")
        await asyncio.sleep(20)
        answer = await http.get("/")
    assert (answer.status_code, answer.text) == (200, '"ada"')
    assert "stale-if-error" in answer.headers["cache-status"]
    assert lost == ["broken"], "no client hears of it, so somebody else has to"


async def test_a_stale_response_does_not_stand_in_for_a_dependency_that_refuses_or_fails() -> None:
    shop, failing = Shop(), [0]

    async def check() -> None:
        if failing[0]:
            raise HTTPException(failing[0])

    @shop.app.get("/", dependencies=[Depends(check)])
    @shop.cache.response(ttl=10, stale_if_error=60, stale_while_revalidate=60)
    async def read(key: Key) -> str:
        return key

    async with shop.client() as http:
        await http.get("/")
        await asyncio.sleep(20)
        for failing[0] in (401, 503):
            assert (await http.get("/")).status_code == failing[0]


# -- invalidation ----------------------------------------------------------------------------------------------------


async def test_a_guarded_fill_that_runs_while_its_tag_is_invalidated_is_condemned() -> None:
    shop = Shop()
    rows = ["old"]

    @shop.app.get("/{number}")
    @shop.cache.response(ttl=60, tags="row:{number}")
    async def read(number: int, key: Key) -> str:
        shop.log.append("handler")
        row = rows[0]
        await asyncio.sleep(1)
        return row

    async with shop.client() as http:
        before = asyncio.create_task(http.get("/1"))
        await asyncio.sleep(0.5)
        rows[0] = "new"
        await shop.cache.invalidate("row:1")
        joining = asyncio.create_task(http.get("/1"))
        assert (await before).json() == "old", "it was asked for before the invalidation"
        assert (await joining).json() == "new", "it must not join what began before"
        assert (await http.get("/1")).json() == "new"
    assert shop.count("handler") == 2


async def test_what_a_dependency_had_read_before_an_invalidation_is_not_kept() -> None:
    shop = Shop()
    rows, pace = ["old"], [1.0]

    async def row() -> str:
        found = rows[0]
        await asyncio.sleep(pace[0])
        return found

    @shop.app.get("/")
    @shop.cache.response(ttl=60, tags="row")
    async def read(row: Annotated[str, Depends(row)], key: Key) -> str:
        return row

    async with shop.client() as http:
        running = asyncio.create_task(http.get("/"))
        await asyncio.sleep(0.5)
        rows[0] = "new"
        await shop.cache.invalidate("row")
        assert (await running).json() == "old", "it was asked for before the invalidation"
        assert (await http.get("/")).json() == "new"


async def test_who_asked_before_the_invalidation_but_was_held_up_by_a_dependency_gets_no_older_value() -> None:
    shop = Shop()
    rows, pace = ["old"], [0.0]

    async def slow() -> None:
        await asyncio.sleep(pace[0])

    @shop.app.get("/", dependencies=[Depends(slow)])
    @shop.cache.response(ttl=60, tags="row")
    async def read(key: Key) -> str:
        row = rows[0]
        await asyncio.sleep(1)
        return row

    async with shop.client() as http:
        first = asyncio.create_task(http.get("/"))
        await asyncio.sleep(0.5)
        pace[0] = 0.2
        held_up = asyncio.create_task(http.get("/"))
        await asyncio.sleep(0.1)
        rows[0] = "new"
        await shop.cache.invalidate("row")
        assert (await first).json() == "old"
        assert (await held_up).json() == "new"


# -- answers that are not stored as they come ------------------------------------------------------------------------


async def test_a_stream_goes_out_as_it_is_made_and_is_stored() -> None:
    shop = Shop()
    loop = asyncio.get_running_loop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number} "
                await asyncio.sleep(1)

        return StreamingResponse(chunks())

    seen: list[tuple[float, bytes]] = []

    async def send(message: Any) -> None:
        if message.get("body"):
            seen.append((loop.time(), message["body"]))

    await shop.app(scope(), receiving(), send)
    assert seen == [(0.0, b"0 "), (1.0, b"1 "), (2.0, b"2 ")]
    async with shop.client() as http:
        assert (status(await http.get("/")), (await http.get("/")).text) == ("tiercel; hit", "0 1 2 ")


async def test_the_first_byte_waits_for_the_dependencies_and_not_for_their_end() -> None:
    shop = Shop()
    loop = asyncio.get_running_loop()

    async def session() -> AsyncIterator[None]:
        await asyncio.sleep(1)
        yield
        await asyncio.sleep(10)

    @shop.app.get("/", dependencies=[Depends(session)])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> int:
        return 1

    answered: list[float] = []

    async def send(message: Any) -> None:
        if not message.get("more_body", message["type"] == "http.response.start"):
            answered.append(loop.time())

    await shop.app(scope(), receiving(), send)
    began = loop.time()
    await shop.app(scope(), receiving(), send)
    assert (answered[0], answered[1] - began) == (1.0, 1.0)


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"shop"), (b"x-key", b"ada")],
        "client": ("10.0.0.1", 1234),
        "server": ("shop", 80),
    }


def receiving() -> Callable[[], Awaitable[Any]]:
    """A client that sends its request and stays."""
    sent = [False]

    async def receive() -> Any:
        if sent[0]:
            await asyncio.Event().wait()
        sent[0] = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def test_a_handler_that_answers_304_by_itself_is_passed_on() -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=10)
    async def read(key: Key) -> Response:
        shop.log.append("handler")
        return Response(status_code=304) if shop.count("handler") > 1 else JSONResponse(1)

    async with shop.client() as http:
        assert (await http.get("/")).status_code == 200
        await asyncio.sleep(20)
        assert (await http.get("/")).status_code == 304


async def test_conditions_of_a_client_are_answered_for_its_own_response() -> None:
    shop = Shop()
    shop.slow(0.0)
    async with shop.client("ada") as ada, shop.client("bob") as bob:
        tag = (await ada.get("/")).headers["etag"]
        assert (await ada.get("/", headers={"if-none-match": tag})).status_code == 304
        assert (await bob.get("/", headers={"if-none-match": tag})).status_code == 200


async def test_a_guarded_response_leaves_as_private_whether_or_not_it_is_stored() -> None:
    shop = Shop()

    @shop.app.get("/{status_code}")
    @shop.cache.response(ttl=60, cdn_ttl=60)
    async def read(status_code: int, key: Key) -> Response:
        return JSONResponse(1, status_code)

    async with shop.client() as http:
        for path in ("/200", "/200", "/404", "/500"):
            answer = await http.get(path)
            assert answer.headers["cache-control"].startswith("private")
            assert "cdn-cache-control" not in answer.headers


@pytest.mark.parametrize(
    ("own", "sent"),
    [("max-age=60", "private, max-age=60"), ("public, max-age=60", "public, max-age=60"), ("no-store", "no-store")],
)
async def test_public_is_only_said_where_the_route_says_it(own: str, sent: str) -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> Response:
        return JSONResponse(1, headers={"cache-control": own})

    async with shop.client() as http:
        assert [(await http.get("/")).headers["cache-control"] for _ in range(2)] == [sent, sent]


# -- whose response it is --------------------------------------------------------------------------------------------


Owner = Callable[[Request], Any] | str


async def per(owner: Owner, keys: list[str], user_of: Callable[[str], Any]) -> tuple[list[Any], list[str], Shop]:
    """What callers with these keys get, where a dependency makes a user of each."""
    shop = Shop()

    async def user(key: Key) -> Any:
        return user_of(key)

    @shop.app.get("/")
    @shop.cache.response(ttl=60, per=owner)
    async def read(user: Annotated[Any, Depends(user)]) -> str:
        return repr(user)

    answers: list[httpx.Response] = []
    for key in keys:
        async with shop.client(key) as http:
            answers.append(await http.get("/"))
    return [answer.json() for answer in answers], [status(answer) for answer in answers], shop


MISS, HIT = "tiercel; fwd=uri-miss; stored", "tiercel; hit"


async def test_per_a_path_keys_by_what_is_found_there() -> None:
    said, did, _ = await per("user.id", ["a1", "a2", "b1"], lambda key: {"id": key[0]})
    assert said == ["{'id': 'a'}", "{'id': 'a'}", "{'id': 'b'}"]
    assert did == [MISS, HIT, MISS]


async def test_per_shared_gives_all_who_pass_the_same() -> None:
    said, did, _ = await per("shared", ["a", "b"], lambda key: key)
    assert (said, did) == (["'a'", "'a'"], [MISS, HIT])


async def test_per_a_callable_keys_by_what_it_says() -> None:
    said, did, _ = await per(lambda request: request.headers["x-key"][0], ["a1", "a2", "b1"], lambda key: key)
    assert (said, did) == (["'a1'", "'a1'", "'b1'"], [MISS, HIT, MISS])


async def test_identities_of_different_types_are_never_the_same() -> None:
    said, did, _ = await per("user", ["1", "s", "b", "t"], {"1": 1, "s": "1", "b": b"1", "t": True}.__getitem__)
    assert (said, did) == (["1", "'1'", "b'1'", "True"], [MISS] * 4)


class Lazy:
    """As an object of an ORM whose session is closed."""

    @property
    def id(self) -> int:
        raise RuntimeError("detached")


@pytest.mark.parametrize("user", [None, object(), Lazy(), {"id": None}, {"id": 1.5}, {"id": ["a"]}])
async def test_where_nobody_knows_whose_response_it_is_it_is_not_stored_and_that_is_told(user: Any) -> None:
    _, did, shop = await per("user.id", ["a", "a"], lambda _: user)
    assert did == ["tiercel; fwd=bypass; detail=identity-unknown"] * 2
    assert [event.where for event in shop.events if isinstance(event, Failed)] == ["the identity of GET /"] * 2


async def test_a_callable_over_the_request_that_fails_leaves_the_route_uncached() -> None:
    def broken(request: Request) -> str:
        raise LookupError("no user")

    said, did, shop = await per(broken, ["a", "b"], lambda key: key)
    assert (said, did) == (["'a'", "'b'"], ["", ""])
    assert any(isinstance(event, Failed) for event in shop.events)
