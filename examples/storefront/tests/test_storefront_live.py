"""What the README says about the live stock: real servers, real clients; and one that does not read."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import ExitStack, aclosing, closing
from datetime import timedelta
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import httpx
import pytest
from live_client import ByEvents, ByWebSocket, by_events, by_websocket
from redis_server import Server
from shop_client import sqlite
from starlette.types import ASGIApp
from uvicorn_server import serving, started
from websockets.exceptions import InvalidStatus

from storefront.events.relay import meanwhile
from storefront.events.schemas import ProductChanged
from storefront.events.streams import BODY, LIVE, Streams
from storefront.live import follower
from storefront.live.feed import BEHIND, KEPT, Feed, Listener
from storefront.live.schemas import Hello, Stock
from storefront.parts import Parts
from storefront.settings import Settings

SERVED = pytest.mark.parametrize(
    ("program", "factory"),
    [("uvicorn", "storefront.main:create_app"), ("tiercel serve", "with_nothing_around:create")],
)
"""What stands around the storefront keeps `tiercel serve` from answering in front: without it, it does."""

BOTH = pytest.mark.parametrize("listening", [by_events, by_websocket])


class Shop:
    """A server, and somebody who may change what it sells."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=f"{url}/api/v1", timeout=20)
        answer = self.client.post("/token", data={"username": "alice", "password": "wonderland"})
        self.alice = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def change(self, stock: int, product_id: int = 1) -> None:
        changed = self.client.patch(f"/products/{product_id}", json={"stock": stock}, headers=self.alice)
        assert changed.status_code == 200

    def order(self, product_id: int, key: str) -> None:
        headers = {**self.alice, "Idempotency-Key": key}
        placed = self.client.post("/orders", json={"lines": [{"product_id": product_id}]}, headers=headers)
        assert placed.status_code == 201


@pytest.fixture(scope="module")
def place(loaded: Path) -> Iterator[Settings]:
    with TemporaryDirectory() as directory:
        yield sqlite(Path(copy(loaded, directory))).model_copy(
            update={"cors_origins": ("https://shop.example",), "events_sweep": timedelta(seconds=0.5)}
        )


@pytest.fixture(scope="module")
def two(place: Settings, redis: Server) -> Iterator[tuple[Shop, Shop]]:
    """Two processes that share a Redis."""
    redis.ask("FLUSHALL")
    shared = place.model_copy(update={"events_url": redis.url})
    with ExitStack() as running:
        shops = [Shop(running.enter_context(serving(shared))) for _ in range(2)]
        for shop in shops:
            running.callback(shop.client.close)
        yield shops[0], shops[1]


# --------------------------------------------------------------------------------------------------- past the cache


@SERVED
def test_live_stock_passes_the_cache_untouched_and_its_first_byte_comes_at_once(
    settings: Settings, program: str, factory: str
) -> None:
    with serving(settings, factory, program) as url, ExitStack() as listening:
        # Before anything has happened, and while the others still listen.
        clients = [listening.enter_context(by_events(url)) for _ in range(3)]
        for client in clients:
            assert client.next()["type"] == "hello"
            headers = client.answer.headers
            assert headers["content-type"] == "text/event-stream; charset=utf-8"
            assert headers["cache-control"] == "no-store"
            assert {"age", "etag", "content-length", "content-encoding"} & set(headers) == set()
            assert "hit" not in headers.get("cache-status", "")
        socket = listening.enter_context(by_websocket(url))
        assert socket.next()["type"] == "hello"
        shop = Shop(url)
        listening.callback(shop.client.close)
        shop.change(50, product_id=2)
        everybody: list[ByEvents | ByWebSocket] = [*clients, socket]
        told = [client.next() for client in everybody]
        assert [(each["type"], each["product_id"], each["stock"]) for each in told] == [("stock", 2, 50)] * 4


# ------------------------------------------------------------------------------------------------- between processes


@BOTH
def test_an_order_in_one_worker_is_seen_by_the_clients_of_the_other(two: tuple[Shop, Shop], listening: Any) -> None:
    number = 10 if listening is by_events else 11
    with listening(two[1].url) as there, listening(two[0].url) as here:
        assert [each.next()["type"] for each in (there, here)] == ["hello", "hello"]
        two[0].order(number, f"order-of-{number}")
        told = [each.next() for each in (there, here)]
        assert told[0] == told[1]
        said = (told[0]["product_id"], told[0]["stock"], told[0]["version"])
        assert said == (number, 0, 2)


@BOTH
def test_who_comes_back_is_told_what_it_has_missed_also_by_another_worker(
    two: tuple[Shop, Shop], listening: Any
) -> None:
    with listening(two[0].url) as client:
        assert client.next()["resumed"] is False
        two[0].change(3)
        last = client.next()
    for stock in (4, 5, 6):
        two[1].change(stock)
    with listening(two[1].url, last["id"]) as client:
        assert client.next() | {"retry": ""} == {"type": "hello", "id": last["id"], "resumed": True, "retry": ""}
        assert [client.next()["stock"] for _ in range(3)] == [4, 5, 6]
        two[0].change(7)
        assert client.next()["stock"] == 7


@BOTH
@pytest.mark.parametrize("place_", ["1-1", "99999999999999-0", "x", "-", "1-" + "9" * 40])
def test_who_was_away_for_too_long_is_told_so(two: tuple[Shop, Shop], listening: Any, place_: str) -> None:
    two[0].change(1)
    with listening(two[0].url, place_) as client:
        assert client.next()["resumed"] is False
        two[1].change(2)
        # What was told before may still be on its way to this worker.
        assert {client.next()["stock"]} <= {1, 2}


def test_redis_may_go_and_come_back_empty_and_who_listens_hears_of_both(settings: Settings, tmp_path: Path) -> None:
    redis = Server(tmp_path).start()
    shared = settings.model_copy(update={"events_url": redis.url})
    try:
        with serving(shared) as url:
            shop = Shop(url)
            with closing(shop.client):
                with by_events(url) as client:
                    client.next()
                    shop.change(30)
                    last = client.next()
                    redis.kill()
                    shop.change(31)
                    redis.start()
                    # Nobody knows what was told in between: who listens has to come back, and read again.
                    assert [each for each in client.rest() if each.get("type") == "stock"] == []
                with by_events(url, last["id"]) as client:
                    assert client.next()["resumed"] is False
                deadline = monotonic() + 20
                with by_events(url) as client:
                    client.next()
                    shop.change(32)
                    while client.next().get("stock") != 32:
                        assert monotonic() < deadline
    finally:
        redis.end()


# ------------------------------------------------------------------------------------------------------------- limits


def test_an_address_listens_so_often_and_no_more(two: tuple[Shop, Shop], place: Settings) -> None:
    url = two[0].url
    with ExitStack() as many:
        half = range(place.live_per_address // 2)
        clients: list[ByEvents | ByWebSocket] = [many.enter_context(by_events(url)) for _ in half]
        clients += [many.enter_context(by_websocket(url)) for _ in half]
        assert [client.next()["type"] for client in clients] == ["hello"] * place.live_per_address
        refused = httpx.get(f"{url}/api/v1/live/stock/events", timeout=20)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert refused.headers["cache-control"] == "no-store"
        with pytest.raises(InvalidStatus, match="429"), by_websocket(url):
            pass
    deadline = monotonic() + 20
    while True:
        with by_events(url) as again:
            if again.answer.status_code == 200:
                break
        assert monotonic() < deadline


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        (None, True),
        ("https://shop.example", True),
        ("itself", True),
        ("https://shop.example.evil.example", False),
        ("http://shop.example", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
def test_a_page_of_another_origin_may_not_listen(two: tuple[Shop, Shop], origin: str | None, *, may: bool) -> None:
    url = two[0].url
    asking = by_websocket(url, origin=url if origin == "itself" else origin)
    if may:
        with asking as client:
            assert client.next()["type"] == "hello"
        return
    with pytest.raises(InvalidStatus, match="403"), asking:
        pass


@BOTH
def test_who_is_told_nothing_hears_that_the_server_is_there(place: Settings, listening: Any) -> None:
    eager = place.model_copy(update={"live_heartbeat": timedelta(milliseconds=50)})
    with serving(eager) as url, listening(url) as client:
        client.next()
        beats = [client.next() for _ in range(3)]
        assert beats == [{"comment": "ping"} if listening is by_events else {"type": "heartbeat"}] * 3


# ------------------------------------------------------------------------------------------- clients that do not read


class Deaf:
    """A client that has stopped reading: the server's `send` waits from then on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stuck = asyncio.Event()
        self._connected = kind == "websocket"

    async def receive(self) -> MutableMapping[str, Any]:
        if self._connected:
            self._connected = False
            return {"type": "websocket.connect"}
        return await asyncio.Future[MutableMapping[str, Any]]()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] in ("http.response.body", "websocket.send", "websocket.close"):
            self.stuck.set()
            await asyncio.Future[None]()

    @property
    def scope(self) -> dict[str, Any]:
        path = "/api/v1/live/stock" + ("" if self.kind == "websocket" else "/events")
        return {
            "type": self.kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"host", b"shop")],
            "client": ("10.0.0.1", 1), "server": ("shop", 80), "subprotocols": [], "state": {},
        }  # fmt: skip


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_client_that_does_not_read_is_let_go_and_costs_the_others_nothing(
    app: ASGIApp, parts: Parts, kind: str
) -> None:
    feed, deaf = parts.events.feed, Deaf(kind)
    answering = asyncio.ensure_future(app(deaf.scope, deaf.receive, deaf.send))
    await deaf.stuck.wait()
    with feed.listening("10.0.0.2", None) as other:
        await other.next()
        for version in range(1, BEHIND + 2):
            feed.tell(changed(version))
            assert (await other.next()).says.model_dump()["version"] == version
            assert not answering.done()
        await asyncio.wait_for(answering, 20)
        assert not other.over.is_set()
    # Its place is free, and it may come back.
    with ExitStack() as many:
        for _ in range(parts.settings.live_per_address):
            many.enter_context(feed.listening("10.0.0.1", None))


def changed(version: int) -> ProductChanged:
    return ProductChanged(product_id=1, price=1, stock=1, version=version)


UNREADABLE = (
    {BODY: '{"name":"product.changed","product_id":1,"price":1.5,"stock":1,"version":2}'},
    {BODY: '{"name":"product.renamed","product_id":1}'},
    {BODY: b"\xff"},
    {"another": "field"},
)


@pytest.fixture
async def streams(redis: Server) -> AsyncIterator[Streams]:
    redis.ask("FLUSHALL")
    async with aclosing(Streams(redis.url)) as streams:
        yield streams


@pytest.mark.parametrize("unreadable", UNREADABLE)
async def test_a_change_that_cannot_be_read_is_passed_over_and_the_next_is_told(
    streams: Streams, caplog: pytest.LogCaptureFixture, unreadable: dict[Any, Any]
) -> None:
    async def told(*versions: int) -> None:
        for version in versions:
            await streams.redis.xadd(LIVE, unreadable)
            await streams.hand_on([changed(version).model_dump_json()])

    async def heard(listener: Listener, *versions: int) -> None:
        said = [(await listener.next()).says for _ in versions]
        assert said == [Stock(product_id=1, stock=1, price=1, version=version) for version in versions]

    feed = Feed(per_address=9)
    await told(1)
    before = feed.place
    assert await follower.begin(streams, feed), "from the beginning"
    begun = feed.place
    await told(2)
    assert await follower.begin(streams, feed), "after a while without Redis"
    with feed.listening("a", begun) as listener:
        assert (await listener.next()).says == Hello(resumed=True)
        await heard(listener, 2)
        async with meanwhile(follower.follow(streams, feed, begun=True)):
            await told(3, 4)
            await heard(listener, 3, 4)
    assert before != begun
    lines = [record.getMessage() for record in caplog.records if record.name == "storefront.live"]
    assert [line.startswith("nobody hears of the change at ") for line in lines] == [True] * 4


async def test_what_loses_one_cancellation_ends_all_the_same() -> None:
    asked = 0

    async def deaf_at_first() -> None:
        nonlocal asked
        while asked < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked += 1
        raise asyncio.CancelledError

    async with meanwhile(deaf_at_first()):
        await asyncio.sleep(0)
    assert asked == 2


@pytest.mark.parametrize("error", [None, ValueError("of another release")])
async def test_what_has_no_end_and_ends_is_in_the_log(
    caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    async def work() -> None:
        if error is not None:
            raise error

    async def goes_on() -> None:
        await asyncio.Future[None]()

    async with meanwhile(goes_on()), meanwhile(work()):
        while not caplog.records:  # noqa: ASYNC110 - a log tells nobody
            await asyncio.sleep(0)
    (said,) = caplog.records
    assert (said.name, said.levelname) == ("storefront.events", "ERROR")
    assert "work" in said.getMessage()
    assert (said.exc_info or (None, None))[1] is error


async def test_what_is_kept_for_who_comes_back_is_bounded() -> None:
    feed = Feed(per_address=1)
    places: list[str] = [feed.place]
    for version in range(KEPT + 10):
        feed.tell(changed(version))
        places.append(feed.place)
    known = [feed.reaches(place) for place in places]
    assert known == [False] * 10 + [True] * (KEPT + 1)
    with feed.listening("a", places[10]) as listener:
        told = [await listener.next() for _ in range(KEPT + 1)]
    assert [each.id for each in told[1:]] == places[11:]
    assert vars(feed)["_addresses"] == {}


async def test_what_redis_keeps_is_bounded(settings: Settings, redis: Server) -> None:
    redis.ask("FLUSHALL")
    parts = Parts.made_for(settings.model_copy(update={"events_url": redis.url}))
    assert parts.events.streams is not None
    for _ in range(5):
        await parts.events.streams.hand_on([changed(version).model_dump_json() for version in range(KEPT)])
    assert KEPT <= int(redis.ask("XLEN", LIVE)[1:]) < 1.5 * KEPT
    await parts.events.streams.aclose()


# ------------------------------------------------------------------------------------------------------------ the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@SERVED
def test_the_server_ends_at_once_also_while_clients_listen(
    place: Settings, redis: Server, program: str, factory: str, number: signal.Signals
) -> None:
    shared = place.model_copy(update={"events_url": redis.url})
    with started(shared, factory, program) as (url, process), by_events(url) as one, by_websocket(url) as other:
        for client in (one, other):
            client.next()
        process.send_signal(number)
        ended: list[ByEvents | ByWebSocket] = [one, other]
        assert [client.rest() for client in ended] == [[], []]
        assert process.wait(20) in (0, -number)
        assert process.stderr is not None
        said = process.stderr.read()
        assert "Finished server process" in said
        assert "Traceback" not in said
