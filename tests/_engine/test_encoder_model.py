"""Any sequence of requests, however they are encoded, conditional or partial, against what each may get."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Any

from decoding import decode
from drive import FRESH, Say, Scope, Shop, Visit
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercel._core.entry import Header
from tiercel._core.keys import uri_tag
from tiercel._core.policy import Policy
from tiercel._engine.codings import compressors
from tiercel._engine.encoder import INLINE
from tiercel.testing import run_virtual

ACCEPT: dict[bytes | None, set[bytes]] = {
    None: {b""},
    b"": {b""},
    b"identity": {b""},
    b"gzip": {b"", b"gzip"},
    b"zstd;q=0.3, gzip;q=0.2": {b"", b"zstd", b"gzip"},
    b"gzip, zstd;q=0.5": {b"", b"zstd", b"gzip"},
    b"*": {b"", b"zstd", b"gzip", b"br"},
    b"*;q=0.1, gzip;q=0": {b"", b"zstd", b"br"},
    b"deflate, gzip;q=0": {b""},
    b"gzip;q=0.5, identity": {b""},
}
"""What a client sends, and what it may be given."""
BEST: dict[bytes | None, bytes] = {
    b"gzip": b"gzip",
    b"zstd;q=0.3, gzip;q=0.2": b"zstd",
    b"gzip, zstd;q=0.5": b"gzip",
    b"*": b"zstd",
    b"*;q=0.1, gzip;q=0": b"zstd",
}
TAG = uri_tag("http", b"shop", b"/")
SIZES = {"small": 10, "body": 3_000, "large": 2 * INLINE}
SAYS = ("whole", "streamed", "tagged", "weak", "encoded", "revalidated")


@dataclass(frozen=True)
class Ask:
    accept: bytes | None
    condition: str
    span: tuple[int, int] | None
    method: str


asks = st.builds(
    Ask,
    accept=st.sampled_from(list(ACCEPT)),
    condition=st.sampled_from(["", "", "if-none-match", "if-none-match", "if-range", "if-match"]),
    span=st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 50), st.integers(0, 50))),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
)
steps = st.one_of(asks, asks, asks, st.sampled_from(["cut", "change and cut", "soft", "wait", "wait long"]))


class Model:
    """One resource, and all that its clients were ever told of it."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size, self.version = kind, size, 0
        self.shop = Shop(self.say, compress="public", policy=Policy())
        self.whole: dict[bytes, tuple[bytes, bytes]] = {}
        """By entity tag: the coding and the bytes, the same for ever."""

    def body(self, version: int) -> bytes:
        return (b"%d, " % version * self.size)[: self.size]

    def say(self, scope: Scope) -> Say:
        body, given = self.body(self.version), dict(scope["headers"])
        headers: list[Header] = [FRESH, (b"content-type", b"text/plain")]
        tag = b'"v%d"' % self.version
        match self.kind:
            case "streamed":
                return Say(headers=headers, chunks=[body[:5], body[5:]], pace=0.1)
            case "tagged":
                headers.append((b"etag", tag))
            case "weak":
                headers.append((b"etag", b"W/" + tag))
            case "revalidated":
                headers.append((b"etag", tag))
                if given.get(b"if-none-match") == tag:
                    return Say(status=304, headers=headers, chunks=[])
            case "encoded":
                headers.append((b"vary", b"accept-encoding"))
                if b"gzip" in given.get(b"accept-encoding", b""):
                    body = zlib.compress(body, 1, 31)
                    headers.append((b"content-encoding", b"gzip"))
            case _:
                pass
        return Say(headers=[*headers, (b"content-length", b"%d" % len(body))], chunks=[body])

    async def step(self, step: Any) -> None:
        match step:
            case Ask():
                await self.ask(step)
            case "wait":
                await asyncio.sleep(7.3)
            case "wait long":
                await asyncio.sleep(61)
            case _:
                self.version += step == "change and cut"
                self.shop.engine.cut([TAG], soft=step == "soft")  # also what is on its way, under a key yet unknown

    async def ask(self, ask: Ask) -> None:
        mine = [tag for tag, (coding, _) in self.whole.items() if coding in ACCEPT[ask.accept]]
        held = mine[len(mine) // 2] if mine else b'"none"'
        headers: list[Header] = []
        if ask.accept is not None:
            headers.append((b"accept-encoding", ask.accept))
        if ask.condition:
            headers.append((ask.condition.encode(), held))
        if ask.span is not None:
            headers.append((b"range", b"bytes=%d-%d" % ask.span))
        visit = await self.shop.get("/", *headers, method=ask.method)
        self.check(ask, held, visit)

    def check(self, ask: Ask, held: bytes, visit: Visit) -> None:
        coding, tag = visit.header(b"content-encoding") or b"", visit.header(b"etag") or b""
        match visit.status:
            case 200 if ask.method == "GET":
                assert coding in ACCEPT[ask.accept]
                self.check_whole(ask, coding, tag, visit.body)
            case 200:
                assert visit.body == b""
            case 206:
                assert coding in ACCEPT[ask.accept]
                self.check_part(ask, held, tag, visit)
            case 304:
                assert (ask.condition, tag) == ("if-none-match", held)  # of the very bytes that the client has
                assert decode(*self.whole[held]) == self.body(self.version)
            case other:
                assert (other, ask.condition) == (412, "if-match") or other == 416
        assert (visit.header(b"vary") == b"accept-encoding") or self.size < 1024 or visit.status in {412, 416}

    def check_whole(self, ask: Ask, coding: bytes, tag: bytes, body: bytes) -> None:
        assert decode(coding, body) == self.body(self.version)
        assert self.whole.setdefault(tag, (coding, body)) == (coding, body)
        if self.kind not in {"streamed", "encoded"} and self.size > 1024:
            assert coding == BEST.get(ask.accept, b"")

    def check_part(self, ask: Ask, held: bytes, tag: bytes, visit: Visit) -> None:
        told = (visit.header(b"content-range") or b"").removeprefix(b"bytes ")
        first, _, last = told.partition(b"/")[0].partition(b"-")
        assert ask.span is not None
        assert int(first) == ask.span[0]
        if tag in self.whole:
            assert visit.body == self.whole[tag][1][int(first) : int(last) + 1]
        if ask.condition == "if-range":
            assert tag == held


@settings(max_examples=150)
@given(st.sampled_from(SAYS), st.sampled_from(list(SIZES)), st.lists(steps, max_size=25))
def test_nobody_gets_what_they_do_not_take_or_bytes_that_are_not_of_their_tag(
    kind: str, size: str, played: list[Any]
) -> None:
    async def play() -> None:
        model = Model(kind, SIZES[size])
        for step in played:
            await model.step(step)
        await asyncio.sleep(1)  # what is renewed behind the last reply
        await model.shop.at_rest()

    run_virtual(play())


def test_the_model_knows_the_compressors_that_it_is_played_with() -> None:
    assert {b"zstd", b"gzip"} <= set(compressors())
