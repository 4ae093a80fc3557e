"""Hits of guarded routes: dependencies run, the handler does not, and nothing of a fill is made."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import APIKeyHeader
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercel import Cache
from tiercel._core.events import Event
from tiercel._engine.fills import Fill
from tiercel._engine.flights import Flight
from tiercel.testing import VirtualClock, run_virtual

Key = Annotated[str, Depends(APIKeyHeader(name="x-key"))]
Message = MutableMapping[str, Any]
HIT = "tiercel; hit; ttl="


class Shop:
    """An application with a guarded route, whose dependency does what a test wants of it."""

    def __init__(self, per: str = "auto", **policy: Any) -> None:
        self.log: list[str] = []
        self.events: list[Event] = []
        self.pace = 0.0
        self.rows = 1
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, observers=[self], draw=lambda: 0.0)
        self.app = FastAPI()
        self.before: Callable[[Request], Awaitable[None]] = self.pass_by

        async def session(request: Request, background: BackgroundTasks) -> AsyncIterator[None]:
            background.add_task(self.note, "background")
            try:
                await asyncio.sleep(self.pace)
                await self.before(request)
                yield
            finally:
                self.log.append("closed")

        fields: dict[str, Any] = {"ttl": 60, "tags": "rows", "per": per, **policy}

        @self.app.get("/", dependencies=[Depends(session)])
        @self.cache.response(**fields)
        async def read(key: Key) -> dict[str, Any]:
            self.log.append("handler")
            row = self.rows
            await asyncio.sleep(0.1)
            return {"row": row, "key": "all" if per == "shared" else key}

    def installed(self) -> "Shop":
        self.cache.install(self.app)
        return self

    async def note(self, what: str) -> None:
        self.log.append(what)

    async def pass_by(self, _: Request) -> None: ...

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    async def get(self, key: str = "ada", method: str = "GET", **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://shop") as http:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.request(method, "/", headers={"x-key": key, **fields})

    async def called(self, send: Callable[[Message], Awaitable[None]], path: str = "/") -> None:
        """As a server calls it."""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"shop"), (b"x-key", b"ada")],
            "client": ("127.0.0.1", 123),
            "server": ("shop", 80),
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self.app(scope, receive, send)

    async def sent(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.log.append("sent")


def there() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, Fill | Flight)]


# -- what a hit is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["auto", "shared", "key"])
async def test_a_hit_makes_no_fill(per: str) -> None:
    shop = Shop(per).installed()
    await shop.get()
    gc.collect()
    before, seen = there(), list[object]()

    async def look(_: Request) -> None:
        seen.extend(one for one in there() if all(one is not other for other in before))

    shop.before = look
    assert (await shop.get()).headers["cache-status"].startswith(HIT)
    assert seen == []
    await shop.cache.invalidate("rows")
    assert (await shop.get()).headers["cache-status"] == "tiercel; fwd=uri-miss; stored"


async def test_a_hit_goes_out_before_background_tasks_and_before_its_dependencies_are_closed() -> None:
    shop = Shop().installed()
    await shop.get()
    shop.log.clear()
    await shop.called(shop.sent)
    assert shop.log == ["sent", "background", "closed"]


async def test_a_dependency_of_the_function_s_scope_is_closed_before_a_hit_goes_out() -> None:
    shop = Shop()

    async def transaction() -> AsyncIterator[None]:
        yield
        shop.log.append("committed")

    @shop.app.get("/with", dependencies=[Depends(transaction, scope="function")])
    @shop.cache.response(ttl=60)
    async def read(key: Key) -> str:
        return key

    shop.installed()
    for _ in range(2):
        shop.log.clear()
        await shop.called(shop.sent, path="/with")
        assert shop.log == ["committed", "sent"]


async def test_what_dependencies_read_counts_from_the_start_though_the_fill_is_made_later() -> None:
    shop = Shop().installed()

    async def tenant(request: Request) -> None:
        if request.headers.get("x-tenant") == "none":
            raise HTTPException(403)

    shop.before = tenant
    for name in ("one", "two"):
        for said in ("tiercel; fwd=", HIT):
            answer = await shop.get(x_tenant=name)
            assert answer.headers["cache-status"].startswith(said)
            assert "x-tenant" in answer.headers["vary"].lower()
    assert (await shop.get(x_tenant="none")).status_code == 403
    assert shop.log.count("handler") == 2


async def test_a_dependency_that_asks_whether_its_client_is_there_is_answered_and_the_hit_is_one() -> None:
    shop, gone = Shop().installed(), list[bool]()
    await shop.get()

    async def look(request: Request) -> None:
        gone.append(await request.is_disconnected())

    shop.before = look
    assert [(await shop.get()).headers["cache-status"].startswith(HIT) for _ in range(2)] == [True, True]
    assert gone == [False, False]
    assert shop.log.count("handler") == 1


async def test_what_stands_between_and_reads_the_request_after_the_endpoint_is_told_that_nobody_listens() -> None:
    shop, heard = Shop(), list[str]()

    def between(app: Any) -> Any:
        async def asking(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start" and shop.log.count("closed"):  # of the fill
                    heard.extend([(await receive())["type"] for _ in range(2)])
                await send(message)

            await app(scope, receive, sending)

        return asking

    shop.app.add_middleware(between)
    shop.installed()
    await shop.get()
    answer = await shop.get()
    assert answer.headers["cache-status"].startswith(HIT)
    assert heard == ["http.request", "http.disconnect"]


@pytest.mark.called
async def test_where_middleware_inside_fails_it_fails_for_the_caller_of_a_hit_too() -> None:
    shop = Shop()

    def between(app: Any) -> Any:
        async def failing(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if shop.log.count("closed"):  # of the fill
                    raise LookupError("inside")
                await send(message)

            await app(scope, receive, sending)

        return failing

    shop.app.add_middleware(between)
    shop.installed()
    await shop.get()
    with pytest.raises(LookupError, match="inside"):
        await shop.get()
    assert shop.log.count("handler") == 1


async def test_a_dependency_that_refuses_after_the_endpoint_refuses_a_hit_too() -> None:
    shop, refuses = Shop(), False

    async def limit(key: Key) -> AsyncIterator[None]:
        yield
        if refuses:
            raise HTTPException(429)

    @shop.app.get("/limited")
    @shop.cache.response(ttl=60)
    async def read(_: Annotated[None, Depends(limit, scope="function")]) -> str:
        shop.log.append("handler")
        return "read"

    shop.installed()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shop.app), base_url="http://shop") as http:
        for refused in (False, False, True, False):
            refuses = refused
            answer = await http.get("/limited", headers={"x-key": "ada"})
            assert answer.status_code == (429 if refused else 200)
            shop.log.append(answer.headers["cache-status"])
    assert shop.log[-1].startswith(HIT)
    assert shop.log.count("handler") == 1


@pytest.mark.parametrize("how", ["fresh", "stale"])
async def test_what_dependencies_invalidate_is_cut_before_a_hit_leaves(how: str) -> None:
    """Also where the answer is a stale one: it leaves while the dependencies are still to be closed."""
    shop = Shop(stale_while_revalidate=60).installed()
    await shop.get()
    if how == "stale":
        await shop.cache.invalidate("rows", soft=True)

    @shop.cache.invalidates("views")
    async def view() -> None: ...

    async def viewed(_: Request) -> None:
        await view()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.append(await shop.cache.get("views"))

    shop.before, seen = viewed, list[Any]()
    await shop.cache.set("views", 1, ttl=60, tags=["views"])
    await shop.called(sent)
    assert seen == [None]


async def test_an_application_that_never_ends_on_a_hit_is_ended() -> None:
    shop = Shop()
    piece = bytes(shop.cache.engine.tiers.limit // 3)

    def between(app: Any) -> Any:
        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            while shop.log.count("closed") > 1:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        return endless

    shop.app.add_middleware(between)
    shop.installed()
    await shop.get()
    assert (await shop.get()).headers["cache-status"].startswith(HIT)
    assert len(shop.cache.engine.background) == 0


# -- who leaves ------------------------------------------------------------------------------------------------------


async def left_after(shop: Shop, seconds: float) -> None:
    task = asyncio.create_task(shop.called(shop.sent))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])


async def test_who_leaves_before_the_cache_was_asked_ends_its_dependencies_and_nothing_else() -> None:
    shop = Shop().installed()
    await shop.get()
    shop.log.clear()
    shop.pace = 1.0
    await left_after(shop, 0.5)
    await asyncio.sleep(5.0)
    assert shop.log == ["closed"]
    assert len(shop.cache.engine.background) == 0
    assert (await shop.get()).headers["cache-status"].startswith(HIT)


async def test_who_leaves_a_hit_leaves_its_background_task_to_end_in_peace() -> None:
    shop = Shop().installed()
    await shop.get()
    shop.log.clear()

    async def slowly(what: str) -> None:
        await asyncio.sleep(1.0)
        shop.log.append(what)

    shop.note = slowly  # type: ignore[method-assign]
    await left_after(shop, 0.5)
    assert shop.log == ["sent"]
    await asyncio.sleep(1.0)
    assert shop.log == ["sent", "background", "closed"]


async def test_what_the_server_raises_as_it_is_given_a_hit_goes_back_to_the_server() -> None:
    shop = Shop().installed()
    await shop.get()

    async def gone(_: Message) -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await shop.called(gone)
    assert (await shop.get()).headers["cache-status"].startswith(HIT)


async def test_a_request_that_a_shutdown_ends_ends_for_its_caller_too() -> None:
    shop = Shop().installed()
    await shop.get()
    shop.pace = 100.0
    waiting = asyncio.create_task(shop.called(shop.sent))
    await asyncio.sleep(1.0)
    await shop.cache.aclose()
    with pytest.raises(ConnectionError, match="cancelled"):
        await waiting


# -- what changes while dependencies run -----------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["shared", "key"])
async def test_what_expires_while_the_dependencies_of_many_run_is_computed_once_for_all(per: str) -> None:
    shop = Shop(per).installed()
    await shop.get()
    shop.log.clear()
    shop.pace, shop.rows = 1.0, 2
    await asyncio.sleep(59.5)
    answers = await asyncio.gather(*[shop.get() for _ in range(100)])
    assert [answer.json()["row"] for answer in answers] == [2] * 100
    assert (shop.log.count("handler"), shop.log.count("closed")) == (1, 100)


async def test_who_leads_after_it_has_expired_may_leave_and_the_others_are_served() -> None:
    shop = Shop("shared").installed()
    await shop.get()
    shop.log.clear()
    shop.pace = 1.0
    await asyncio.sleep(59.5)
    leading = asyncio.create_task(shop.get())
    await asyncio.sleep(0.01)
    callers = [asyncio.create_task(shop.get("bob")) for _ in range(10)]
    await asyncio.sleep(1.05)
    leading.cancel()
    assert {answer.json()["row"] for answer in await asyncio.gather(*callers)} == {1}
    assert shop.log.count("handler") == 1


@pytest.mark.parametrize("per", ["auto", "shared", "key"])
@pytest.mark.parametrize("everything", [False, True])
async def test_what_is_invalidated_while_dependencies_run_is_not_what_they_get_and_is_not_kept(
    per: str,
    everything: bool,  # noqa: FBT001
) -> None:
    shop = Shop(per).installed()
    await shop.get()
    shop.pace = 1.0
    callers = [asyncio.create_task(shop.get()) for _ in range(3)]
    await asyncio.sleep(0.5)
    shop.rows = 2
    await (shop.cache.clear() if everything else shop.cache.invalidate("rows"))
    assert [answer.json()["row"] for answer in await asyncio.gather(*callers)] == [2] * 3
    # Their dependencies may have read what was there before it: none of that is stored.
    assert (await shop.get()).headers["cache-status"] == "tiercel; fwd=uri-miss; stored"


async def test_what_was_filled_meanwhile_answers_who_came_before_it() -> None:
    shop = Shop("shared").installed()
    shop.pace = 1.0
    waiting = asyncio.create_task(shop.get())
    await asyncio.sleep(0.5)
    shop.pace = 0.0
    await shop.get("bob")
    assert (await waiting).headers["cache-status"].startswith(HIT)
    assert shop.log.count("handler") == 1


# -- the same as the whole way ---------------------------------------------------------------------------------------


class Early:
    """Middleware inside that receives before anybody else: from there on a request is a fill, whatever is stored."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        first = [await receive()]

        async def again() -> Any:
            return first.pop() if first else await receive()

        await self.app(scope, again, send)


STEPS = st.one_of(
    st.tuples(
        st.just("get"),
        st.sampled_from(["ada", "bob"]),
        st.sampled_from(["GET", "HEAD"]),
        st.sampled_from(
            [{}, {"if_none_match": "*"}, {"range": "bytes=2-5"}, {"x_tenant": "t"}, {"cache_control": "no-cache"}]
        ),
    ),
    st.tuples(st.just("together"), st.integers(2, 5)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 8.0, 30.0])),
    st.tuples(st.just("change"), st.booleans()),
    st.tuples(st.just("leave"), st.sampled_from([0.05, 0.55])),
)


@settings(max_examples=60)
@given(
    steps=st.lists(STEPS, max_size=14), per=st.sampled_from(["auto", "shared", "key"]), window=st.sampled_from([0, 20])
)
def test_a_hit_is_what_the_whole_way_would_have_answered(steps: list[Any], per: str, window: int) -> None:
    def shop(*, whole: bool) -> Shop:
        made = Shop(per, ttl=10, stale_while_revalidate=window)
        if whole:
            made.app.add_middleware(Early)

        async def tenant(request: Request) -> None:
            request.headers.get("x-tenant")

        made.pace, made.before = 0.5, tenant
        return made.installed()

    short, whole = (run_virtual(played(shop(whole=whole), steps)) for whole in (False, True))
    assert short == whole


async def played(shop: Shop, steps: list[Any]) -> list[object]:
    """What the clients got, and how often the handler ran, step by step; nobody gets what had been changed."""
    seen: list[object] = []
    for step in steps:
        match step:
            case ("get", key, method, headers):
                seen += [told(await shop.get(key, method, **headers), shop.rows)]
            case ("together", count):
                answers = await asyncio.gather(*[shop.get(f"user {number % 2}") for number in range(count)])
                seen += sorted([told(answer, shop.rows) for answer in answers], key=str)
            case ("wait", seconds):
                await asyncio.sleep(seconds)
            case ("change", meanwhile):
                running = asyncio.create_task(shop.get())
                await asyncio.sleep(0.3 if meanwhile else 1.0)
                shop.rows += 1
                await shop.cache.invalidate("rows")
                seen.append(told(await running, None))
            case _:
                await left_after(shop, step[1])
        await asyncio.sleep(1.0)
        seen.append((shop.log.count("handler"), shop.log.count("closed")))
    return seen


def told(answer: Response | httpx.Response, row: int | None) -> object:
    """What a client sees of it; row: what must not be older."""
    assert isinstance(answer, httpx.Response)
    if answer.status_code == 200 and answer.content and row is not None:
        assert answer.json()["row"] == row
    return answer.status_code, sorted(answer.headers.items()), answer.content
