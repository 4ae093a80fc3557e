"""Stored responses in the content coding that the client wants, each made once."""

import asyncio
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zstandard
from decoding import decode
from drive import FRESH, Say, Scope, Shop, Visit, losses, turns

from tiercel._core.entry import Header
from tiercel._core.events import Failed
from tiercel._core.policy import Policy
from tiercel._engine.codings import compressors
from tiercel._engine.encoder import INLINE, Encoder
from tiercel._engine.tiers import key_tag
from tiercel.testing import SimulatedServer, SimulatedStore

pytestmark = pytest.mark.usefixtures("road")


JSON: Header = (b"content-type", b"application/json")
BODY = b'{"name": "a diamond", "price": 326}, ' * 50
LARGE = BODY * (2 * INLINE // len(BODY) + 1)


def say(body: bytes = BODY, *headers: Header, **more: Any) -> Say:
    return Say(headers=[FRESH, JSON, (b"content-length", b"%d" % len(body)), *headers], chunks=[body], **more)


def accepting(value: bytes) -> Header:
    return (b"accept-encoding", value)


GZIP, ZSTD, BROWSER = accepting(b"gzip"), accepting(b"zstd"), accepting(b"gzip, deflate, br, zstd")


def decoded(visit: Visit) -> bytes:
    return decode(visit.header(b"content-encoding") or b"", visit.body)


def told(visit: Visit) -> tuple[int, list[Header], bytes]:
    """All but what tells of one use."""
    return visit.status, [line for line in visit.headers if line[0] not in {b"age", b"cache-status"}], visit.body


class Counted:
    """The compressors of a shop, and what each was given, where."""

    def __init__(
        self, shop: Shop, *, fails: BaseException | None = None, makes: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.made: list[tuple[bytes, int]] = []
        self.threads: list[threading.Thread] = []
        self.fails = fails
        self.go = threading.Event()
        self.go.set()
        known = {name: makes or compress for name, compress in compressors().items()}
        encoder(shop)._compressors = {name: self._counted(name, compress) for name, compress in known.items()}

    def _counted(self, name: bytes, compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        def counted(body: bytes) -> bytes:
            self.made.append((name, len(body)))
            self.threads.append(threading.current_thread())
            assert self.go.wait(60)
            if self.fails is not None:
                raise self.fails
            return compress(body)

        return counted


def encoder(shop: Shop) -> Encoder:
    assert shop.engine.encoder is not None
    return shop.engine.encoder


class Closed(ThreadPoolExecutor):
    def submit(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("closed")


# -- one answer of the application, for all codings --------------------------------------------------------------------


def test_gzip_is_always_there_and_says_nothing_of_when_it_was_made() -> None:
    made = compressors()[b"gzip"](BODY)
    assert zlib.decompress(made, 31) == BODY
    assert made[3:8] == bytes(5)  # RFC 1952: no flags, no time
    assert made == compressors()[b"gzip"](BODY)


def test_zstd_frames_are_within_the_window_that_browsers_take() -> None:
    """RFC 9659: 8 MB; and they tell how much they hold."""
    body = bytes(range(256)) * (1 << 16)
    told = zstandard.get_frame_parameters(compressors()[b"zstd"](body))
    assert told.window_size <= 1 << 23
    assert told.content_size == len(body)


def test_brotli_is_there_where_its_package_is() -> None:
    brotli: Any = pytest.importorskip("brotli")
    assert brotli.decompress(compressors()[b"br"](BODY)) == BODY


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
async def test_the_application_is_asked_once_for_all_codings_and_each_is_made_once(body: bytes) -> None:
    shop = Shop(say(body), compress="public")
    counted = Counted(shop)
    for _ in range(2):
        for value in (b"gzip", b"zstd", b"gzip;q=0.5", b"zstd, gzip", b"identity", b"", b"deflate"):
            for visit in [await shop.get("/", accepting(value)), await shop.get()]:
                assert decoded(visit) == body
                assert visit.header(b"content-length") == b"%d" % len(visit.body)
                assert visit.header(b"vary") == b"accept-encoding"
    assert shop.calls == 1
    assert sorted(counted.made) == [(b"gzip", len(body)), (b"zstd", len(body))]
    await shop.at_rest()


@pytest.mark.parametrize("asked", [GZIP, ZSTD, BROWSER, accepting(b"identity"), (b"x", b"1")], ids=repr)
@pytest.mark.parametrize("body", [BODY, LARGE, b"small"], ids=["body", "large", "small"])
async def test_a_hit_is_its_miss_byte_for_byte(body: bytes, asked: Header) -> None:
    shop = Shop(say(body), compress="public")
    miss, plain, other = [
        await shop.get("/", *more) for more in ([asked], [asked], [asked, (b"cache-control", b"max-stale")])
    ]
    assert [one.said for one in (miss, plain, other)] == ["fwd=uri-miss; stored", "hit", "hit"]
    assert told(miss) == told(plain) == told(other)
    assert decoded(miss) == body


async def test_every_coding_has_an_entity_tag_of_its_own() -> None:
    shop = Shop(say(), compress="public")
    tags = {(await shop.get("/", accepting(value))).header(b"etag") for value in (b"gzip", b"zstd", b"identity")}
    assert len(tags) == 3


async def test_who_has_one_coding_is_told_so_of_that_one_only() -> None:
    shop = Shop(say(BODY, (b"etag", b'"1"')), compress="public")
    for asked in (GZIP, ZSTD, accepting(b"identity")):
        mine = (await shop.get("/", asked)).header(b"etag") or b""
        for other in (GZIP, ZSTD, accepting(b"identity")):
            visit = await shop.get("/", other, (b"if-none-match", mine))
            assert visit.status == (304 if other == asked else 200)
            assert visit.header(b"vary") == b"accept-encoding"
            if visit.status == 304:
                assert visit.header(b"etag") == mine
                assert visit.body == b""
            changed = await shop.get("/", other, (b"if-match", mine))
            assert changed.status == (200 if other == asked else 412)


async def test_a_range_is_one_of_the_encoded_bytes() -> None:
    shop = Shop(say(BODY, (b"etag", b'"1"')), compress="public")
    whole = await shop.get("/", GZIP)
    first = await shop.get("/", GZIP, (b"range", b"bytes=0-9"))
    rest = await shop.get("/", GZIP, (b"range", b"bytes=10-"), (b"if-range", first.header(b"etag") or b""))
    assert (first.status, rest.status) == (206, 206)
    assert first.header(b"content-range") == b"bytes 0-9/%d" % len(whole.body)
    assert first.header(b"content-encoding") == b"gzip"
    assert first.body + rest.body == whole.body
    # Whoever had begun with other bytes begins anew.
    for begun in (b'"1"', (await shop.get("/", ZSTD)).header(b"etag") or b""):
        anew = await shop.get("/", GZIP, (b"range", b"bytes=10-"), (b"if-range", begun))
        assert told(anew) == told(whole)
    beyond = await shop.get("/", GZIP, (b"range", b"bytes=%d-" % len(whole.body)))
    assert (beyond.status, beyond.header(b"content-range")) == (416, b"bytes */%d" % len(whole.body))


async def test_head_tells_what_get_would_send() -> None:
    shop = Shop(say(), compress="public")
    got = await shop.get("/", GZIP)
    asked = await shop.get("/", GZIP, method="HEAD")
    assert asked.body == b""
    assert told(asked)[:2] == told(got)[:2]


async def test_a_head_that_was_asked_for_alone_is_left_alone() -> None:
    shop = Shop(say(), compress="public")
    for _ in range(2):
        visit = await shop.get("/", GZIP, method="HEAD")
        assert visit.header(b"content-encoding") is None
        assert visit.header(b"vary") == b"accept-encoding"


async def test_what_does_not_become_smaller_goes_out_as_it_is_and_is_tried_once() -> None:
    shop = Shop(say(), compress="public")
    counted = Counted(shop, makes=bytes)
    for _ in range(3):
        visit = await shop.get("/", GZIP)
        assert (visit.body, visit.header(b"content-encoding")) == (BODY, None)
        assert visit.header(b"vary") == b"accept-encoding"
    assert len(counted.made) == 1


# -- many at once, and what goes wrong ---------------------------------------------------------------------------------


async def test_many_who_want_the_same_large_one_wait_for_one_thread() -> None:
    shop = Shop(say(LARGE), compress="public")
    counted = Counted(shop)
    await shop.get()
    counted.go.clear()
    visits = [shop.ask("/", headers=[GZIP]) for _ in range(20)]
    await turns()
    assert not any(visit.messages for visit in visits)
    assert (await shop.get()).body == LARGE  # nobody else waits
    visits[0].task.cancel()  # type: ignore[union-attr]
    await turns()
    counted.go.set()
    for visit in visits[1:]:
        assert decoded(await visit.done()) == LARGE
    assert counted.made == [(b"gzip", len(LARGE))]
    assert threading.main_thread() not in counted.threads
    assert decoded(await shop.get("/", GZIP)) == LARGE
    assert len(counted.made) == 1
    await shop.at_rest()
    assert not encoder(shop)._making


async def test_a_small_one_takes_no_thread() -> None:
    shop = Shop(say(), compress="public")
    counted = Counted(shop)
    await shop.get("/", GZIP)
    assert counted.threads == [threading.main_thread()]


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
async def test_where_compressing_fails_the_response_goes_out_as_it_is(body: bytes) -> None:
    shop = Shop(say(body), compress="public")
    counted = Counted(shop, fails=MemoryError("no more"))
    for _ in range(3):
        visit = await shop.get("/", GZIP)
        assert (visit.body, visit.header(b"content-encoding")) == (body, None)
    assert len(counted.made) == 1
    failed = [event for event in shop.events if isinstance(event, Failed)]
    assert [(event.where, event.error) for event in failed] == [("compression", counted.fails)]


async def test_without_threads_the_response_goes_out_as_it_is() -> None:
    shop = Shop(say(LARGE), compress="public")
    await shop.get()
    asyncio.get_running_loop().set_default_executor(Closed())
    with losses() as lost:
        visit = await shop.get("/", GZIP)
    assert visit.body == LARGE
    assert [str(error) for error in lost] == ["closed"]
    assert not encoder(shop)._making


async def test_what_is_cut_while_it_is_compressed_is_not_kept() -> None:
    bodies = iter([LARGE, LARGE.replace(b"326", b"327")])
    shop = Shop(lambda _: say(next(bodies)), compress="public", policy=Policy())
    counted = Counted(shop)
    await shop.get()
    (key,) = [key for key, _ in shop.engine.tiers.memory.entries()]
    counted.go.clear()
    early = shop.ask("/", headers=[GZIP])
    await turns()
    shop.engine.cut([key_tag(key)])
    late = shop.ask("/", headers=[GZIP])
    await turns()
    counted.go.set()
    assert b"326" in decoded(await early.done())  # which was asked before
    assert b"327" in decoded(await late.done())
    assert b"327" in decoded(await shop.get("/", GZIP))
    assert b"327" in decoded(await shop.get())
    assert shop.calls == 2


async def test_nothing_is_compressed_for_what_is_not_stored() -> None:
    shop = Shop(say(LARGE), compress="public", bound=150_000)
    counted = Counted(shop)
    for _ in range(3):
        visit = await shop.get("/", GZIP)
        assert (visit.body, visit.said) == (LARGE, "fwd=uri-miss; detail=too-large")
    assert counted.made == []


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
async def test_what_was_cut_while_it_was_produced_is_not_compressed_for_those_who_waited(body: bytes) -> None:
    shop = Shop(say(body, wait=5), compress="public")
    counted = Counted(shop)
    visits = [shop.ask("/", headers=[GZIP]) for _ in range(3)]
    await asyncio.sleep(1)
    shop.engine.cut_all()
    for visit in visits:
        assert (await visit.done()).body == body
    assert visits[0].said == "fwd=uri-miss; detail=invalidated"
    assert counted.made == []


async def test_the_bound_counts_what_was_made_and_what_has_no_room_is_let_go_of() -> None:
    noisy = BODY * 5
    shop = Shop(say(noisy), compress="public", bound=100_000)
    counted = Counted(shop, makes=lambda body: body[:-1])
    await shop.get()
    before = shop.engine.tiers.memory.weight
    for _ in range(3):
        for asked in (GZIP, ZSTD):
            for more in ([], [(b"cache-control", b"max-stale")]):  # by the shortest way, and by the next
                visit = await shop.get("/", asked, *more)
                assert (visit.status, visit.body) == (200, noisy)
            assert shop.engine.tiers.memory.weight <= 100_000
    assert sorted(counted.made) == [(b"gzip", len(noisy)), (b"zstd", len(noisy))]
    assert shop.engine.tiers.memory.weight == before
    await shop.get("/", GZIP)
    assert shop.calls == 1


async def test_what_was_made_is_weighed() -> None:
    shop = Shop(say(), compress="public")
    await shop.get()
    before = shop.engine.tiers.memory.weight
    visit = await shop.get("/", GZIP)
    assert shop.engine.tiers.memory.weight >= before + len(visit.body)


# -- what lives and falls with it --------------------------------------------------------------------------------------


async def test_an_invalidation_takes_all_codings_at_once() -> None:
    versions = iter(range(326, 400))
    shop = Shop(lambda _: say(BODY.replace(b"326", b"%d" % next(versions))), compress="public")
    asked = [GZIP, ZSTD, accepting(b"identity")]
    for version in (326, 327, 328):
        for one in asked:
            assert b"%d" % version in decoded(await shop.get("/", one))
        (key,) = [key for key, _ in shop.engine.tiers.memory.entries()]
        shop.engine.cut([key_tag(key)])
    assert shop.calls == 3


async def test_what_was_made_outlasts_validation_and_the_application_is_not_asked_for_each_coding() -> None:
    tag: Header = (b"etag", b'"1"')

    def answer(scope: Scope) -> Say:
        known = (b"if-none-match", b'"1"') in scope["headers"]
        return Say(status=304, headers=[FRESH, tag], chunks=[]) if known else say(BODY, tag)

    shop = Shop(answer, compress="public")
    counted = Counted(shop)
    for _ in range(3):
        first = await shop.get("/", GZIP)
        for asked in (GZIP, ZSTD, accepting(b"identity"), GZIP):
            visit = await shop.get("/", asked)
            assert (visit.said, decoded(visit)) == ("hit", BODY)
        assert told(await shop.get("/", GZIP)) == told(first)
        await asyncio.sleep(61)
    assert shop.calls == 3
    assert sorted(counted.made) == [(b"gzip", len(BODY)), (b"zstd", len(BODY))]


async def test_a_soft_invalidation_leaves_what_was_made() -> None:
    shop = Shop(say(), compress="public", policy=Policy(stale_while_revalidate=60))
    counted = Counted(shop)
    await shop.get("/", GZIP)
    (key,) = [key for key, _ in shop.engine.tiers.memory.entries()]
    shop.engine.cut([key_tag(key)], soft=True)
    shop.origin.say = say(BODY, wait=5)
    stale = await shop.get("/", GZIP)
    assert (stale.said, decoded(stale)) == ("hit", BODY)
    assert len(counted.made) == 1
    await turns()
    assert shop.calls == 2


async def test_stale_where_the_application_fails_is_encoded_too() -> None:
    shop = Shop(say(), compress="public", policy=Policy(stale_if_error=600))
    fresh = await shop.get("/", GZIP)
    shop.origin.say = Say(status=503, headers=[])
    await asyncio.sleep(100)
    visit = await shop.get("/", GZIP)
    assert visit.said == "fwd=stale; fwd-status=503; detail=stale-if-error"
    assert told(visit) == told(fresh)


# -- streams -----------------------------------------------------------------------------------------------------------


async def test_a_stream_is_passed_on_as_it_comes_and_encoded_from_then_on() -> None:
    chunks = [BODY] * 5
    shop = Shop(Say(headers=[FRESH, JSON], chunks=chunks, pace=1.0), compress="public")
    first, joined = shop.ask("/", headers=[GZIP]), shop.ask("/", headers=[ZSTD])
    await asyncio.sleep(1.5)
    assert first.body == BODY  # the first byte at once
    for visit in (await first.done(), await joined.done()):
        assert (visit.body, visit.header(b"content-encoding")) == (BODY * 5, None)
        assert visit.header(b"vary") == b"accept-encoding"
    later = await shop.get("/", GZIP)
    assert (later.header(b"content-encoding"), decoded(later)) == (b"gzip", BODY * 5)
    assert later.header(b"content-length") == b"%d" % len(later.body)
    plain = await shop.get()
    assert told(plain) == told(first)
    # What the first has is valid for whoever asks for the same: of the encoded one it is no part.
    tag = first.header(b"etag") or b""
    assert (await shop.get("/", (b"if-none-match", tag))).status == 304
    assert (await shop.get("/", GZIP, (b"if-none-match", tag))).status == 200
    assert shop.calls == 1


async def test_a_stream_that_stays_small_is_not_encoded_and_its_hits_say_the_same() -> None:
    shop = Shop(Say(headers=[FRESH, JSON], chunks=[b"{", b"}"], pace=1.0), compress="public")
    first, hit = await shop.get("/", GZIP), await shop.get("/", GZIP)
    assert told(first) == told(hit)
    assert hit.header(b"vary") == b"accept-encoding"


# -- the application's own encodings -----------------------------------------------------------------------------------


def compressing(scope: Scope) -> Say:
    """An application that compresses itself: with what it knows."""
    given = b",".join([value for name, value in scope["headers"] if name == b"accept-encoding"])
    if b"gzip" not in given:
        return say(BODY, (b"vary", b"accept-encoding"))
    made = zlib.compress(BODY, 1, 31)
    return say(made, (b"vary", b"accept-encoding"), (b"content-encoding", b"gzip"))


async def test_what_the_application_has_encoded_is_left_alone() -> None:
    shop = Shop(compressing, compress="public")
    for _ in range(2):
        for asked in (GZIP, BROWSER, accepting(b"gzip, zstd;q=0.5")):
            visit = await shop.get("/", asked)
            assert visit.body == zlib.compress(BODY, 1, 31)
    assert shop.calls == 3


async def test_hundreds_of_spellings_make_few_variants() -> None:
    shop = Shop(compressing, compress="public")
    spellings = [b"gzip;q=0.%d, br;q=0.%d, x-%d" % (at % 10, at % 7, at) for at in range(500)]
    for value in spellings:
        visit = await shop.get("/", accepting(value))
        assert visit.header(b"content-encoding") in {None, b"gzip", b"br"}
        assert decoded(visit) == BODY
    assert shop.calls <= 16
    seen = {dict(scope["headers"])[b"accept-encoding"] for scope in shop.origin.asked}
    assert seen <= {b"identity", b"gzip", b"br", b"br, gzip", b"gzip, br;q=0.9"}
    shelf = shop.engine.tiers.shelf(next(key for key, _ in shop.engine.tiers.memory.entries()))
    assert shelf is not None
    assert len(shelf.entries) <= 16


async def test_without_compression_the_application_sees_what_the_client_says() -> None:
    shop = Shop(say())
    visit = await shop.get("/", accepting(b"GZip , x-1"))
    assert (visit.body, visit.header(b"vary")) == (BODY, None)
    assert accepting(b"GZip , x-1") in shop.origin.asked[0]["headers"]


async def test_shadow_mode_watches_an_application_that_sees_what_the_client_says() -> None:
    shop = Shop(say(), compress="public", shadow=True)
    visit = await shop.get("/", accepting(b"gzip, x-1"))
    assert visit.body == BODY
    assert accepting(b"gzip, x-1") in shop.origin.asked[0]["headers"]


async def test_what_is_not_for_the_cache_is_left_alone() -> None:
    shop = Shop(say(BODY, (b"set-cookie", b"a=b")), compress="all")
    visit = await shop.get("/", GZIP)
    assert (visit.body, visit.header(b"vary")) == (BODY, None)
    posted = await shop.get("/", GZIP, method="POST")
    assert (posted.body, posted.header(b"vary")) == (BODY, None)


# -- whose they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [(b"vary", b"cookie"), (b"vary", b"x-api-key")])
async def test_what_may_be_one_users_is_compressed_only_where_that_is_said(line: Header) -> None:
    for compress, coding in (("public", None), ("all", b"gzip")):
        shop = Shop(say(BODY, line), compress=compress)  # type: ignore[arg-type]
        for _ in range(2):
            visit = await shop.get("/", GZIP)
            assert (visit.header(b"content-encoding"), decoded(visit)) == (coding, BODY)


async def test_selecting_fields_keep_their_variants_apart_in_every_coding() -> None:
    def by_language(scope: Scope) -> Say:
        return say(BODY + dict(scope["headers"])[b"accept-language"], (b"vary", b"accept-language"))

    shop = Shop(by_language, compress="public")
    counted = Counted(shop)
    for _ in range(3):
        for language in (b"de", b"fr"):
            for asked in (GZIP, ZSTD, accepting(b"identity")):
                visit = await shop.get("/", asked, (b"accept-language", language))
                assert decoded(visit) == BODY + language
    assert shop.calls == 2
    assert len(counted.made) == 4


# -- shared stores -----------------------------------------------------------------------------------------------------


def pair(*compress: str, body: bytes = BODY) -> Sequence[Shop]:
    server = SimulatedServer()
    return [Shop(say(body), compress=one, store=SimulatedStore(server)) for one in compress]  # type: ignore[arg-type]


async def test_a_shared_store_has_the_identity_and_each_process_makes_its_own_encodings() -> None:
    one, other = pair("public", "public")
    counted = Counted(one), Counted(other)
    first = await one.get("/", GZIP)
    await asyncio.sleep(1)
    visit = await other.get("/", GZIP)
    assert (visit.said, told(visit)) == ("hit", told(first))
    assert other.calls == 0
    assert [len(each.made) for each in counted] == [1, 1]


async def test_processes_with_and_without_compression_share() -> None:
    one, other = pair("off", "public")
    assert (await one.get("/", GZIP)).body == BODY
    await asyncio.sleep(1)
    visit = await other.get("/", GZIP)
    assert (visit.header(b"content-encoding"), visit.header(b"vary")) == (b"gzip", b"accept-encoding")
    assert decoded(visit) == BODY
    one, other = pair("public", "off")
    assert decoded(await one.get("/", GZIP)) == BODY
    await asyncio.sleep(1)
    assert (await other.get("/", GZIP)).body == BODY
    assert other.calls == 0
