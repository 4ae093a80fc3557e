"""Encoded hits where the bytes arrive: by both roads the same, and never what the client does not take."""

import asyncio
import zlib
from typing import Any

import pytest
from decoding import decode
from drive import FRESH, Origin, Say, Scope
from hypothesis import given
from hypothesis import strategies as st
from wire import Wire, head

from tiercel import Cache, CacheMiddleware, Policy
from tiercel._engine.encoder import INLINE
from tiercel.testing import VirtualClock, run_virtual

HOST = (b"host", b"shop")
BODY = b'{"name": "a diamond", "price": 326}, ' * 100
CODINGS = [b"gzip", b"zstd", b"identity", b"gzip, deflate, br, zstd", b"zstd;q=0.5, gzip", b"*;q=0", b"", b"deflate"]


def get(*headers: tuple[bytes, bytes], method: str = "GET") -> bytes:
    return head(method, b"/", [HOST, *headers])


def accepting(value: bytes, *more: tuple[bytes, bytes], method: str = "GET") -> bytes:
    return get((b"accept-encoding", value), *more, method=method)


def saying(body: bytes, *headers: tuple[bytes, bytes]) -> Say:
    told = [FRESH, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    return Say(headers=told, chunks=[body])


def by_itself(scope: Scope) -> Say:
    given = dict(scope["headers"]).get(b"accept-encoding", b"")
    if b"gzip" not in given:
        return saying(BODY, (b"vary", b"accept-encoding"))
    return saying(zlib.compress(BODY, 1, 31), (b"vary", b"accept-encoding"), (b"content-encoding", b"gzip"))


class Shop:
    """An application behind a cache that compresses, served."""

    def __init__(self, say: Any, **settings: Any) -> None:
        self.origin = Origin(say)
        self.cache = Cache(clock=VirtualClock(), jitter=0.0, compress="public", **settings)
        self.app = CacheMiddleware(self.origin, cache=self.cache, default=Policy(ttl=60))
        self.wire = Wire(self.app)

    async def ask(self, data: bytes, *, plain: bool = False) -> bytes:
        return await self.wire.said(data, plain=plain)

    async def same(self, data: bytes) -> bytes:
        """What both roads say, as one; also from what was remembered."""
        said = [await self.ask(data, plain=plain) for plain in (True, False, True, False, False)]
        assert len(set(said[1:])) == 1
        return said[-1]


SAYS: dict[str, Any] = {
    "body": saying(BODY),
    "large": saying(BODY * (INLINE // len(BODY) + 2)),
    "small": saying(b"small"),
    "tagged": saying(BODY, (b"etag", b'"1"')),
    "encoded": by_itself,
    "private": saying(BODY, (b"vary", b"cookie")),
}
MORE: dict[str, list[tuple[bytes, bytes]]] = {
    "plain": [],
    "any": [(b"if-none-match", b"*")],
    "etag": [(b"if-none-match", b'"1"')],
    "range": [(b"range", b"bytes=1-9")],
    "reload": [(b"cache-control", b"no-cache")],
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("say", SAYS)
async def test_the_bytes_are_those_of_the_ordinary_road(say: str, more: str, method: str) -> None:
    shop = Shop(SAYS[say])
    for _ in range(2):
        for value in CODINGS:
            said = await shop.same(accepting(value, *MORE[more], method=method))
            assert coding_of(said) in taken(value)
        await asyncio.sleep(1.7)
    await shop.same(get(*MORE[more], method=method))


def coding_of(said: bytes) -> bytes:
    fields = said.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return dict([line.split(b": ", 1) for line in fields]).get(b"content-encoding", b"")


def taken(value: bytes) -> set[bytes]:
    if value in {b"", b"identity", b"*;q=0", b"deflate"}:
        return {b""}
    return {b"", *[one for one in (b"gzip", b"zstd", b"br") if one in value]}


@pytest.mark.parametrize("body", [BODY, SAYS["large"].chunks[0]], ids=["small", "large"])
async def test_a_hit_in_any_coding_is_one_write_and_no_task(body: bytes) -> None:
    shop = Shop(saying(body))
    for value in (b"gzip", b"zstd", b"identity"):
        await shop.ask(accepting(value))
    protocol, line = shop.wire.connect()
    for _ in range(3):
        for value in (b"gzip", b"zstd", b"identity"):
            line.writes.clear()
            protocol.data_received(accepting(value))
            assert len(line.writes) == 1 or len(line.writes[1]) == len(body)
            said = b"".join(line.writes)
            found = said.partition(b"\r\n\r\n")[2]
            assert decode(coding_of(said), found) == body
            assert b"tiercel; hit" in said
    assert not shop.wire.state.tasks
    assert shop.origin.calls == 1


async def test_what_is_remembered_of_one_coding_is_not_said_to_another() -> None:
    """The bytes of the request differ by one field; plain answers are kept by what it means."""
    shop = Shop(saying(BODY))
    asks = [accepting(b"gzip"), accepting(b"gzip;q=0"), accepting(b"zstd, gzip"), get()]
    for ask in asks * 4:
        said = await shop.ask(ask)
        assert coding_of(said) == {asks[0]: b"gzip", asks[2]: b"zstd"}.get(ask, b"")


async def test_each_coding_is_kept_as_bytes_under_its_own_request() -> None:
    shop = Shop(saying(BODY))
    values = (b"gzip", b"zstd", b"identity")
    for value in values * 3:  # what is made of the response anew lets go of what was kept
        await shop.ask(accepting(value))
    kept = shop.wire.connect()[0]._desk.answers._kept
    for value in values:
        coding = value.replace(b"identity", b"")
        assert coding_of(kept[accepting(value)].text) == coding
        assert decode(coding, kept[accepting(value)].body) == BODY


async def test_an_invalidation_reaches_every_coding() -> None:
    versions = iter(range(1000, 2000))

    def say(_: Scope) -> Say:
        return saying(b"%d, " % next(versions) * 500)

    shop = Shop(say)
    for version in range(1000, 1004):
        for value in (b"gzip", b"zstd", b"identity"):
            for _ in range(3):
                said = await shop.ask(accepting(value))
                body = said.partition(b"\r\n\r\n")[2]
                assert decode(coding_of(said), body).startswith(b"%d, " % version)
        await shop.cache.clear()


@given(
    st.lists(st.tuples(st.sampled_from(CODINGS), st.sampled_from(list(MORE))), max_size=12), st.sampled_from(list(SAYS))
)
def test_no_order_of_requests_leads_to_a_coding_that_is_not_taken(asks: list[tuple[bytes, str]], say: str) -> None:
    async def play() -> None:
        shop = Shop(SAYS[say])
        for value, more in asks:
            said = await shop.ask(accepting(value, *MORE[more]))
            assert coding_of(said) in taken(value)

    run_virtual(play())
