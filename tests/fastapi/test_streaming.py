"""Responses that are sent while they are made."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from tiercel import Cache
from tiercel.testing import VirtualClock


def status(response: httpx.Response) -> str:
    """What the cache says that it did, without how long that will last."""
    said: str = response.headers.get("cache-status", "")
    return said.partition("; ttl=")[0]


class Client:
    """A connection of a server: what it was sent, and when; and it can hang up."""

    def __init__(self, app: Any, *, raises: bool = True, **more: Any) -> None:
        self.said: list[tuple[float, Any]] = []
        self.gone = asyncio.Event()
        self._raises = raises  # by which some servers let an application know that its client has gone
        self._asked = False
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"shop")],
            "client": ("10.0.0.1", 1234),
            "server": ("shop", 80),
            **more,
        }

    async def run(self) -> "Client":
        await self._app(self._scope, self._receive, self._send)
        return self

    def start(self) -> asyncio.Task["Client"]:
        return asyncio.create_task(self.run())

    async def _receive(self) -> Any:
        if self._asked:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Any) -> None:
        if self.gone.is_set():
            if self._raises:
                raise OSError("the client has hung up")
            return
        self.said.append((asyncio.get_running_loop().time(), message))

    @property
    def chunks(self) -> list[tuple[float, bytes]]:
        return [(when, message["body"]) for when, message in self.said if message.get("body")]

    @property
    def ended(self) -> bool:
        return any(not message.get("more_body", True) for _, message in self.said) or (
            bool(self.said) and self.said[-1][1]["type"] == "http.response.body" and "more_body" not in self.said[-1][1]
        )

    def field(self, name: bytes) -> bytes:
        return next((bytes(value) for key, value in self.said[0][1]["headers"] if key == name), b"")


class Shop:
    """An application with a route that sends a letter a second."""

    def __init__(self, word: str = "abc", **response: Any) -> None:
        self.cache = Cache(clock=VirtualClock(), jitter=0.0)
        self.app = FastAPI()
        self.cache.install(self.app)
        self.begun = self.finished = 0
        self.breaks_at = ""

        async def letters() -> AsyncIterator[str]:
            self.begun += 1
            for letter in word:
                if letter == self.breaks_at:
                    raise RuntimeError("broken")
                yield letter
                await asyncio.sleep(1)
            self.finished += 1

        @self.app.get("/")
        @self.cache.response(ttl=60)
        async def read() -> StreamingResponse:
            return StreamingResponse(letters(), **response)

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://shop")


LETTERS = [(0.0, b"a"), (1.0, b"b"), (2.0, b"c")]


async def test_the_first_byte_goes_out_when_the_application_sends_it() -> None:
    client = await Client(Shop().app).run()
    assert client.chunks == LETTERS


async def test_who_comes_while_it_is_made_gets_what_there_is_at_once_and_the_rest_as_it_comes() -> None:
    shop = Shop()
    first, second = Client(shop.app), Client(shop.app)
    running = first.start()
    await asyncio.sleep(1.5)
    await second.run()
    await running
    assert [when for when, _ in second.chunks] == [1.5, 1.5, 2.0]
    assert (shop.begun, second.field(b"cache-status")) == (1, b"tiercel; fwd=uri-miss; collapsed")


async def test_what_is_complete_hits_before_its_last_byte_has_gone_out() -> None:
    shop = Shop()
    asked: list[Client] = []

    async def send_slowly(message: Any) -> None:
        if message.get("body") == b"c":
            await asyncio.sleep(10)

    running = asyncio.create_task(shop.app(Client(shop.app)._scope, Client(shop.app)._receive, send_slowly))
    await asyncio.sleep(5)
    asked.append(await Client(shop.app).run())
    assert asked[0].field(b"cache-status").startswith(b"tiercel; hit")
    await running


async def test_the_reader_that_started_it_may_leave_and_the_others_get_it_all() -> None:
    shop = Shop()
    first, second = Client(shop.app), Client(shop.app)
    running = first.start()
    await asyncio.sleep(0.5)
    joined = second.start()
    await asyncio.sleep(0.1)
    running.cancel()
    await joined
    assert b"".join(chunk for _, chunk in second.chunks) == b"abc"
    assert shop.begun == shop.finished == 1


async def test_a_stream_that_nobody_reads_any_more_is_finished_and_stored() -> None:
    shop = Shop()
    client = Client(shop.app)
    running = client.start()
    await asyncio.sleep(0.5)
    running.cancel()
    await asyncio.sleep(5)
    again = await Client(shop.app).run()
    assert again.field(b"cache-status").startswith(b"tiercel; hit")
    assert shop.begun == 1


async def test_a_stream_that_breaks_ends_cleanly_for_nobody_and_is_not_stored() -> None:
    shop = Shop()
    shop.breaks_at = "c"
    first, second = Client(shop.app), Client(shop.app)
    running = first.start()
    await asyncio.sleep(0.5)
    joined = second.start()
    results = await asyncio.gather(running, joined, return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [True, True]
    assert (first.ended, second.ended) == (False, False)
    shop.breaks_at = ""
    again = await Client(shop.app).run()
    assert b"".join(chunk for _, chunk in again.chunks) == b"abc"


async def test_a_body_that_is_shorter_than_announced_is_not_stored_and_does_not_end_cleanly() -> None:
    shop = Shop(headers={"content-length": "5"})
    client = Client(shop.app)
    with pytest.raises(Exception, match="announced"):
        await client.run()
    assert not client.ended
    assert shop.cache.stats().stored == 0


async def test_a_body_that_outgrows_the_cache_reaches_all_who_read_it_and_is_not_stored() -> None:
    shop = Shop("ab" * 40)
    shop.cache.engine.tiers.limit = 10
    first, second = Client(shop.app), Client(shop.app)
    running = first.start()
    await asyncio.sleep(0.5)
    await second.run()
    await running
    for client in (first, second):
        assert b"".join(chunk for _, chunk in client.chunks) == b"ab" * 40
    assert (shop.cache.stats().stored, shop.cache.stats().entries <= 1) == (0, True)


@pytest.mark.parametrize("raises", [True, False])
async def test_an_endless_body_passes_and_ends_when_its_reader_leaves(raises: bool) -> None:  # noqa: FBT001
    cache, app, log = Cache(memory="64KB"), FastAPI(), list[str]()
    cache.install(app)

    async def session() -> AsyncIterator[None]:
        try:
            yield
        finally:
            log.append("closed")

    @app.get("/", dependencies=[Depends(session)])
    @cache.response(ttl=60)
    async def read() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                log.append("chunk")
                yield b"x" * 1_000
                await asyncio.sleep(0.1)

        return StreamingResponse(chunks())

    client = Client(app, raises=raises)
    running = client.start()
    await asyncio.sleep(10)
    assert len(client.chunks) == len(log) == 100
    client.gone.set()
    await asyncio.wait([running], timeout=60)
    assert running.done()
    await asyncio.sleep(60)
    assert log[-1] == "closed"
    assert log.count("chunk") < 150
    assert cache.stats().stored == 0


async def test_server_sent_events_pass_as_they_come() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.get("/", response_class=EventSourceResponse)
    @cache.response(ttl=60)
    async def events() -> AsyncIterator[int]:
        for number in range(3):
            yield number
            await asyncio.sleep(1)

    first, second = Client(app), Client(app)
    await asyncio.gather(first.run(), second.run())
    for client in (first, second):
        assert [when for when, _ in client.chunks] == [0.0, 1.0, 2.0]
        assert b"detail=event-stream" in client.field(b"cache-status")


async def test_a_handler_that_asks_whether_its_client_is_there_is_told_the_truth_where_it_is_alone() -> None:
    cache, app, seen = Cache(), FastAPI(), list[bool]()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def read(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for _ in range(5):
                seen.append(await request.is_disconnected())
                yield "x"
                await asyncio.sleep(1)

        return StreamingResponse(chunks(), media_type="text/event-stream")

    client = Client(app)
    running = client.start()
    await asyncio.sleep(2.5)
    client.gone.set()
    await asyncio.gather(running, return_exceptions=True)
    assert seen[:4] == [False, False, False, True]


async def test_a_websocket_passes_untouched() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.websocket("/")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    @app.get("/")
    @cache.response(ttl=60)
    async def read() -> int:
        return 1

    said: list[Any] = []
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        said.append(message)

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/",
        "headers": [],
        "query_string": b"",
        "scheme": "ws",
        "subprotocols": [],
    }
    await app(scope, receive, send)
    assert [message["type"] for message in said] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert said[1]["text"] == "hello"


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_range_of_what_is_still_being_made_is_cut_as_it_comes(guarded: bool) -> None:  # noqa: FBT001
    cache, app = Cache(), FastAPI()
    cache.install(app)

    async def letters() -> AsyncIterator[str]:
        for letter in "abcdef":
            yield letter
            await asyncio.sleep(1)

    @app.get("/")
    @cache.response(ttl=60)
    async def read(request: Request) -> Response:
        return StreamingResponse(letters(), headers={"content-length": "6"})

    @app.get("/front")
    @cache.response(ttl=60)
    async def front() -> Response:
        return StreamingResponse(letters(), headers={"content-length": "6"})

    path = "/" if guarded else "/front"
    more: dict[str, Any] = {"path": path, "raw_path": path.encode()}
    client = await Client(app, headers=[(b"host", b"shop"), (b"range", b"bytes=1-2")], **more).run()
    assert client.said[0][1]["status"] == 206
    assert b"".join(chunk for _, chunk in client.chunks) == b"bc"
    await asyncio.sleep(10)
    whole = await Client(app, **more).run()
    assert b"".join(chunk for _, chunk in whole.chunks) == b"abcdef"
    assert whole.field(b"cache-status").startswith(b"tiercel; hit")


async def test_lines_that_an_endpoint_yields_go_out_one_by_one() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60, tags="lines")
    async def lines() -> AsyncIterator[int]:
        for number in range(3):
            yield number
            await asyncio.sleep(1)

    client = await Client(app).run()
    assert client.chunks == [(0.0, b"0\n"), (1.0, b"1\n"), (2.0, b"2\n")]
    assert (await Client(app).run()).field(b"cache-status").startswith(b"tiercel; hit")
    await cache.invalidate("lines")
    assert (await Client(app).run()).field(b"cache-status") == b"tiercel; fwd=uri-miss; stored"
