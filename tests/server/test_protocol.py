"""Hits that are answered where the bytes arrive: the same bytes as by the ordinary road, and nothing else."""

import asyncio
import gc
import logging
import tracemalloc
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from drive import FRESH, Origin, Say, Scope, turns
from fastapi import FastAPI
from hostile import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from wire import Line, OverTheWire, Wire, head

from tiercel import Cache, CacheMiddleware, Policy
from tiercel._core.memory import MOST_READS
from tiercel._engine.ready import glance
from tiercel._engine.tiers import Shelf
from tiercel.asgi import FRONT, SERVED_SHARE
from tiercel.server._answers import LONGEST, SMALL, Answers, Kept
from tiercel.server._desk import Asked, _is_lasting
from tiercel.server._wire import JOINED, wire
from tiercel.spi import Clock
from tiercel.testing import SimulatedServer, SimulatedStore, VirtualClock, run_virtual

HOST = (b"host", b"shop")


def get(target: bytes = b"/", *headers: tuple[bytes, bytes], method: str = "GET") -> bytes:
    return head(method, target, [HOST, *headers])


class Shop:
    """An application behind a cache, served."""

    def __init__(
        self, say: Say | Callable[[Scope], Say] | None = None, *, memory: str = "256MB", **settings: Any
    ) -> None:
        self.origin = Origin(say or Say(headers=[FRESH, (b"content-length", b"5")]))
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, memory=memory)
        self.app = CacheMiddleware(self.origin, cache=self.cache, default=Policy(ttl=60))
        self.wire = Wire(self.app, **settings)

    async def ask(self, *pieces: bytes, **more: Any) -> bytes:
        return await self.wire.said(*pieces, **more)

    @property
    def kept(self) -> dict[bytes, Kept]:
        """The answers that are kept, by the bytes of the request."""
        found: dict[bytes, Kept] = self.wire.connect()[0]._desk.answers._kept
        return found

    async def same(self, *pieces: bytes) -> bytes:
        """What both roads say, as one."""
        await self.ask(*pieces, plain=True)
        said = [await self.ask(*pieces, plain=plain) for plain in (False, True, False)]
        assert said[0] == said[1] == said[2]
        return said[0]


async def test_a_hit_is_answered_at_once_in_one_write() -> None:
    shop = Shop()
    assert b"fwd=uri-miss; stored" in await shop.ask(get())
    protocol, line = shop.wire.connect()
    for count in range(1, 4):
        protocol.data_received(get())
        assert len(line.writes) == count
        assert line.writes[-1].endswith(b"hello")
        assert b"tiercel; hit; ttl=60" in line.writes[-1]
    assert not shop.wire.state.tasks
    assert shop.origin.calls == 1
    assert shop.cache.stats().hits == 3
    assert shop.wire.state.total_requests == 4


def varied(scope: Scope) -> Say:
    found = dict(scope["headers"]).get(b"accept-language", b"none")
    return Say(headers=[FRESH, (b"vary", b"accept-language"), (b"etag", b'"%b"' % found)], chunks=[found])


SAYS: dict[str, Say | Callable[[Scope], Say]] = {
    "length": Say(headers=[FRESH, (b"content-length", b"5"), (b"etag", b'"1"')]),
    "chunked": Say(headers=[FRESH, (b"x", b"\xff")], chunks=[b"he", b"llo"]),
    "pieces": Say(headers=[FRESH, (b"etag", b'"1"')], chunks=[b"he", b"llo"]),
    "empty": Say(headers=[FRESH, (b"content-length", b"0")], chunks=[]),
    "nothing chunked": Say(chunks=[]),
    "no content": Say(status=204, chunks=[]),
    "no status": Say(status=700, headers=[FRESH, (b"content-length", b"5")]),
    "not found": Say(status=404, headers=[FRESH, (b"content-length", b"5")]),
    "unknown": Say(status=299, headers=[FRESH, (b"content-length", b"5")]),
    "big": Say(headers=[FRESH, (b"content-length", b"%d" % (2 * JOINED))], chunks=[b"x" * (2 * JOINED)]),
    "varied": varied,
}
ASKS = {
    "plain": get(),
    "query": get(b"/a%20b?c=d&e"),
    "head": get(method="HEAD"),
    "etag": get(b"/", (b"if-none-match", b'"1", "none"')),
    "any": get(b"/", (b"if-none-match", b"*")),
    "since": get(b"/", (b"if-modified-since", b"Thu, 01 Jan 2026 00:00:00 GMT")),
    "match": get(b"/", (b"if-match", b'"2"')),
    "range": get(b"/", (b"range", b"bytes=1-2")),
    "ranges": get(b"/", (b"range", b"bytes=0-0,2-")),
    "beyond": get(b"/", (b"range", b"bytes=99-")),
    "german": get(b"/", (b"accept-language", b"de")),
    "cookie": get(b"/", (b"cookie", b"a=b")),
    "reload": get(b"/", (b"cache-control", b"no-cache"), (b"pragma", b"no-cache")),
    "closing": get(b"/", (b"connection", b"close")),
    "old": b"GET / HTTP/1.0\r\nhost: shop\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "empty body": get(b"/", (b"content-length", b"0")),
    "expecting": get(b"/", (b"expect", b"100-continue")),
    "upgrading": get(b"/", (b"connection", b"upgrade"), (b"upgrade", b"h2c")),
    "absolute": b"GET http://shop/ HTTP/1.1\r\nhost: shop\r\n\r\n",
    "two hosts": get(b"/", (b"host", b"other")),
    "put": get(method="PUT") + b"",
    "delete": get(b"/elsewhere", method="DELETE"),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("say", SAYS)
async def test_the_bytes_are_those_of_the_ordinary_road(say: str, ask: str) -> None:
    shop = Shop(SAYS[say])
    for warm in (ASKS["plain"], ASKS["german"], ASKS["query"]):
        await shop.ask(warm)
    for _ in range(3):
        await asyncio.sleep(1.7)
        await shop.same(ASKS[ask])


async def test_content_that_cannot_be_is_never_written() -> None:
    """Whoever reads it would take it for the next response."""
    evil = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    shop = Shop(Say(status=204, chunks=[evil]))
    for ask in ("plain", "head", "query"):
        assert b"evil" not in await shop.same(ASKS[ask])
    assert wire("GET", 204, [], evil) is None
    assert wire("HEAD", 200, [], evil) is None


async def test_a_request_is_one_however_its_bytes_arrive() -> None:
    shop = Shop(SAYS["length"])
    await shop.ask(get())
    for ask in ("plain", "etag", "range", "head"):
        data = ASKS[ask]
        whole = await shop.same(data)
        for at in range(1, len(data)):
            assert await shop.ask(data[:at], data[at:]) == whole
        assert await shop.ask(*[data[at : at + 1] for at in range(len(data))]) == whole


async def test_a_request_of_which_the_end_is_missing_is_not_answered() -> None:
    shop = Shop()
    await shop.ask(get())
    for at in range(1, len(get())):
        protocol, line = shop.wire.connect()
        protocol.data_received(get()[:at])
        await turns()
        assert line.received == b""
        protocol.connection_lost(None)


async def test_a_thousand_requests_in_a_row_are_answered_in_order() -> None:
    """Hits, misses, and what is not for the cache; however the row is cut."""

    def say(scope: Scope) -> Say:
        return Say(headers=[FRESH, (b"content-length", b"%d" % len(scope["path"]))], chunks=[scope["path"].encode()])

    shop = Shop(say)
    paths = [b"/hit" if number % 3 else b"/miss/%d" % number for number in range(1_000)]
    await shop.ask(get(b"/hit"))
    row = b"".join([get(path) for path in paths])
    protocol, line = shop.wire.connect()
    for at in range(0, len(row), 4_093):
        protocol.data_received(row[at : at + 4_093])
    await shop.wire.rest()
    assert bodies(line) == paths


@pytest.mark.parametrize("ask", ["plain", "etag", "head", "range", "reload", "expecting", "no host", "two hosts"])
async def test_a_thousand_of_the_same_are_answered_as_uvicorn_does(ask: str) -> None:
    shop = Shop(SAYS["length"])
    await shop.ask(get())
    row = ASKS[ask] * 1_000
    said = await shop.same(*[row[at : at + 4_093] for at in range(0, len(row), 4_093)])
    assert said.count(b"HTTP/1.1 ") >= 1_000
    assert said == await shop.ask(row)


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nhost: sh", get()[:-2], get() + b"GET"])
async def test_a_head_that_never_ends_keeps_a_connection_no_longer_than_with_uvicorn(part: bytes) -> None:
    shop = Shop()
    lines = [await begun(shop, part, plain=plain) for plain in (False, True)]
    for _ in range(20):
        assert lines[0].closed == lines[1].closed
        assert bodies(lines[0]) == bodies(lines[1])
        await asyncio.sleep(1)


async def begun(shop: Shop, part: bytes, *, plain: bool) -> Line:
    """A connection on which a request was answered, and another has begun to come, byte by byte."""
    await shop.ask(get())
    protocol, line = shop.wire.connect(plain=plain)
    protocol.data_received(get())
    await shop.wire.rest()
    for at in range(len(part)):
        await asyncio.sleep(4)
        if not line.closed:
            protocol.data_received(part[at : at + 1])
    await shop.wire.rest()
    return line


def bodies(line: Line) -> list[bytes]:
    return [part.partition(b"\r\n\r\n")[2] for part in bytes(line.received).split(b"HTTP/1.1 200 OK\r\n")[1:]]


async def test_who_does_not_read_is_not_written_to() -> None:
    shop = Shop()
    await shop.ask(get())
    protocol, line = shop.wire.connect()
    protocol.data_received(get())
    written = len(line.writes)
    protocol.pause_writing()
    for _ in range(3):
        protocol.data_received(get())
    await turns()
    assert len(line.writes) == written
    assert line.paused, "nor is more read"
    protocol.resume_writing()
    await shop.wire.rest()
    assert bodies(line) == [b"hello"] * 4
    assert not line.paused


async def test_an_idle_connection_is_closed_and_a_used_one_is_not() -> None:
    shop = Shop(timeout_keep_alive=5)
    await shop.ask(get())
    protocol, line = shop.wire.connect()
    for _ in range(4):
        protocol.data_received(get())
        await asyncio.sleep(4)
    assert not line.closed
    await asyncio.sleep(0.9)
    assert not line.closed
    await asyncio.sleep(0.2)
    assert line.closed


async def test_a_request_that_follows_a_hit_has_the_time_that_it_takes() -> None:
    def say(scope: Scope) -> Say:
        return Say(headers=[FRESH, (b"content-length", b"5")], wait=8 if scope["path"] == "/slow" else 0)

    shop = Shop(say, timeout_keep_alive=5)
    await shop.ask(get())
    for first in (get(), ASKS["etag"]):
        protocol, line = shop.wire.connect()
        protocol.data_received(first + get(b"/slow", method="POST"))
        await asyncio.sleep(9)
        assert bytes(line.received).count(b"HTTP/1.1 200") == 2
        await asyncio.sleep(5)
        assert line.closed


async def test_a_server_that_stops_closes_what_is_idle() -> None:
    shop = Shop()
    await shop.ask(get())
    protocol, line = shop.wire.connect()
    protocol.data_received(get())
    protocol.shutdown()
    assert line.closed


async def test_where_connections_are_limited_uvicorn_counts() -> None:
    shop = Shop(limit_concurrency=1)
    assert b"503 Service Unavailable" in await shop.same(get())


async def test_the_access_log_says_what_uvicorns_does(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(access_log=True)
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, "uvicorn.access"):
            await shop.ask(get())
            caplog.clear()
            forwarded = get(b"/?a=%20b", (b"x-forwarded-for", b"203.0.113.7"))
            for ask in (get(), get(), ASKS["etag"], forwarded):
                for plain in (False, True):
                    await shop.ask(ask, plain=plain, client=("127.0.0.1", 5))
    finally:
        logger.removeHandler(caplog.handler)
    said = [record.getMessage() for record in caplog.records]
    assert said[::2] == said[1::2]
    assert said[::2][:2] == ['127.0.0.1:5 - "GET / HTTP/1.1" 200'] * 2
    assert said[6] == '203.0.113.7:0 - "GET /?a=%20b HTTP/1.1" 200'


@pytest.mark.parametrize("ask", ["plain", "etag", "head"])
async def test_an_invalidation_is_final_also_within_a_second(ask: str) -> None:
    shop = Shop(SAYS["length"])
    engine = shop.cache.engine
    for cut, left in ((engine.cut_all, b""), (lambda: engine.cut(_tags(shop)), b""), (lambda: softly(shop), b"ttl=0")):
        await shop.ask(ASKS[ask])
        await asyncio.sleep(0.25)
        for _ in range(3):
            assert b"tiercel; hit; ttl=59" in await shop.ask(ASKS[ask])
        assert ASKS[ask] in shop.kept
        cut()
        said = await shop.ask(ASKS[ask])
        assert b"ttl=59" not in said
        assert (b"tiercel; hit; " + left in said) is bool(left)


@pytest.mark.parametrize("ask", ["plain", "etag", "head"])
async def test_what_is_held_is_no_answer_until_it_is_released_and_made_anew(ask: str) -> None:
    shop = Shop(SAYS["length"])
    await shop.ask(ASKS[ask])
    for _ in range(3):
        assert b"tiercel; hit; ttl=" in await shop.ask(ASKS[ask])
    assert ASKS[ask] in shop.kept
    async with shop.cache.engine.mutation(_tags(shop)):
        for _ in range(2):
            assert b"tiercel; hit" not in await shop.ask(ASKS[ask])
            assert ASKS[ask] not in shop.kept
    assert b"tiercel; hit" not in await shop.ask(ASKS[ask])
    assert b"tiercel; hit" in await shop.ask(ASKS[ask])


def softly(shop: Shop) -> None:
    shop.cache.engine.cut(_tags(shop), soft=True)


def _tags(shop: Shop) -> tuple[str, ...]:
    slot = next(iter(shop.cache.engine.tiers.memory.table.values()))
    assert isinstance(slot.value, Shelf)
    return slot.value.entries[0].tags


@pytest.mark.parametrize("late", [0.0, 0.3, 0.6, 0.9])
async def test_what_others_may_have_cut_is_no_answer_once_nobody_knows_what_they_have(late: float) -> None:
    """Also within the second in which an answer stays as it is."""
    server = SimulatedServer()
    store = SimulatedStore(server)
    origin = Origin(lambda _: Say(headers=[FRESH, (b"content-length", b"1")], chunks=[b"%d" % origin.calls]))
    wire = Wire(CacheMiddleware(origin, cache=Cache(store, clock=VirtualClock(), jitter=0.0)))
    for _ in range(3):
        await wire.said(get())
        await asyncio.sleep(0.25)
    await asyncio.sleep(late)
    server.freeze()
    while store.current():
        assert (await wire.said(get())).endswith(b"1")
        assert get() in wire.connect()[0]._desk.answers._kept
        await asyncio.sleep(0.05)
    assert (await wire.said(get())).endswith(b"2")


async def test_an_invalidation_is_final() -> None:
    shop = Shop(SAYS["length"])
    for ask in (get(), ASKS["etag"]):
        for _ in range(3):
            await shop.ask(ask)
            await asyncio.sleep(0.25)
        shop.origin.say = Say(headers=[FRESH, (b"content-length", b"3"), (b"etag", b'"2"')], chunks=[b"new"])
        await shop.cache.clear()
        assert (await shop.ask(ask)).endswith(b"new")
        await shop.cache.clear()
        shop.origin.say = SAYS["length"]
        await shop.ask(get())


async def test_a_response_is_served_for_as_long_as_it_is_fresh() -> None:
    shop = Shop()
    await shop.ask(get())
    for second in range(59):
        assert b"hit; ttl=%d\r\n" % (60 - second) in await shop.ask(get())
        assert b"age: %d\r\n" % second in await shop.ask(get())
        await asyncio.sleep(1)
    await asyncio.sleep(1)
    assert b"fwd=stale" in await shop.ask(get())
    assert shop.origin.calls == 2


async def test_the_fields_of_the_server_are_those_of_now() -> None:
    shop = Shop()
    await shop.ask(get())
    for second in range(3):
        shop.wire.state.default_headers = [(b"date", b"%d" % second)]
        assert b"date: %d\r\n" % second in await shop.ask(get())


async def test_what_a_proxy_says_counts_only_if_the_proxy_is_trusted() -> None:
    def say(scope: Scope) -> Say:
        return Say(
            headers=[FRESH, (b"content-length", b"%d" % len(scope["scheme"]))], chunks=[scope["scheme"].encode()]
        )

    shop = Shop(say)
    ask = get(b"/", (b"x-forwarded-proto", b"https"))
    for _ in range(3):
        assert (await shop.ask(ask, client=("127.0.0.1", 5))).endswith(b"https")
        assert (await shop.ask(ask, client=("203.0.113.7", 5))).endswith(b"http")
    assert shop.origin.calls == 2


async def test_without_trust_in_proxies_the_scheme_is_the_connections() -> None:
    shop = Shop(proxy_headers=False)
    ask = get(b"/", (b"x-forwarded-proto", b"https"))
    await shop.ask(ask)
    assert b"hit" in await shop.same(ask)
    assert shop.origin.asked[0]["scheme"] == "http"


async def test_answers_that_are_kept_are_bounded() -> None:
    shop = Shop(SAYS["length"], memory="1MB")
    bound, room = 1_000_000, 1_000_000 // SERVED_SHARE
    assert shop.cache.stats().bound == bound - bound // SERVED_SHARE, "and counted"
    await shop.ask(get())
    await shop.ask(get())
    each = len(get()) + shop.kept[get()].weight
    most = room // (each + 20)
    asked = [get(b"/", (b"x", b"%016d" % number)) for number in range(most + 10)]
    for one in asked:
        assert await shop.ask(one) == await shop.ask(get())
    assert len(shop.kept) in {most, most + 1}
    assert list(shop.kept)[1 - len(shop.kept) :] == [*asked[2 - len(shop.kept) :], get()], "the latest"
    shelf = shop.cache.engine.tiers.shelf(shop.kept[get()].target.primary)
    assert shelf is not None
    assert shelf.made.heads == set(shop.kept), "nothing is left of the others"


async def test_what_is_let_go_makes_room() -> None:
    """Whether it is cut, or another version of the routes is there: as many are kept as before."""
    shop = Shop(SAYS["length"], memory="1MB")
    for _ in range(5):
        asked = [get(b"/", (b"x", b"%016d" % number)) for number in range(100)]
        for one in asked:
            for _ in range(2):
                await shop.ask(one)
        assert list(shop.kept)[-10:] == asked[-10:]
        kept = len(shop.kept)
        assert kept > 10
        await shop.cache.clear()
        await shop.ask(get())
        assert set(shop.kept) <= {get()}


class Meanwhile(OrderedDict[bytes, Kept]):
    """Others let go of answers between any two steps: threads, or a collection of garbage."""

    leaves = 0
    answers: Answers

    def _let_go(self) -> None:
        for one in tuple(self.keys())[self.leaves :]:
            self.answers.let_go(one)

    def __iter__(self) -> Iterator[bytes]:
        found = super().__iter__()
        self._let_go()
        return found

    def popitem(self, last: bool = True) -> tuple[bytes, Kept]:  # noqa: FBT001, FBT002 - as it is there
        self._let_go()
        return super().popitem(last)

    def move_to_end(self, key: bytes, last: bool = True) -> None:  # noqa: FBT001, FBT002 - as it is there
        self._let_go()
        super().move_to_end(key, last)


@pytest.mark.parametrize("leaves", [0, 1, 3])
async def test_others_may_let_go_of_answers_while_room_is_made(leaves: int) -> None:
    shop = Shop(SAYS["length"])
    for number in range(5):
        for _ in range(2):
            await shop.ask(get(b"/", (b"x", b"%d" % number)))
    desk = shop.wire.connect()[0]._desk
    assert desk is not None
    answers = desk.answers
    answers._kept = kept = Meanwhile(answers._kept)
    kept.answers, kept.leaves = answers, leaves
    assert len(kept) == 5
    answers._room = answers._taken
    answers._make_room(answers._room)
    assert (len(kept), answers._taken) == (0, 0)


async def test_an_answer_that_is_let_go_while_it_is_moved_is_given_all_the_same() -> None:
    shop = Shop(SAYS["length"])
    for _ in range(2):
        await shop.ask(get())
    desk = shop.wire.connect()[0]._desk
    assert desk is not None
    desk.answers._kept = kept = Meanwhile(desk.answers._kept)
    kept.answers = desk.answers
    await asyncio.sleep(2)  # it tells another age
    assert desk.answers.get(get(), shop.wire.state.default_headers) is not None
    assert not kept


async def test_an_answer_is_not_kept_where_it_takes_much() -> None:
    for longest, more in ((b"", b"x" * LONGEST), (b"x" * LONGEST, b"")):
        shop = Shop(Say(headers=[FRESH, (b"content-length", b"5"), (b"x", longest)]))
        for _ in range(3):
            await shop.ask(get(b"/", (b"x", more)))
        assert not shop.kept


@pytest.mark.parametrize("said", [0, 2_000])
@pytest.mark.parametrize("size", [5, SMALL, SMALL + 1])
async def test_an_answer_takes_no_more_memory_than_is_counted(size: int, said: int) -> None:
    """Nor where the server says much first, such as a policy for content."""
    fields = [FRESH, (b"content-length", b"%d" % size), (b"x", b"x" * (LONGEST - 200))]
    shop = Shop(Say(headers=fields, chunks=[b"x" * size]))
    await shop.ask(get())
    asked = [get(b"/", (b"x", b"%0*d" % (LONGEST - 100, number))) for number in range(1_000)]
    protocol, line = shop.wire.connect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for one in asked:
            shop.wire.state.default_headers = [(b"x-policy", b"x" * said)]  # as once a second
            for _ in range(2):
                protocol.data_received(bytes(bytearray(one)))
            line.received.clear()
            line.writes.clear()
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / len(shop.kept)
    finally:
        tracemalloc.stop()
    assert len(shop.kept) == len(asked)
    weights = {len(head) + kept.weight for head, kept in shop.kept.items()}
    assert taken < min(weights)


async def test_what_is_evicted_is_not_kept_for_its_answers() -> None:
    """Neither its bytes, nor the answer."""
    size = 50_000
    shop = Shop(Say(headers=[FRESH, (b"content-length", b"%d" % size)], chunks=[b"x" * size]), memory="1MB")
    for number in range(100):
        for _ in range(2):
            await shop.ask(get(b"/%d" % number))
        await shop.ask(get(b"/%d" % number)[:9], get(b"/%d" % number)[9:])
    memory = shop.cache.engine.tiers.memory
    assert 0 < len(memory) < 20
    assert {kept.target.primary for kept in shop.kept.values()} == set(memory.table)


async def test_what_is_replaced_is_not_kept_for_its_answers() -> None:
    """Also while somebody holds what was there before."""
    shop = Shop(varied)
    plain, german = get(), get(b"/", (b"accept-language", b"de"))
    for _ in range(3):
        await shop.ask(plain)
    shelf = shop.cache.engine.tiers.shelf(shop.kept[plain].target.primary)
    assert shelf is not None
    await shop.ask(german)
    assert not shop.kept
    for _ in range(3):
        assert b"none" in await shop.ask(plain)
    assert list(shop.kept) == [plain]


async def test_eviction_hears_of_hits() -> None:
    shop = Shop()
    await shop.ask(get())
    await asyncio.sleep(0.25)
    for _ in range(10):
        await shop.ask(get())
    memory = shop.cache.engine.tiers.memory
    (slot,) = memory.table.values()
    assert slot.freq == MOST_READS
    for spent in (0, 1):
        slot.freq = spent
        await asyncio.sleep(1)
        for _ in range(10):
            await shop.ask(get())
        assert slot.freq == MOST_READS


async def test_a_clock_that_is_set_back_makes_no_answer_older_than_it_is() -> None:
    shop = Shop(SAYS["length"])
    await shop.ask(get())
    await asyncio.sleep(30)
    for ask in (get(), ASKS["etag"]):
        for _ in range(3):
            assert b"age: 30\r\n" in await shop.ask(ask)
    shop.cache.engine.clock, clock = SetBack(shop.cache.engine.clock, 20), shop.cache.engine.clock
    for ask in (get(), ASKS["etag"]):
        for _ in range(3):
            assert b"age: 10\r\n" in await shop.same(ask)
    shop.cache.engine.clock = clock
    await asyncio.sleep(29)
    assert b"hit; ttl=1\r\n" in await shop.ask(get())
    await asyncio.sleep(1)
    assert b"fwd=stale" in await shop.ask(get())


class SetBack:
    """A clock that is behind another."""

    def __init__(self, clock: Clock, behind: float) -> None:
        self._clock = clock
        self._behind = behind

    def time(self) -> float:
        return self._clock.time() - self._behind

    def monotonic(self) -> float:
        return self._clock.monotonic()


def reading(app: FastAPI) -> tuple[FastAPI, Cache, Callable[[], Awaitable[str]]]:
    """An application with one route, its cache, and the endpoint."""
    cache = Cache(clock=VirtualClock())
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def read() -> str:
        return "read"

    return app, cache, read


async def test_a_key_that_more_than_the_url_decides_is_worked_out_each_time() -> None:
    app, cache, now = FastAPI(), Cache(clock=VirtualClock()), ["a"]
    cache.install(app)

    def of_the_moment(_: object) -> str:
        return now[0]

    @app.get("/")
    @cache.response(ttl=60, key=of_the_moment)
    async def read() -> str:
        return now[0]

    server = Wire(app)
    for one in "aabbab":
        now[0] = one
        assert (await server.said(get())).endswith(b'"%b"' % one.encode())


async def test_what_is_remembered_is_forgotten_when_there_are_other_routes() -> None:
    app, _, read = reading(FastAPI())
    server = Wire(app)
    for _ in range(3):
        await server.said(get())
    kept = server.connect()[0]._desk.answers._kept
    assert list(kept) == [get()]
    app.add_api_route("/late", read)
    await server.said(get(b"/late"))
    assert list(kept) == []
    for ask in (get(), get(b"/late")):
        assert b"tiercel; hit" in await server.said(ask)


async def test_a_mistake_in_a_route_is_an_answer_also_here(caplog: pytest.LogCaptureFixture) -> None:
    app, cache, _ = reading(FastAPI())
    server = Wire(app)
    for _ in range(3):
        await server.said(get())

    @app.get("/wrong")
    @cache.response(ttl=60, tags="{nobody}")
    async def wrong() -> str:
        return "wrong"

    for _ in range(2):
        assert b"500 Internal Server Error" in await server.said(get())
    assert "{nobody}" in caplog.text


async def test_what_an_application_does_before_its_middleware_is_unknown_where_it_is_the_programs_own() -> None:
    class Own(FastAPI):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)

    server = Wire(reading(Own())[0])
    protocol, line = server.connect()
    assert protocol._desk is None
    for _ in range(2):
        protocol.data_received(get())
        await server.rest()
    assert b"tiercel; hit" in line.received, "the cache is where it was installed"


async def test_a_middleware_of_the_programs_own_around_everything_is_asked_each_time() -> None:
    class Strict(CacheMiddleware):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            assert scope["client"] == ("10.0.0.1", 1234)
            await super().__call__(scope, receive, send)

    class Around(FastAPI):
        def build_middleware_stack(self) -> Any:
            return strict(super().build_middleware_stack())

    def strict(inner: Any) -> Any:
        async def asked(scope: Any, receive: Any, send: Any) -> None:
            assert scope["client"] == ("10.0.0.1", 1234)
            await inner(scope, receive, send)

        return asked

    later, instrumented = reading(FastAPI())[0], FastAPI()
    build = instrumented.build_middleware_stack
    instrumented.__dict__["build_middleware_stack"] = lambda: strict(build())
    reading(instrumented)
    strictly = Strict(Origin(), cache=Cache(clock=VirtualClock()), default=Policy(ttl=60))
    for app in (strictly, reading(Around())[0], instrumented, later):
        server = Wire(app)
        await server.said(get())
        if app is later:
            later.middleware_stack = strict(later.middleware_stack)
        assert b"tiercel; hit" in await server.said(get())
        assert b"500 Internal Server Error" in await server.said(get(), client=("203.0.113.7", 1))


async def test_the_cache_stays_inside_of_middleware_that_may_have_to_run(caplog: pytest.LogCaptureFixture) -> None:
    def application() -> FastAPI:
        app = reading(FastAPI())[0]
        app.add_middleware(CORSMiddleware, allow_origins=["*"])

        @app.middleware("http")
        async def only_ours(request: Request, proceed: Any) -> Response:
            assert request.client is not None
            return await proceed(request) if request.client.host == "10.0.0.1" else Response(status_code=403)

        return app

    app = application()
    getattr(app, FRONT).serve(())
    careful, bold = Wire(app), Wire(application())
    for server in (careful, bold):
        await server.said(get())
        assert b"tiercel; hit" in await server.said(get())
    assert b"403 Forbidden" in await careful.said(get(), client=("203.0.113.7", 1))
    assert "BaseHTTPMiddleware stands outside of the cache, and may have to run for every request" in caplog.text
    assert "If hits may pass it over, serve with --outermost." in caplog.text
    assert b"tiercel; hit" in await bold.said(get(), client=("203.0.113.7", 1)), "it was asked for"
    before = careful.state.total_requests
    assert careful.connect()[0]._desk.first(Asked("GET", b"/", [HOST], {"root_path": ""}), ()) is None
    assert careful.state.total_requests == before


async def test_what_is_stored_here_and_behind_middleware_is_kept_apart() -> None:
    store, clock = SimulatedServer(), VirtualClock()

    def application() -> FastAPI:
        app, cache = FastAPI(), Cache(SimulatedStore(store), clock=clock)
        cache.install(app)
        app.add_middleware(CORSMiddleware, allow_origins=["*"])

        @app.get("/")
        @cache.response(ttl=60)
        async def read() -> str:
            return "read"

        return app

    asked = get(b"/", (b"origin", b"http://elsewhere"))
    inside, outside, again = OverTheWire(application()), Wire(application()), Wire(application())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(inside.app), base_url="http://shop") as http:
        await http.get("/", headers={"origin": "http://elsewhere"})
    await asyncio.sleep(1)
    said = await outside.said(asked)
    assert b"fwd=uri-miss" in said
    await asyncio.sleep(1)
    for server in (outside, again):
        said = await server.said(asked)
        assert b"tiercel; hit" in said
        assert said.count(b"access-control-allow-origin") == 1


@pytest.mark.parametrize("field", [(b"connection", b"close"), (b"transfer-encoding", b"chunked")])
async def test_where_uvicorn_is_told_to_frame_itself_it_does(field: tuple[bytes, bytes]) -> None:
    shop = Shop()
    await shop.ask(get())
    shop.wire.state.default_headers = [field]
    await shop.same(get())


def fails(*_: object) -> None:
    raise ZeroDivisionError


async def test_a_failure_of_ours_costs_a_hit_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    await shop.ask(get())
    await shop.ask(get())
    gate = shop.wire.connect()[0]._desk._front.gate
    gate.engine.tiers.shelf, found = None, gate.engine.tiers.shelf
    gate.ready, ready = fails, gate.ready
    for data in (get(), ASKS["etag"]):
        protocol, line = shop.wire.connect()
        protocol.data_received(data)
        gate.engine.tiers.shelf = found
        gate.ready = ready
        await shop.wire.rest()
        assert b"tiercel; hit" in line.received
        gate.ready = fails
    assert "a hit could not be answered at once: the application is asked" in caplog.text


async def test_what_fails_as_an_answer_is_kept_does_not_reach_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    await shop.ask(get())
    protocol, line = shop.wire.connect()
    desk: Any = protocol._desk
    desk.answers.keep = fails
    for count in range(1, 3):
        protocol.data_received(get())
        assert len(line.writes) == count
        assert b"tiercel; hit" in line.writes[-1]
    assert "an answer could not be kept: it is worked out again" in caplog.text


async def test_no_copy_of_a_body_is_kept() -> None:
    size = 1_000_000
    for headers in ([FRESH], [FRESH, (b"content-length", b"%d" % size)]):
        shop = Shop(Say(headers=headers, chunks=[b"x" * size]))
        await shop.ask(get())
        for number in range(5):
            for _ in range(3):
                await shop.ask(get(b"/", (b"range", b"bytes=%d-" % number)))
                await shop.ask(get())
        shelf = shop.cache.engine.tiers.shelf(next(iter(shop.kept.values())).target.primary)
        assert shelf is not None
        assert [kept.body is shelf.entries[0].body for kept in shop.kept.values()] == [True]


async def test_a_part_of_a_body_is_not_kept() -> None:
    shop = Shop(SAYS["length"])
    await shop.ask(get())
    gate = getattr(shop.app, FRONT).gate
    target = next(iter(gate._places.values()))
    ready = gate.ready(target, glance([HOST]), "GET", [HOST], fails)
    answer = wire("GET", 200, ready.headers, ready.body)
    assert answer is not None
    assert _is_lasting(ready, answer)
    assert not _is_lasting(ready, answer._replace(body=b"hell"))
    for _ in range(3):
        await shop.ask(ASKS["range"])
    assert ASKS["range"] not in shop.kept


async def test_with_an_access_log_no_head_is_remembered() -> None:
    shop = Shop(access_log=True)
    for _ in range(3):
        await shop.ask(get())
    protocol = shop.wire.connect()[0]
    protocol.access_log = True
    protocol.data_received(get())
    assert not shop.kept


async def test_only_bytes_that_were_one_request_are_remembered() -> None:
    shop = Shop()
    await shop.ask(get())
    shop.kept.clear()
    for pieces in ([get() + get()], [get()[:9], get()[9:]], [get() + b"GET"], [b"\r\n" + get()], [get() + b"\r\n"]):
        await shop.ask(*pieces)
    assert set(shop.kept) <= {b"\r\n" + get()}, "an empty line before a request is none of it: RFC 9112 §2.2"
    await shop.ask(get())
    assert get() in shop.kept
    said = await shop.ask(get(), b"GET", get())
    assert said.count(b"hello") == 1, "GETGET is no method"
    assert b"400 Bad Request" in said


async def test_a_response_that_cannot_be_written_is_left_to_uvicorn() -> None:
    shop = Shop(Say(headers=[FRESH, (b"x", b"a\r\nset-cookie: b"), (b"content-length", b"5")]))
    for _ in range(3):
        assert b"set-cookie" not in await shop.same(get())


async def test_fields_that_tell_of_one_response_go_to_who_asked_and_to_nobody_else() -> None:
    def say(scope: Scope) -> Say:
        del scope
        headers = [FRESH, (b"content-length", b"5"), (b"X-Request-Id", b"1"), (b"y", b"2")]
        return Say(headers=[(name.lower(), value) for name, value in headers], wait=1)

    shop = Shop(say, left_out=("X-Request-Id",))
    first = asyncio.create_task(shop.ask(get()))
    await asyncio.sleep(0.5)
    joined, (asked, later) = await shop.ask(get()), (await first, await shop.ask(get()))
    assert b"x-request-id: 1\r\n" in asked
    for said in (joined, later):
        assert b"x-request-id" not in said
        assert b"y: 2\r\n" in said


@pytest.mark.parametrize("data", HOSTILE)
async def test_what_is_broken_or_hostile_is_answered_as_uvicorn_does(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    await shop.ask(get())
    hit, said = await shop.same(get()), await shop.same(data)
    assert await shop.ask(get() + data) == hit + said, "what was whole is answered, whatever follows"
    assert await shop.ask(get(), data) == hit + said
    for at in range(1, min(len(data), 200)):
        assert await shop.ask(get() + data[:at], data[at:]) == hit + said
    assert await shop.ask(get()) == hit, "nothing is lost"
    assert "Traceback" not in caplog.text, "nor may who sends it fill the log"


@given(
    st.lists(st.sampled_from(["plain", "etag", "range", "head", "german", "reload"]), max_size=4),
    st.sampled_from([*HOSTILE, *ASKS.values()]),
    st.lists(st.integers(1, 400), max_size=6),
)
def test_hits_are_answered_whatever_follows_them_in_whatever_pieces(
    hits: list[str], last: bytes, cuts: list[int]
) -> None:
    async def play() -> None:
        shop = Shop(SAYS["length"])
        for ask in ("plain", "german", "query"):
            await shop.ask(ASKS[ask])
        await shop.ask(last, plain=True)
        data, pieces = b"".join([ASKS[hit] for hit in hits]) + last, list[bytes]()
        before = shop.origin.calls
        slowly = await shop.ask(*[data[at : at + 1] for at in range(len(data))], plain=True, slowly=True)
        for cut in cuts:
            pieces.append(data[:cut])
            data = data[cut:]
        found = await shop.ask(*[piece for piece in [*pieces, data] if piece])
        if shop.origin.calls == before:  # what it asks for changes nothing itself
            assert found == slowly

    run_virtual(play())


@given(
    st.lists(st.sampled_from([*ASKS.values(), *[data for data in HOSTILE if len(data) < 1_000]]), max_size=8),
    st.lists(st.integers(1, 200), max_size=12),
    st.sampled_from(["length", "pieces", "varied"]),
    st.booleans(),
)
def test_whatever_comes_in_whatever_pieces_the_bytes_are_those_of_uvicorn(
    asked: list[bytes],
    cuts: list[int],
    say: str,
    slowly: bool,  # noqa: FBT001
) -> None:
    """Two shops of the same past: what the one stores, forgets and answers, so does the other."""
    data, pieces = b"".join(asked), list[bytes]()
    for cut in [*cuts, len(b"".join(asked))]:
        pieces += [data[:cut]] if data else []
        data = data[cut:]

    async def play(*pieces: bytes, plain: bool, slowly: bool = slowly) -> tuple[bytes, int, bytes]:
        shop = Shop(SAYS[say])
        for warm in ("plain", "german"):
            await shop.ask(ASKS[warm], plain=plain)
        found = await shop.ask(*pieces, plain=plain, slowly=slowly)
        return found, shop.origin.calls, await shop.ask(get(), plain=plain)

    ours, uvicorns = run_virtual(play(*pieces, plain=False)), run_virtual(play(*pieces, plain=True))
    singly = [data[at : at + 1] for data in pieces for at in range(len(data))]
    in_turn = run_virtual(play(*singly, plain=True, slowly=True))
    assert run_virtual(play(*singly, plain=False, slowly=True)) == in_turn
    if BROKEN not in uvicorns[0]:
        assert ours == uvicorns
    else:  # uvicorn forgets what was whole before it, if that came with it; here some of it is answered already
        answered, _, refused = ours[0].partition(BROKEN)
        assert in_turn[0].startswith(answered)
        assert answered.startswith(uvicorns[0].partition(BROKEN)[0])
        assert refused == uvicorns[0].partition(BROKEN)[2]


BROKEN = b"HTTP/1.1 400 Bad Request"
