"""Routes that change something, and what is read after them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel

from tiercel import Cache
from tiercel._core.events import Event, Invalidated
from tiercel.testing import VirtualClock


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


class Shop:
    """An application over one row, and the order in which things happened."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, observers=[self])
        self.app = FastAPI()
        self.cache.install(self.app)
        self.row = "old"

    def on_event(self, event: Event) -> None:
        if isinstance(event, Invalidated):
            self.log.append(f"cut {' '.join(event.tags)}")

    def client(self, *, raises: bool = True) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=raises)
        return httpx.AsyncClient(transport=transport, base_url="http://shop")

    def reads(self, seconds: float = 0.0) -> None:
        @self.app.get("/row")
        @self.cache.response(ttl=600, tags="row")
        async def read() -> str:
            row = self.row
            self.log.append(f"read {row}")
            await asyncio.sleep(seconds)
            return row

    @property
    def cuts(self) -> list[str]:
        """What was invalidated, without the tags that are made of the URL that was written to: RFC 9111 §4.4."""
        cuts = [line.split()[1:] for line in self.log if line.startswith("cut ")]
        named = [" ".join(sorted(tag for tag in cut if not tag.startswith("u:"))) for cut in cuts]
        return [cut for cut in named if cut]


# -- when it acts ----------------------------------------------------------------------------------------------------


async def test_the_next_read_after_the_reply_sees_the_new_row() -> None:
    shop = Shop()
    shop.reads()

    @shop.app.put("/row")
    @shop.cache.invalidates("row")
    async def write(value: str) -> None:
        shop.row = value

    async with shop.client() as http:
        for value in ("new", "newer"):
            assert (await http.get("/row")).json() == (await http.get("/row")).json()
            await http.put("/row", params={"value": value})
            assert (await http.get("/row")).json() == value


async def test_it_acts_before_the_reply_leaves_and_once_more_when_the_dependencies_are_closed() -> None:
    shop = Shop()

    async def session() -> AsyncIterator[None]:
        yield
        shop.log.append("commit")

    @shop.app.put("/other", dependencies=[Depends(session)])
    @shop.cache.invalidates("row")
    async def write(background: BackgroundTasks) -> None:
        background.add_task(shop.log.append, "background")
        shop.log.append("handler")

    async def send(message: Any) -> None:
        shop.log.append(message["type"])

    await shop.app(scope("PUT", "/other"), receiving(), send)
    order = [line for line in shop.log if not line.startswith("cut u:")]
    order = ["cut" if line.startswith("cut") else line for line in order]
    assert order == ["handler", "cut", "http.response.start", "http.response.body", "background", "commit", "cut"]


@pytest.mark.parametrize("per_function", [True, False])
async def test_a_session_that_commits_when_it_is_closed_is_read_new_by_whoever_reads_after_that(
    per_function: bool,  # noqa: FBT001
) -> None:
    shop = Shop()
    shop.reads()
    staged: list[str] = []

    async def session() -> AsyncIterator[list[str]]:
        yield staged
        await asyncio.sleep(1)
        shop.row = staged.pop()

    @shop.app.put("/row")
    @shop.cache.invalidates("row")
    async def write(
        value: str, session: Annotated[list[str], Depends(session, scope="function" if per_function else "request")]
    ) -> None:
        session.append(value)

    async with shop.client() as http:
        await http.get("/row")
        writing = asyncio.create_task(http.put("/row", params={"value": "new"}))
        await asyncio.sleep(0.5)
        between = (await http.get("/row")).json()
        assert between == "old", "nothing is committed"
        await writing
        assert (await http.get("/row")).json() == "new"
        assert status(await http.get("/row")) == "tiercel; hit"


async def test_a_fill_that_starts_between_the_reply_and_the_commit_is_condemned() -> None:
    shop = Shop()
    shop.reads(seconds=5)

    async def session() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(1)
        shop.row = "new"

    @shop.app.put("/row", dependencies=[Depends(session)])
    @shop.cache.invalidates("row")
    async def write() -> None: ...

    async with shop.client() as http:
        writing = asyncio.create_task(http.put("/row"))
        await asyncio.sleep(0.5)
        between = asyncio.create_task(http.get("/row"))
        await writing
        after = asyncio.create_task(http.get("/row"))
        assert (await between).json() == "old", "it was read before the commit"
        assert (await after).json() == "new", "it began after the commit, and must not join what began before"
        assert (await http.get("/row")).json() == "new"


async def test_it_acts_also_when_a_dependency_fails_to_close_and_when_the_client_has_gone() -> None:
    shop = Shop()
    shop.reads()

    async def session() -> AsyncIterator[None]:
        yield
        shop.row = "new"
        await asyncio.sleep(1)
        raise OSError("late")

    @shop.app.put("/row", dependencies=[Depends(session)])
    @shop.cache.invalidates("row")
    async def write() -> None: ...

    async with shop.client(raises=False) as http:
        for leaves in (True, False):
            shop.row = "old"
            await shop.cache.clear()
            writing = asyncio.create_task(http.put("/row"))
            await asyncio.sleep(0.5)
            await http.get("/row")
            if leaves:
                writing.cancel()
            await asyncio.wait([writing])
            await asyncio.sleep(1)  # a server does not end what a client has left
            shop.row = "newest"
            assert (await http.get("/row")).json() == "newest"


@pytest.mark.parametrize(
    ("path", "location", "logged"),
    [("/cached/1", "", 1), ("/plain/1", "", 0), ("/plain/1", "/cached/7?x=1", 1), ("/plain/1", "/nowhere", 0)],
)
async def test_an_unsafe_method_is_logged_only_where_something_may_be_stored(
    path: str, location: str, logged: int
) -> None:
    shop = Shop()

    @shop.app.get("/cached/{number}")
    @shop.cache.response(ttl=60)
    async def read(number: int) -> int:
        return number

    @shop.app.post("/cached/{number}")
    @shop.app.post("/plain/{number}")
    async def write(number: int, response: Response) -> None:
        if location:
            response.headers["location"] = location

    async with shop.client() as http:
        await http.post(path)
    assert len({line for line in shop.log if line.startswith("cut u:")}) == logged


# -- whether it acts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status_code", "acts"),
    [*[(code, True) for code in (200, 201, 204, 302, 303)], *[(code, False) for code in (400, 404, 409, 500)]],
)
@pytest.mark.parametrize("raised", [True, False])
async def test_it_acts_after_2xx_and_3xx_and_not_after_errors(status_code: int, acts: bool, raised: bool) -> None:  # noqa: FBT001
    shop = Shop()

    @shop.app.post("/other")
    @shop.cache.invalidates("row")
    async def write() -> Response:
        if raised and status_code >= 400:
            raise HTTPException(status_code)
        return Response(status_code=status_code)

    async with shop.client() as http:
        await http.post("/other")
    assert shop.cuts == (["row", "row"] if acts else [])


@pytest.mark.called
async def test_it_does_not_act_after_exceptions() -> None:
    shop = Shop()

    class SoldError(Exception):
        pass

    @shop.app.exception_handler(SoldError)
    async def sold(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({}, 409)

    async def refuse() -> None:
        raise HTTPException(403)

    @shop.app.post("/handled")
    @shop.cache.invalidates("row")
    async def handled() -> None:
        raise SoldError

    @shop.app.post("/unhandled")
    @shop.cache.invalidates("row")
    async def unhandled() -> None:
        raise RuntimeError

    @shop.app.post("/refused", dependencies=[Depends(refuse)])
    @shop.cache.invalidates("row")
    async def refused() -> None: ...

    async with shop.client(raises=False) as http:
        codes = [(await http.post(f"/{name}")).status_code for name in ("handled", "unhandled", "refused")]
    assert codes == [409, 500, 403]
    assert shop.cuts == []


@pytest.mark.called
@pytest.mark.parametrize("leaves", [True, False])
async def test_it_acts_when_the_endpoint_has_returned_whatever_becomes_of_the_answer(leaves: bool) -> None:  # noqa: FBT001
    shop = Shop()
    shop.reads()

    class Slow(JSONResponse):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(1)
            await super().__call__(scope, receive, send)

    @shop.app.put("/row", response_model=None if leaves else int, response_class=Slow)
    @shop.cache.invalidates("row")
    async def write() -> Any:
        shop.row = "new"
        return "no number"

    async with shop.client(raises=False) as http:
        await http.get("/row")
        writing = asyncio.create_task(http.put("/row"))
        if leaves:
            await asyncio.sleep(0.5)
            writing.cancel()
            await asyncio.wait([writing])
        else:
            assert (await writing).status_code == 500
        assert (await http.get("/row")).json() == "new"


async def test_it_acts_for_routes_of_any_method_also_for_those_that_only_read() -> None:
    shop = Shop()

    @shop.app.api_route("/touch", methods=["GET", "DELETE", "PATCH"])
    @shop.cache.invalidates("row")
    async def touch() -> None: ...

    async with shop.client() as http:
        for method in ("GET", "DELETE", "PATCH"):
            shop.log.clear()
            await http.request(method, "/touch")
            assert shop.cuts == ["row", "row"], method


# -- tags ------------------------------------------------------------------------------------------------------------


class Kind(Enum):
    BIG = "big"


class Colour(StrEnum):
    RED = "red"


class Item(BaseModel):
    id: int
    owner: dict[str, str] = {}


class Filters(BaseModel):
    page: int = 1
    kind: Kind = Kind.BIG
    colour: Colour = Colour.RED
    uuid: UUID | None = None


Queried = Annotated[Filters, Query()]
Sent = Annotated[Item | None, Body()]


def number() -> int:
    return 7


@pytest.mark.parametrize(
    ("template", "url", "body", "tag"),
    [
        ("row:{number}", "/042", None, "row:42"),
        ("row:{number}", "/-0", None, "row:0"),
        ("row:{number:03d}", "/7", None, "row:007"),
        ("page:{query.page}", "/1?page=002", None, "page:2"),
        ("page:{query.page}", "/1", None, "page:1"),
        ("kind:{query.kind}", "/1?kind=big", None, "kind:big"),
        ("colour:{query.colour}", "/1?colour=red", None, "colour:red"),
        (
            "uuid:{query.uuid}",
            "/1?uuid=6BA7B8109DAD11D180B400C04FD430C8",
            None,
            "uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ),
        ("item:{item.id}", "/1", {"id": "12"}, "item:12"),
        ("owner:{item.owner[name]}", "/1", {"id": 1, "owner": {"name": "ada"}}, "owner:ada"),
        ("dependency:{seven}", "/1", None, "dependency:7"),
        ("plain", "/1", None, "plain"),
        ("{{braces}}", "/1", None, "{braces}"),
    ],
)
@pytest.mark.parametrize("threaded", [True, False])
async def test_templates_are_filled_with_typed_arguments(
    template: str,
    url: str,
    body: Any,
    tag: str,
    threaded: bool,  # noqa: FBT001
) -> None:
    shop = Shop()

    async def write(number: int, query: Queried, seven: Annotated[int, Depends(number)], item: Sent = None) -> None: ...

    def write_in_a_thread(
        number: int, query: Queried, seven: Annotated[int, Depends(number)], item: Sent = None
    ) -> None: ...

    shop.app.put("/{number}")(shop.cache.invalidates(template)(write_in_a_thread if threaded else write))
    async with shop.client() as http:
        answer = await http.put(url, json=body)
    assert answer.status_code == 200
    assert shop.cuts == [tag, tag]


async def test_what_is_written_and_what_is_read_are_named_alike() -> None:
    shop = Shop()
    rows = {42: "old"}

    @shop.app.get("/rows/{number}")
    @shop.cache.response(ttl=60, tags="row:{number}")
    async def read(number: int) -> str:
        return rows[number]

    @shop.app.put("/update/{number}")
    @shop.cache.invalidates("row:{number}")
    def write(number: int, value: str) -> None:
        rows[number] = value

    async with shop.client() as http:
        assert (await http.get("/rows/42")).json() == "old"
        await http.put("/update/0042", params={"value": "new"})
        assert (await http.get("/rows/42")).json() == "new"


async def test_several_tags_and_several_decorators_act_together() -> None:
    shop = Shop()

    @shop.app.put("/{number}")
    @shop.cache.invalidates("row:{number}", "rows")
    @shop.cache.invalidates("rows", "front-page")
    async def write(number: int) -> None: ...

    async with shop.client() as http:
        await http.put("/1")
    assert shop.cuts == ["front-page row:1 rows"] * 2


@pytest.mark.called
async def test_a_tag_that_cannot_be_named_is_an_error_before_anything_is_changed() -> None:
    shop = Shop()

    @shop.app.put("/")
    @shop.cache.invalidates("item:{item.id}")
    async def write(item: Item | None = None) -> None:
        shop.row = "new"

    async with shop.client() as http:
        with pytest.raises(AttributeError):
            await http.put("/")
    assert shop.row == "old"


# -- by hand ---------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_called_by_hand_invalidates_when_it_has_returned() -> None:
    shop = Shop()

    @shop.app.put("/{number}")
    @shop.cache.invalidates("row:{number}:{page}")
    async def write(number: int, page: int = 3) -> str:
        shop.log.append("handler")
        return "done"

    assert await write(5) == "done"
    assert await write(number=6, page=4) == "done"
    assert shop.log == ["handler", "cut row:5:3", "handler", "cut row:6:4"]


def test_a_plain_endpoint_stays_plain_when_it_is_called_by_hand() -> None:
    cache = Cache()
    app = FastAPI()

    @app.put("/{number}")
    @cache.invalidates("row:{number}")
    def write(number: int) -> int:
        return number

    assert write(5) == 5
    assert cache.stats().invalidations == 1


async def test_an_endpoint_that_fails_by_hand_invalidates_nothing() -> None:
    shop = Shop()

    @shop.cache.invalidates("row")
    async def write() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the one above
        await write()
    assert shop.log == []


async def test_an_endpoint_that_another_one_calls_acts_with_that_one() -> None:
    shop = Shop()

    @shop.app.put("/inner")
    @shop.cache.invalidates("inner")
    async def inner() -> None: ...

    @shop.app.put("/outer")
    @shop.cache.invalidates("outer")
    async def outer(fail: bool = False) -> None:  # noqa: FBT001, FBT002
        await inner()
        if fail:
            raise HTTPException(409)

    async with shop.client() as http:
        await http.put("/outer", params={"fail": True})
        assert shop.cuts == ["inner"] * 2, "what has returned has been done"
        shop.log.clear()
        await http.put("/outer")
    assert shop.cuts == ["inner outer"] * 2


async def test_an_endpoint_that_a_background_task_calls_acts_when_that_is_done() -> None:
    shop = Shop()
    shop.reads()

    @shop.cache.invalidates("row")
    async def write() -> None:
        await asyncio.sleep(1)
        shop.row = "new"

    @shop.app.post("/later")
    async def later(background: BackgroundTasks) -> None:
        background.add_task(write)

    async with shop.client() as http:
        await http.get("/row")
        await http.post("/later")
        assert (await http.get("/row")).json() == "new"


async def test_an_endpoint_that_a_task_calls_after_the_request_acts_at_once() -> None:
    shop = Shop()
    shop.reads()
    tasks: list[asyncio.Task[None]] = []

    @shop.cache.invalidates("row")
    async def write() -> None:
        await asyncio.sleep(10)
        shop.row = "new"

    @shop.app.post("/later")
    async def later() -> None:
        tasks.append(asyncio.create_task(write()))

    async with shop.client() as http:
        await http.get("/row")
        await http.post("/later")
        await tasks[0]
        assert (await http.get("/row")).json() == "new"


# -- together with response ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response_above", [True, False])
@pytest.mark.parametrize("guarded", [True, False])
async def test_stacked_with_response_it_acts_when_the_endpoint_runs(response_above: bool, guarded: bool) -> None:  # noqa: FBT001
    shop = Shop()

    async def session(request: Request) -> AsyncIterator[None]:
        yield
        shop.log.append("closed")

    async def read() -> str:
        shop.log.append("handler")
        return shop.row

    response, invalidates = shop.cache.response(ttl=60), shop.cache.invalidates("seen")
    declared = response(invalidates(read)) if response_above else invalidates(response(read))
    shop.app.get("/", dependencies=[Depends(session)] if guarded else [])(declared)
    async with shop.client() as http:
        miss, hit = await http.get("/"), await http.get("/")
    assert (status(miss), status(hit)) == ("tiercel; fwd=uri-miss; stored", "tiercel; hit")
    if guarded:
        assert shop.log == ["handler", "cut seen", "closed", "cut seen", "closed"]
    else:
        assert shop.log == ["handler", "cut seen", "cut seen"]


async def test_an_endpoint_that_invalidates_its_own_tag_is_never_stored() -> None:
    shop = Shop()

    @shop.app.get("/")
    @shop.cache.response(ttl=60, tags="self")
    @shop.cache.invalidates("self")
    async def read() -> str:
        return "x"

    async with shop.client() as http:
        answers = [status(await http.get("/")) for _ in range(2)]
    assert all("hit" not in answer for answer in answers)


async def test_an_endpoint_that_yields_acts_when_its_last_line_is_out() -> None:
    shop = Shop()
    shop.reads()

    @shop.app.post("/import")
    @shop.cache.invalidates("row")
    async def load() -> AsyncIterator[int]:
        yield 1
        shop.row = "new"
        yield 2

    @shop.app.post("/import-in-a-thread")
    @shop.cache.invalidates("row")
    def load_in_a_thread() -> Iterator[int]:
        yield 1
        shop.row = "newer"

    async with shop.client() as http:
        for path, row in (("/import", "new"), ("/import-in-a-thread", "newer")):
            await http.get("/row")
            assert (await http.post(path)).status_code == 200
            assert (await http.get("/row")).json() == row


# -- final at return -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tagged", ["early", "late"])
async def test_an_invalidation_is_final_when_it_returns_against_fills_that_run_and_those_who_join(tagged: str) -> None:
    shop = Shop()

    @shop.app.get("/row")
    @shop.cache.response(ttl=60, tags="row" if tagged == "early" else lambda arguments, value: ["row"])
    async def read() -> str:
        row = shop.row
        await asyncio.sleep(1)
        return row

    async with shop.client() as http:
        running = asyncio.create_task(http.get("/row"))
        await asyncio.sleep(0.5)
        joined = asyncio.create_task(http.get("/row"))
        await asyncio.sleep(0.1)
        shop.row = "new"
        await shop.cache.invalidate("row")
        after = [asyncio.create_task(http.get("/row")) for _ in range(3)]
        assert [(await task).json() for task in (running, joined)] == ["old", "old"], "they had asked before"
        assert [(await task).json() for task in after] == ["new"] * 3
        assert (await http.get("/row")).json() == "new"


async def test_an_invalidation_that_does_not_concern_a_fill_lets_others_join_it() -> None:
    shop = Shop()
    shop.reads(seconds=1)
    async with shop.client() as http:
        running = asyncio.create_task(http.get("/row"))
        await asyncio.sleep(0.5)
        await shop.cache.invalidate("other")
        joined = await http.get("/row")
        await running
    assert status(joined) == "tiercel; fwd=uri-miss; collapsed"
    assert shop.log.count("read old") == 1


async def test_a_stream_that_is_being_read_when_it_is_invalidated_is_not_joined_and_not_kept() -> None:
    shop = Shop()

    @shop.app.get("/row")
    @shop.cache.response(ttl=60, tags="row")
    async def read() -> StreamingResponse:
        async def chunks(row: str) -> AsyncIterator[str]:
            for letter in row:
                yield letter
                await asyncio.sleep(1)

        return StreamingResponse(chunks(shop.row))

    async with shop.client() as http:
        running = asyncio.create_task(http.get("/row"))
        await asyncio.sleep(1.5)
        shop.row = "new"
        await shop.cache.invalidate("row")
        assert (await http.get("/row")).text == "new"
        assert (await running).text == "old"
        assert (await http.get("/row")).text == "new"


async def test_a_write_to_a_url_invalidates_what_was_read_there_also_while_it_is_being_read() -> None:
    shop = Shop()

    @shop.app.get("/row")
    @shop.cache.response(ttl=60, tags="something-else")
    async def read() -> str:
        row = shop.row
        await asyncio.sleep(1)
        return row

    @shop.app.put("/row")
    async def write(value: Annotated[str, Body()]) -> None:
        shop.row = value

    async with shop.client() as http:
        running = asyncio.create_task(http.get("/row"))
        await asyncio.sleep(0.5)
        await http.put("/row", json="new")
        assert (await http.get("/row")).json() == "new"
        await running
        assert (await http.get("/row")).json() == "new"
        await http.put("/row", json="newer")
        assert (await http.get("/row")).json() == "newer"


async def test_a_stale_response_that_was_invalidated_is_not_served_while_it_is_renewed() -> None:
    shop = Shop()

    @shop.app.get("/row")
    @shop.cache.response(ttl=10, stale_while_revalidate=600, stale_if_error=600, tags="row")
    async def read() -> str:
        if shop.row == "broken":
            raise HTTPException(503)
        return shop.row

    async with shop.client() as http:
        await http.get("/row")
        await asyncio.sleep(20)
        shop.row = "broken"
        await shop.cache.invalidate("row")
        assert (await http.get("/row")).status_code == 503


@pytest.mark.parametrize("redirects", [True, False])
async def test_a_form_that_redirects_to_what_it_changed_shows_the_change(redirects: bool) -> None:  # noqa: FBT001
    shop = Shop()
    shop.reads()

    async def session() -> AsyncIterator[None]:
        yield
        shop.row = "new"

    @shop.app.post("/form", dependencies=[Depends(session, scope="function")])
    @shop.cache.invalidates("row")
    async def form() -> Response:
        return RedirectResponse("/row", 303) if redirects else Response(status_code=204)

    async with shop.client() as http:
        await http.get("/row")
        answer = await http.post("/form", follow_redirects=True)
        shown = answer if redirects else await http.get("/row")
    assert shown.json() == "new"


# -- all at once -----------------------------------------------------------------------------------------------------


class Busy(Shop):
    """Rows that are read in every way and written by sessions that commit late, all at random times."""

    ROWS = 2

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.rows = [0] * self.ROWS
        self.known = [0] * self.ROWS
        """What somebody has been told is written."""
        self.seen: list[tuple[str, int, int]] = []
        """What was read, the version that came, and the one that had to."""
        self._reads()

        @self.app.put("/row/{row}", dependencies=[Depends(self.session)])
        @self.cache.invalidates("row:{row}")
        async def write(row: int) -> None:
            await self.pause()
            if self.dice.random() < 0.2:
                raise HTTPException(409)

    def _reads(self) -> None:
        keep: Any = {"ttl": 2, "stale_while_revalidate": 3, "stale_if_error": 3}

        @self.app.get("/front/{row}")
        @self.cache.response(tags="row:{row}", **keep)
        async def front(row: int) -> int:
            return await self.load(row)

        @self.app.get("/late/{row}")
        @self.cache.response(tags=lambda arguments, value: [f"row:{arguments['row']}"], **keep)
        async def late(row: int) -> int:
            return await self.load(row)

        @self.app.get("/guarded/{row}")
        @self.cache.response(tags="row:{row}", **keep)
        async def guarded(found: Annotated[int, Depends(self.loaded)], row: int) -> int:
            return found if self.dice.random() < 0.5 else await self.load(row)

        @self.app.get("/stream/{row}")
        @self.cache.response(tags="row:{row}", **keep)
        async def stream(row: int) -> StreamingResponse:
            async def digits() -> AsyncIterator[str]:
                for digit in str(await self.load(row)):
                    yield digit
                    await self.pause()

            return StreamingResponse(digits())

    async def pause(self) -> None:
        if self.dice.random() < 0.8:
            await asyncio.sleep(self.dice.random())

    async def load(self, row: int) -> int:
        await self.pause()
        version = self.rows[row]
        await self.pause()
        return version

    async def loaded(self, request: Request, row: int) -> int:
        return await self.load(row)

    async def session(self, row: int) -> AsyncIterator[None]:
        yield
        await self.pause()
        self.rows[row] += 1
        await self.pause()

    async def read(self, http: httpx.AsyncClient) -> None:
        row, way = self.dice.randrange(self.ROWS), self.dice.choice(["front", "late", "guarded", "stream"])
        due = self.known[row]
        answer = await http.get(f"/{way}/{row}")
        self.seen.append((way, int(answer.text), due))

    async def write(self, http: httpx.AsyncClient) -> None:
        row = self.dice.randrange(self.ROWS)
        if self.dice.random() < 0.5:
            answer = await http.put(f"/row/{row}")
            version = self.rows[row] if answer.status_code == 200 else 0
        else:
            await self.pause()
            self.rows[row] += 1
            version = self.rows[row]
            await self.cache.invalidate(f"row:{row}")
        self.known[row] = max(self.known[row], version)


@pytest.mark.parametrize("seed", range(6))
async def test_no_read_that_begins_after_a_write_is_known_to_be_done_sees_less_than_that(seed: int) -> None:
    shop = Busy(seed)
    async with shop.client() as http:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(300):
            doing = shop.write if shop.dice.random() < 0.08 else shop.read
            tasks.append(asyncio.create_task(doing(http)))
            await asyncio.sleep(shop.dice.random() / 3)
            if shop.dice.random() < 0.1:
                shop.dice.choice(tasks[-5:]).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [read for read in shop.seen if read[1] < read[2]] == []
    assert len(shop.seen) > 200
    stats = shop.cache.stats()
    assert min(stats.hits, stats.collapsed, stats.stale, stats.discarded) > 0, "all of it has happened"


def scope(method: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"shop")],
        "client": ("10.0.0.1", 1234),
        "server": ("shop", 80),
    }


def receiving() -> Callable[[], Any]:
    """A client that sends its request and stays."""
    sent = [False]

    async def receive() -> Any:
        if sent[0]:
            await asyncio.Event().wait()
        sent[0] = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive
