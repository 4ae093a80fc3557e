"""What the README says about exports."""

import asyncio
import csv
import io
import json
import sqlite3
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from drive import Client, Visit
from httpx import AsyncClient
from shop_client import bearer, client_of, is_hit, lifespan
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool
from starlette.types import ASGIApp
from uvicorn_server import serving

from storefront.catalogue import queries
from storefront.catalogue.schemas import Filters
from storefront.exports import response, service
from storefront.exports.formats import csv_lines, json_lines
from storefront.exports.response import Streamed
from storefront.exports.service import written
from storefront.main import surrounded
from storefront.parts import Parts
from storefront.settings import Settings
from tiercel.testing import run_virtual

CSV, NDJSON = "/exports/products.csv", "/exports/products.ndjson"
PATH = f"/api/v1{NDJSON}"
FEW = "?cut=Fair&color=J&color=D&price_max=5000"


@dataclass
class Shop:
    """An application over the whole catalogue, what it reads with, and who asks it."""

    app: ASGIApp
    parts: Parts
    client: AsyncClient
    by_hand: Client
    """What is read of its answers is up to the test, message by message."""
    selected: list[str]

    @property
    def connections(self) -> int:
        """How many are taken."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout()

    @property
    def engine(self) -> AsyncEngine:
        return self.parts.database.engine

    async def given_back(self, *, to: int) -> None:
        """Until no more connections than these are taken."""
        while self.connections > to:  # noqa: ASYNC110 - a pool tells nobody
            await asyncio.sleep(0)


async def begun(visit: Visit) -> None:
    """Until the first bytes have come."""
    while not visit.body:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)


@asynccontextmanager
async def shop_with(settings: Settings, **more: object) -> AsyncGenerator[Shop]:
    often = dict.fromkeys(("rate", "rate_search", "rate_user"), "1000000/second")
    parts = Parts.made_for(settings.model_copy(update={"allowed_hosts": ("shop",), **often, **more}))
    selected: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "FROM products" in statement:
            selected.append(statement)

    event.listen(parts.database.engine.sync_engine, "before_cursor_execute", note)
    app, before = surrounded(parts), asyncio.all_tasks()
    async with lifespan(app), client_of(app) as client:
        shop = Shop(app, parts, client, Client(app), selected)
        yield shop
        assert shop.connections == 0
    while asyncio.all_tasks() - before:  # noqa: ASYNC110 - what is left has no end of its own to wait for
        await asyncio.sleep(0)


def read_rows(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


# -- what is in it -----------------------------------------------------------------------------------------------------


async def test_an_export_has_every_product_that_passes_the_filters(
    either: Settings, diamonds: list[dict[str, Any]]
) -> None:
    grades = {"cut": "Fair", "color": ("J", "D")}
    async with shop_with(either) as shop:
        everything = read_rows((await shop.client.get(NDJSON)).text)
        assert [row["id"] for row in everything] == [row["id"] for row in diamonds]
        assert everything[0] == (await shop.client.get("/products/1")).json()
        some = [
            row
            for row in everything
            if row["cut"] == grades["cut"] and row["color"] in grades["color"] and row["price"] <= 5000
        ]
        assert 100 < len(some) < 1000
        assert read_rows((await shop.client.get(NDJSON + FEW)).text) == some
        table = await shop.client.get(CSV + FEW)
        assert table.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert table.headers["content-disposition"] == 'attachment; filename="products.csv"'
        read = list(csv.DictReader(io.StringIO(table.text, newline="")))
        assert read == [{name: str(value) for name, value in row.items()} for row in some]
        assert table.text.count("\r\n") == len(some) + 1
        none = f"{CSV}?price_min=10000000"
        assert (await shop.client.get(none)).text == table.text.partition("\n")[0] + "\n"
        for wrong in (f"{CSV}?cut=Square", f"{NDJSON}?price_min=-1"):
            refused = await shop.client.get(wrong)
            assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")


def test_no_text_in_an_export_is_computed_by_a_spreadsheet() -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x"," y")']
    (read,) = csv.reader(io.StringIO(csv_lines([[*hostile, "a=b", "Ideal", -1, 0.5, None]]).decode(), newline=""))
    assert read == [*(f"'{cell}" for cell in hostile), "a=b", "Ideal", "-1", "0.5", ""]
    assert json_lines(["text"], [["=1+1\n"], ["\u2028"]]).decode().count("\n") == 2


# -- how it goes out ---------------------------------------------------------------------------------------------------


async def test_an_export_is_streamed_while_it_is_stored_and_whoever_comes_meanwhile_joins(either: Settings) -> None:
    async with shop_with(either) as shop:
        visits = [shop.by_hand.ask(PATH)]
        reading: list[int] = []
        await begun(visits[0])
        reading.append(shop.connections)
        visits.append(shop.by_hand.ask(PATH))
        for visit in visits:
            await visit.done()
        later = await shop.client.get(NDJSON)
        assert reading == [1], "the first bytes are there before the last row was read"
        assert [visit.said for visit in visits] == ["fwd=uri-miss; stored", "fwd=uri-miss; collapsed"]
        assert is_hit(later)
        assert {visit.body for visit in visits} == {later.content}
        assert len(read_rows(later.text)) == 53_940
        assert len([message for message in visits[0].messages if message.get("body")]) > 50
        assert len(shop.selected) == 1


async def test_an_export_that_is_larger_than_the_cache_is_streamed_in_little_memory(either: Settings) -> None:
    async with shop_with(either, cache_memory="1MB") as shop:
        size, most = 0, 0

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            nonlocal size
            size += len(message.get("body", b""))

        await shop.client.get(NDJSON + FEW)  # what is loaded once is loaded
        scope = {"type": "http", "method": "GET", "scheme": "http", "path": PATH, "raw_path": PATH.encode()}
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await shop.app({**scope, "query_string": b"", "headers": [(b"host", b"shop")]}, receive, send)
            most = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert size > 8_000_000
        assert most < 2_000_000
        again = await shop.client.get(NDJSON)
        assert (is_hit(again), len(again.content), len(shop.selected)) == (False, size, 3)


async def test_a_client_that_reads_slowly_reads_a_stored_export_and_holds_no_connection(either: Settings) -> None:
    async with shop_with(either) as shop:
        slow = shop.by_hand.ask(PATH)
        slow.reads.clear()
        other = await shop.client.get(NDJSON)
        assert (shop.connections, slow.messages) == (0, [])
        assert is_hit(await shop.client.get(NDJSON))
        slow.reads.set()
        assert (await slow.done()).body == other.content


async def test_exports_that_are_read_slowly_leave_connections_for_others(settings: Settings) -> None:
    async with shop_with(settings, cache_memory="1MB", database_pool=4) as shop:
        slow = [shop.by_hand.ask(f"{PATH}?price_max={10_000_000 - number}") for number in range(2)]
        for visit in slow:
            await begun(visit)
            visit.reads.clear()
        assert shop.connections == 2
        refused = await shop.client.get(CSV)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await shop.client.get("/products/1")).status_code == 200
        slow[0].hung_up.set()
        slow[0].reads.set()
        await slow[0].done()
        await shop.given_back(to=1)
        while (await shop.client.get(CSV)).status_code == 503:
            assert shop.connections == 1, "the turn ends with the session"
        slow[1].reads.set()
        assert len(read_rows((await slow[1].done()).body.decode())) == 53_940


# -- when it goes wrong ------------------------------------------------------------------------------------------------


def breaking(engine: AsyncEngine) -> list[Any]:
    """Grow by each connection that is given out: to be broken as the database itself breaks it."""
    given: list[Any] = []

    def note(raw: Any, _record: object, _proxy: object) -> None:
        given.append(raw.driver_connection)

    event.listen(engine.sync_engine, "checkout", note)
    return given


async def break_off(shop: Shop, connection: Any, settings: Settings) -> None:
    if settings.database_url.startswith("sqlite"):
        raw: sqlite3.Connection = connection._conn
        raw.interrupt()
        return
    async with shop.engine.connect() as other:
        await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": connection.get_server_pid()})


@pytest.mark.parametrize("memory", ["256MB", "1MB"])
async def test_an_export_that_breaks_off_ends_for_nobody_and_is_not_stored(either: Settings, memory: str) -> None:
    async with shop_with(either, cache_memory=memory) as shop:
        given = breaking(shop.engine)
        visits = [shop.by_hand.ask(PATH) for _ in range(3)]
        for visit in visits:
            await begun(visit)
        await break_off(shop, given[0], either)
        errors = [await visit.failed() for visit in visits]
        assert not any(isinstance(error, asyncio.CancelledError) for error in errors)
        assert [(visit.status, visit.ended) for visit in visits] == [(200, False)] * 3
        await shop.given_back(to=0)
        whole = await shop.client.get(NDJSON)
        assert (is_hit(whole), len(read_rows(whole.text))) == (False, 53_940)


async def test_a_write_invalidates_an_export_also_one_that_is_being_written(either: Settings) -> None:
    async with shop_with(either) as shop:
        alice = await bearer(shop.client, "alice", "wonderland")
        await shop.client.get(CSV + FEW)
        running = shop.by_hand.ask(PATH)
        await begun(running)
        changed = await shop.client.patch("/products/53940", json={"price": 4999}, headers=alice)
        assert changed.status_code == 200
        after = shop.by_hand.ask(PATH)
        whole = [read_rows((await visit.done()).body.decode()) for visit in (running, after)]
        assert [len(each) for each in whole] == [53_940] * 2
        assert [each[-1]["price"] for each in whole] == [2757, 4999], "either is of one moment"
        assert "collapsed" not in after.said
        again = await shop.client.get(NDJSON)
        assert read_rows(again.text)[-1] == changed.json()
        assert not is_hit(await shop.client.get(CSV + FEW))


@pytest.mark.parametrize("memory", ["256MB", "1MB"])
async def test_an_export_whose_client_has_gone_is_stored_or_ended_and_leaves_no_session(
    either: Settings, memory: str
) -> None:
    async with shop_with(either, cache_memory=memory) as shop:
        gone = shop.by_hand.ask(PATH)
        await begun(gone)
        if memory == "1MB":
            gone.reads.clear()
        assert shop.connections == 1
        gone.hung_up.set()
        gone.reads.set()
        await gone.done()
        await shop.given_back(to=0)
        assert gone.ended is False
        again = await shop.client.get(NDJSON)
        assert is_hit(again) is (memory == "256MB")
        assert len(read_rows(again.text)) == 53_940


async def test_a_release_with_other_columns_shares_no_export(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_with(settings) as shop:
        before = await shop.client.get(CSV + FEW)
        monkeypatch.setattr(service, "COLUMNS", ("id", "price"))
        after = [await shop.client.get(CSV + FEW) for _ in range(2)]
    assert before.text.startswith("id,carat,")
    assert [(is_hit(each), each.text.partition("\r")[0]) for each in after] == [(False, "id,price"), (True, "id,price")]


async def test_an_export_that_is_left_closes_its_cursor(either: Settings) -> None:
    async with shop_with(either) as shop, shop.parts.database.sessions() as session:
        rows = await queries.streamed(session, Filters(), ("id", "cut"), 10)
        content = written(rows, csv_lines)
        assert (await anext(content)).count(b"\r\n") == 10
        assert not rows.closed
        await content.aclose()
        assert rows.closed


async def test_an_export_that_nobody_reads_ends_between_two_pieces() -> None:
    left, given, sent = asyncio.Event(), list[str](), list[Any]()

    async def content() -> AsyncGenerator[bytes]:
        try:
            for _ in range(100):
                given.append("piece")
                yield b"x"
        finally:
            given.append("end")

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            left.set()
        for _ in range(5):
            await asyncio.sleep(0)

    await Streamed(content(), media_type="text/plain", headers={})({"type": "http"}, receive, send)
    assert given == ["piece", "piece", "end"]
    assert all(message.get("more_body", True) for message in sent)


@pytest.mark.parametrize("headers", [(), ((b"authorization", b"Basic x"),)])
async def test_an_export_that_is_not_read_in_time_is_broken_off_and_its_turn_is_free(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    memory = "256MB" if headers else "1MB"  # what is not stored is read at the pace of its client
    async with shop_with(settings, cache_memory=memory) as shop:
        visits = [shop.by_hand.ask(f"{PATH}?price_max={10_000_000 - number}", headers=headers) for number in range(4)]
        with monkeypatch.context() as impatient:
            impatient.setattr(response, "LONGEST", 0.05)
            for visit in visits:
                visit.reads.clear()
            while sum("broken off" in line for line in caplog.messages) < 4:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0)
            await shop.given_back(to=0)
        whole = [await shop.client.get(f"{NDJSON}?price_max={10_000_000 - number}") for number in range(4)]
        for visit in visits:
            visit.reads.set()
        outcomes = await asyncio.gather(*(visit.task for visit in visits if visit.task), return_exceptions=True)
    assert not any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert [visit.ended for visit in visits] == [False] * 4
    assert [is_hit(each) for each in whole] == [False] * 4, "nothing of what was broken off is stored"
    assert [len(read_rows(each.text)) for each in whole] == [53_940] * 4


def test_an_export_is_broken_off_while_its_client_is_waited_for_and_never_while_rows_are() -> None:
    given, sent = list[str](), list[Any]()

    async def content() -> AsyncGenerator[bytes]:
        try:
            for _ in range(100):
                await asyncio.sleep(response.LONGEST)
                given.append("piece")
                yield b"x"
        finally:
            given.append("end")

    async def receive() -> Any:
        await asyncio.Future[None]()

    async def send(message: Any) -> None:
        if len(given) == 2:
            await asyncio.sleep(0)
        sent.append(message)

    run_virtual(Streamed(content(), media_type="text/plain", headers={})({"type": "http"}, receive, send))
    assert given == ["piece", "piece", "end"]
    assert [message.get("body") for message in sent] == [None, b"x"]


def test_a_server_whose_clients_leave_in_the_midst_of_exports_stops_when_it_is_told_to(settings: Settings) -> None:
    with serving(settings.model_copy(update={"cache_memory": "1MB"})) as place:
        for _ in range(4):
            with httpx.stream("GET", f"{place}{PATH}") as answer:
                assert next(answer.iter_raw(1_000))
        assert httpx.get(f"{place}/api/v1/products/1").status_code == 200


async def test_the_document_says_what_an_export_is(settings: Settings) -> None:
    async with shop_with(settings) as shop:
        paths = (await shop.client.get("http://shop/openapi.json")).json()["paths"]
    for path, kind in ((CSV, "text/csv"), (NDJSON, "application/x-ndjson")):
        answers = paths[f"/api/v1{path}"]["get"]["responses"]
        assert [*answers["200"]["content"]] == [kind]
        assert {"304", "422"} <= set(answers)
        assert [*answers["503"]["content"]] == ["application/problem+json"]
        names = {parameter["name"] for parameter in paths[f"/api/v1{path}"]["get"]["parameters"]}
        assert names == {"cut", "color", "clarity", "price_min", "price_max", "carat_min", "carat_max"}
    assert f"/api/v2{CSV}" not in paths
