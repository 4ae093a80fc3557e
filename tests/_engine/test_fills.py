"""What an answer of the application becomes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from drive import FRESH, Message, Say, Scope, Send, Shop, losses, turns

from tiercel._core.entry import Header
from tiercel._core.events import Discarded, Stored
from tiercel._engine.fills import IncompleteError

pytestmark = pytest.mark.usefixtures("road")


NO_STORE: Header = (b"cache-control", b"no-store")
MEGABYTE = 1_000_000


class Telling:
    """An application that sends exactly these messages."""

    def __init__(self, *messages: Message, pause: float = 0.0) -> None:
        self.messages = messages
        self.pause = pause
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        self.calls += 1
        for message in self.messages:
            await send(dict(message))
            await asyncio.sleep(self.pause)


def start(*headers: Header, status: int = 200, **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


# -- HEAD ------------------------------------------------------------------------------------------------------------


def by_method(scope: Scope) -> Say:
    return Say(
        headers=[FRESH, (b"content-length", b"5")], chunks=[b"" if scope["method"] == "HEAD" else b"hello"], wait=1
    )


async def test_a_stored_get_answers_head_without_a_body() -> None:
    shop = Shop(by_method)
    miss = await shop.get()
    visit = await shop.get(method="HEAD")
    assert (visit.said, visit.body, visit.header(b"content-length")) == ("hit", b"", b"5")
    assert visit.header(b"etag") == miss.header(b"etag")


async def test_a_running_get_answers_head() -> None:
    shop = Shop(by_method)
    get, head = shop.ask(), shop.ask(method="HEAD")
    await get.done()
    await head.done()
    assert (head.said, head.body, head.status) == ("fwd=uri-miss; collapsed", b"", 200)
    assert shop.calls == 1


async def test_a_running_get_answers_head_as_soon_as_its_head_is_there() -> None:
    shop = Shop(Say(chunks=[b"a", b"b"], pace=10))
    get, head = shop.ask(), shop.ask(method="HEAD")
    assert (await head.done()).times == [0.0, 0.0]
    assert (await get.done()).body == b"ab"


async def test_a_running_head_never_answers_a_get() -> None:
    shop = Shop(by_method)
    head = shop.ask(method="HEAD")
    await turns()
    get = shop.ask()
    await head.done()
    await get.done()
    assert (get.body, head.body, shop.calls) == (b"hello", b"", 2)


async def test_a_stored_head_never_answers_a_get() -> None:
    shop = Shop(by_method)
    await shop.get(method="HEAD")
    assert (await shop.get(method="HEAD")).said == "hit"
    assert (await shop.get()).said == "fwd=miss; stored; detail=head-only"


async def test_a_head_is_not_given_an_entity_tag_of_its_own() -> None:
    """It would be of no bytes, and the stored GET would seem to have changed."""
    shop = Shop(by_method)
    assert (await shop.get(method="HEAD")).header(b"etag") is None


async def test_a_head_whose_application_sends_a_body_all_the_same_is_complete_with_its_head() -> None:
    shop = Shop(Say(chunks=[b"hello"] * 3, pace=1))
    assert (await shop.get(method="HEAD")).body == b""
    assert (await shop.get(method="HEAD")).said == "hit"


# -- ranges ----------------------------------------------------------------------------------------------------------

TEXT = b"0123456789"
TAGGED: Sequence[Header] = (FRESH, (b"etag", b'"1"'))


def in_parts(scope: Scope) -> Say:
    """An application that knows ranges."""
    given = dict(scope["headers"]).get(b"range")
    if given is None:
        return Say(headers=[*TAGGED, (b"content-length", b"10")], chunks=[TEXT])
    first, _, last = given.removeprefix(b"bytes=").partition(b"-")
    if int(first) > 9:
        return Say(status=416, headers=[(b"content-range", b"bytes */10")], chunks=())
    part = TEXT[int(first) : int(last) + 1]
    said = b"bytes %b-%d/10" % (first, int(first) + len(part) - 1)
    return Say(status=206, headers=[*TAGGED, (b"content-range", said)], chunks=[part])


async def test_a_range_of_what_is_not_stored_is_asked_for_as_such_and_stored() -> None:
    shop = Shop(in_parts)
    visit = await shop.get("/", (b"range", b"bytes=2-5"))
    assert (visit.status, visit.body, visit.said) == (206, b"2345", "fwd=uri-miss; stored")
    again = await shop.get("/", (b"range", b"bytes=3-4"))
    assert (again.status, again.body, again.said) == (206, b"34", "hit")
    assert again.header(b"content-range") == b"bytes 3-4/10"
    assert (await shop.get("/", (b"range", b"bytes=0-1"))).said == "fwd=partial; stored; detail=range-not-stored"
    assert shop.calls == 2


async def test_parts_are_combined_until_they_are_the_whole() -> None:
    """RFC 9111 §3.4."""
    shop = Shop(in_parts)
    for given in (b"bytes=0-3", b"bytes=4-6", b"bytes=7-9"):
        assert (await shop.get("/", (b"range", given))).status == 206
    whole = await shop.get()
    assert (whole.status, whole.body, whole.said) == (200, TEXT, "hit")
    assert shop.calls == 3


async def test_a_range_of_what_is_stored_is_cut_from_it() -> None:
    shop = Shop(in_parts)
    await shop.get()
    visit = await shop.get("/", (b"range", b"bytes=-3"))
    assert (visit.status, visit.body, visit.said) == (206, b"789", "hit")
    assert (await shop.get("/", (b"range", b"bytes=50-60"))).status == 416
    several = await shop.get("/", (b"range", b"bytes=0-1,8-9"))
    assert several.status == 206
    assert (several.header(b"content-type") or b"").startswith(b"multipart/byteranges")
    assert shop.calls == 1


async def test_a_416_reaches_its_caller_and_keeps_nobody_else_from_waiting() -> None:
    shop = Shop(in_parts)
    visit = await shop.get("/", (b"range", b"bytes=50-60"))
    assert (visit.status, visit.said) == (416, "fwd=uri-miss; detail=status")
    shop.origin.say = Say(wait=1)
    for later in [shop.ask() for _ in range(3)]:
        await later.done()
    assert shop.calls == 2


async def test_an_application_that_ignores_a_range_is_stored_whole_and_cut() -> None:
    shop = Shop(Say(chunks=[TEXT]))
    visit = await shop.get("/", (b"range", b"bytes=2-5"))
    assert (visit.status, visit.body) == (206, b"2345")
    assert (await shop.get()).body == TEXT
    assert shop.calls == 1


async def test_requests_for_ranges_do_not_wait_for_each_other() -> None:
    shop = Shop(lambda scope: replace(in_parts(scope), wait=1))
    visits = [shop.ask(headers=[(b"range", b"bytes=%d-%d" % (at, at))]) for at in range(5)]
    assert [(await visit.done()).body for visit in visits] == [b"0", b"1", b"2", b"3", b"4"]
    assert {visit.times[-1] for visit in visits} == {1.0}


async def test_a_range_is_cut_from_a_growing_body_whose_length_is_announced() -> None:
    shop = Shop(Say(headers=[FRESH, (b"content-length", b"10")], chunks=[TEXT[:4], TEXT[4:8], TEXT[8:]], pace=1))
    first = shop.ask()
    await turns()
    flight = shop.engine._flights[next(iter(shop.engine._flights))][0]
    visit = shop.ask(headers=[(b"range", b"bytes=3-5")])
    assert flight is not None
    await visit.done()
    assert (visit.status, visit.body) == (206, b"345")
    assert (await first.done()).body == TEXT


async def test_a_part_that_is_not_as_long_as_it_says_is_not_stored() -> None:
    said = (b"content-range", b"bytes 0-5/10")
    shop = Shop(Say(status=206, headers=[*TAGGED, said], chunks=[b"012"]))
    visit = await shop.get("/", (b"range", b"bytes=0-5"))
    assert visit.said == "fwd=uri-miss; detail=length"


# -- validation ------------------------------------------------------------------------------------------------------


def validating(etag: bytes, *, seen: bytes = b"hello") -> Callable[[Scope], Say]:
    headers = [(b"cache-control", b"max-age=1"), (b"etag", etag)]

    def say(scope: Scope) -> Say:
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            return Say(status=304, headers=headers, chunks=())
        return Say(headers=headers, chunks=[seen])

    return say


async def test_a_304_renews_what_is_stored_and_the_client_gets_it_whole() -> None:
    shop = Shop(validating(b'"1"'))
    await shop.get()
    await asyncio.sleep(5)
    visit = await shop.get()
    assert (visit.status, visit.body) == (200, b"hello")
    assert visit.said == "fwd=stale; fwd-status=304; stored; detail=expired"
    assert (await shop.get()).said == "hit"
    assert shop.calls == 2


async def test_a_304_renews_what_is_stored_for_a_client_that_has_it_already() -> None:
    shop = Shop(validating(b'"1"'))
    await shop.get()
    await asyncio.sleep(5)
    visit = await shop.get("/", (b"if-none-match", b'"1"'))
    assert (visit.status, visit.body) == (304, b"")


async def test_the_application_is_never_asked_what_the_client_has() -> None:
    shop = Shop(validating(b'"1"'))
    visit = await shop.get("/", (b"if-none-match", b'"1"'))
    assert visit.status == 304
    assert not [name for name, _ in shop.origin.asked[0]["headers"] if name.startswith(b"if-")]
    assert (await shop.get()).body == b"hello"


async def test_a_304_of_another_representation_is_asked_again_without_conditions() -> None:
    shop = Shop(validating(b'"1"'))
    await shop.get()
    await asyncio.sleep(5)
    shop.origin.say = validating(b'"2"', seen=b"new")
    visits = [shop.ask() for _ in range(3)]
    for visit in visits:
        await visit.done()
    assert {(visit.status, visit.body) for visit in visits} == {(200, b"new")}
    assert shop.calls == 3
    assert (await shop.get()).said == "hit"
    await shop.at_rest()


async def test_a_304_that_nothing_asked_for_is_passed_on() -> None:
    """As without a cache: asking once more would change nothing."""
    shop = Shop(Say(status=304, headers=[(b"etag", b'"1"')], chunks=()))
    visit = await shop.get()
    assert (visit.status, visit.body, visit.said) == (304, b"", "fwd=uri-miss; detail=not-modified")
    assert shop.calls == 1


async def test_a_second_304_is_passed_on() -> None:
    shop = Shop(validating(b'"1"'))
    await shop.get()
    await asyncio.sleep(5)
    shop.origin.say = Say(status=304, headers=[(b"etag", b'"2"')], chunks=())
    assert (await shop.get()).status == 304
    assert shop.calls == 3


@pytest.mark.parametrize("headers", [[FRESH], [FRESH, (b"content-encoding", b"gzip")]])
async def test_a_strong_entity_tag_is_given_where_there_is_none(headers: list[Header]) -> None:
    shop = Shop(Say(headers=headers))
    etag = (await shop.get()).header(b"etag")
    assert etag is not None
    assert etag.startswith(b'"')
    shop.engine.cut_all()
    assert (await shop.get()).header(b"etag") == etag
    assert (await shop.get("/", (b"if-none-match", etag))).status == 304


async def test_the_entity_tag_of_a_streamed_response_is_of_this_fill_alone() -> None:
    shop = Shop(Say(chunks=[b"a", b"b"], pace=1))
    first = await shop.get()
    assert (await shop.get()).header(b"etag") == first.header(b"etag")
    shop.engine.cut_all()
    shop.random = 0.5
    assert (await shop.get()).header(b"etag") != first.header(b"etag")


async def test_the_applications_own_entity_tag_is_left_alone() -> None:
    shop = Shop(Say(headers=[FRESH, (b"etag", b'W/"1"')]))
    assert (await shop.get()).header(b"etag") == b'W/"1"'


# -- Age, Date, Cache-Status -----------------------------------------------------------------------------------------


async def test_age_and_cache_status_of_caches_behind_us_are_counted_and_kept() -> None:
    headers = [FRESH, (b"age", b"7"), (b"cache-status", b"inner; hit"), (b"date", b"Fri, 15 Jan 2027 07:59:53 GMT")]
    shop = Shop(Say(headers=headers))
    miss = await shop.get()
    assert miss.header(b"age") == b"7"
    assert [value for name, value in miss.headers if name == b"cache-status"] == [
        b"inner; hit",
        b"tiercel; fwd=uri-miss; stored",
    ]
    await asyncio.sleep(3)
    hit = await shop.get()
    assert hit.header(b"age") == b"10"
    assert hit.header(b"cache-status") == b"tiercel; hit; ttl=50"
    assert hit.header(b"date") == b"Fri, 15 Jan 2027 07:59:53 GMT"


async def test_a_date_is_never_added() -> None:
    shop = Shop()
    for _ in range(2):
        assert (await shop.get()).header(b"date") is None


async def test_the_time_that_an_application_takes_counts_as_age_in_headers_mode() -> None:
    """RFC 9111 §4.2.3: nobody knows when within that time the response was made."""
    shop = Shop(Say(headers=[(b"cache-control", b"max-age=10")], wait=4))
    assert (await shop.get()).header(b"age") is None
    assert (await shop.get()).header(b"age") == b"4"


# -- not for the cache -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([NO_STORE], "no-store"),
        ([(b"cache-control", b"private")], "private"),
        ([FRESH, (b"set-cookie", b"a=b")], "set-cookie"),
        ([FRESH, (b"vary", b"*")], "vary-any"),
        ([FRESH, (b"content-type", b"text/event-stream")], "event-stream"),
        ([], "no-freshness"),
        ([FRESH, (b"content-length", b"%d" % (2 * MEGABYTE))], "too-large"),
    ],
)
async def test_every_miss_has_its_reason(headers: list[Header], detail: str) -> None:
    content = b"x" * int(dict(headers).get(b"content-length", b"5"))
    shop = Shop(Say(headers=headers, chunks=[content]))
    visit = await shop.get()
    assert visit.said == f"fwd=uri-miss; detail={detail}"
    assert visit.headers[:-1] == headers
    assert visit.body == content
    assert shop.counts == {"fills": 1, "discarded": 1}
    assert [event.reason for event in shop.events if isinstance(event, Discarded)] == [detail]


@pytest.mark.called  # extensions of ASGI that uvicorn does not have
@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        (
            [
                start(FRESH, trailers=True),
                body(b"hello"),
                {"type": "http.response.trailers", "headers": [(b"x", b"1")], "more_trailers": False},
            ],
            "trailers",
        ),
        ([start(FRESH), {"type": "http.response.pathsend", "path": "/tmp/file"}], "asgi:http.response.pathsend"),  # noqa: S108
        ([start(FRESH), {"type": "http.response.zerocopysend", "file": 3}], "asgi:http.response.zerocopysend"),
        ([{"type": "http.response.push", "path": "/x"}, start(FRESH), body(b"hello")], "asgi:http.response.push"),
        ([start(NO_STORE), {"type": "x.unheard-of"}, body(b"hello")], "no-store"),
    ],
)
async def test_messages_that_no_store_can_hold_pass_untouched(messages: list[Message], detail: str) -> None:
    telling = Telling(*messages)
    shop = Shop(telling)
    visits = [shop.ask(extensions={"http.response.pathsend": {}}) for _ in range(3)]
    for visit in visits:
        await visit.done()
        expected = [dict(message) for message in messages]
        for message in expected:
            if message["type"] == "http.response.start":
                said = f"tiercel; fwd=uri-miss; detail={detail}".encode()
                message["headers"] = [*message["headers"], (b"cache-status", said)]
        assert [dict(message) for message in visit.messages] == expected
    assert telling.calls == 3
    await shop.at_rest()


@pytest.mark.called  # extensions of ASGI that uvicorn does not have
@pytest.mark.parametrize("kind", ["http.response.debug", "http.response.early_hint"])
async def test_what_is_said_beside_a_response_reaches_the_caller_and_the_response_is_stored(kind: str) -> None:
    aside: dict[str, Any] = {"type": kind, "info": {}, "links": [b"</style.css>"]}
    shop = Shop(Telling(aside, start(FRESH), body(b"hello"), pause=1))
    visits = [shop.ask(), shop.ask()]
    for visit in visits:
        await visit.done()
    assert dict(visits[0].messages[0]) == aside
    assert visits[0].times[:2] == [0.0, 1.0]
    assert visits[1].messages[0]["type"] == "http.response.start"
    assert (await shop.get()).said == "hit"


async def test_a_foreign_message_in_the_middle_of_a_shared_body_is_an_error_of_the_application() -> None:
    shop = Shop(Telling(start(FRESH), body(b"a", more=True), {"type": "http.response.pathsend", "path": "/x"}))
    visits = [shop.ask(), shop.ask()]
    for visit in visits:
        assert isinstance(await visit.failed(), RuntimeError)
        assert not visit.ended


async def test_server_sent_events_pass_as_they_come_and_the_application_hears_when_the_client_goes() -> None:
    heard: list[float] = []

    class Events:
        calls = 0

        async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
            self.calls += 1
            await send(start((b"content-type", b"text/event-stream")))
            listening = asyncio.create_task(self.listen(receive))
            while not listening.done():
                await send(body(b"data: x\n\n", more=True))
                await asyncio.sleep(1)

        async def listen(self, receive: Any) -> None:
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"
            heard.append(asyncio.get_running_loop().time())

    shop = Shop(Events())
    visits = [shop.ask(), shop.ask()]
    await asyncio.sleep(5.5)
    assert visits[0].times == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    visits[0].hung_up.set()
    await visits[0].done()
    assert heard == [5.5]
    assert not visits[1].task.done()  # type: ignore[union-attr]
    visits[1].hung_up.set()
    await visits[1].done()
    await shop.at_rest()


async def test_an_unstorable_answer_is_sent_at_the_pace_of_its_reader() -> None:
    sent: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(10):
            sent.append(number)
            yield b"x" * 100_000

    shop = Shop(Say(headers=[NO_STORE], chunks=chunks()))
    visit = shop.ask()
    visit.reads.clear()
    await asyncio.sleep(1000)
    assert len(sent) <= 2
    visit.reads.set()
    assert len((await visit.done()).body) == MEGABYTE


@pytest.mark.called  # by cancelling: a server does not end what a client has left
async def test_what_a_caller_that_was_cancelled_would_have_got_alone_is_cancelled_as_without_a_cache() -> None:
    shop = Shop(Say(headers=[NO_STORE], chunks=[b"a"] * 100, pace=1))
    visit = shop.ask()
    await asyncio.sleep(2.5)
    assert visit.task is not None
    visit.task.cancel()
    await turns()
    assert shop.origin.cancelled == 1
    await shop.at_rest()


# -- large bodies ----------------------------------------------------------------------------------------------------


async def test_what_is_announced_as_too_large_releases_the_waiters_at_the_head() -> None:
    shop = Shop(
        Say(headers=[FRESH, (b"content-length", b"%d" % (2 * MEGABYTE))], chunks=[b"x" * MEGABYTE] * 2, pace=10, wait=1)
    )
    visits = [shop.ask() for _ in range(3)]
    for visit in visits:
        await visit.done()
        assert len(visit.body) == 2 * MEGABYTE
    assert [visit.times[0] for visit in visits] == [1.0, 2.0, 2.0]
    assert shop.calls == 3


async def test_what_turns_out_too_large_in_one_piece_goes_to_its_caller_alone() -> None:
    shop = Shop(Say(chunks=[b"x" * 2 * MEGABYTE], wait=1))
    visits = [shop.ask() for _ in range(3)]
    for visit in visits:
        assert len((await visit.done()).body) == 2 * MEGABYTE
        assert visit.said == "fwd=uri-miss; detail=too-large"
    assert shop.calls == 3


async def test_what_turns_out_too_large_while_it_grows_goes_on_for_all_aboard() -> None:
    shop = Shop(Say(chunks=[b"x" * 300_000] * 10, pace=1))
    visits = [shop.ask() for _ in range(3)]
    await asyncio.sleep(2.5)
    visits += [shop.ask() for _ in range(3)]
    for visit in visits:
        assert len((await visit.done()).body) == 3 * MEGABYTE
    assert shop.calls == 1
    assert {visit.times[-1] for visit in visits} == {10.0}
    assert shop.counts == {"fills": 1, "collapsed": 5, "discarded": 1}
    later = await shop.get()
    assert (len(later.body), shop.calls) == (3 * MEGABYTE, 2)
    await shop.at_rest()


async def test_of_a_body_that_is_too_large_no_more_is_kept_than_its_slowest_reader_needs() -> None:
    shop = Shop(Say(chunks=[b"x" * 10_000] * 1000, pace=0))
    visit = shop.ask()
    most = 0
    while visit.task is not None and not visit.task.done():
        await asyncio.sleep(0)
        most = max(most, shop.engine.room.taken)
    assert len(visit.body) == 10 * MEGABYTE
    assert most < 1_200_000
    await shop.at_rest()


async def test_a_stalled_reader_of_a_body_that_is_too_large_is_cut_and_the_others_go_on() -> None:
    shop = Shop(Say(chunks=[b"x" * 300_000] * 10, pace=1))
    well, stalled = shop.ask(), shop.ask()
    await asyncio.sleep(0.5)
    stalled.reads.clear()
    assert len((await well.done()).body) == 3 * MEGABYTE
    assert 30 <= well.times[-1] <= 45
    stalled.reads.set()
    assert isinstance(await stalled.failed(), ConnectionError)
    assert not stalled.ended
    await shop.at_rest()


async def test_a_lone_reader_is_never_cut_however_slow() -> None:
    shop = Shop(Say(chunks=[b"x" * 300_000] * 10, pace=1))
    visit = shop.ask()
    await asyncio.sleep(0.5)
    visit.reads.clear()
    await asyncio.sleep(1000)
    visit.reads.set()
    assert len((await visit.done()).body) == 3 * MEGABYTE


async def test_growing_bodies_together_never_take_more_than_their_share() -> None:
    shop = Shop(Say(chunks=[b"x" * 100_000] * 9, pace=1))
    visits = [shop.ask(f"/{number}") for number in range(10)]
    most = 0
    for _ in range(100):
        await asyncio.sleep(0.1)
        most = max(most, shop.engine.room.taken)
    for visit in visits:
        assert len((await visit.done()).body) == 900_000
    assert most <= shop.engine.room.bound + 10 * 100_048
    assert shop.counts["discarded"] >= 5
    await shop.at_rest()


async def test_many_small_chunks_weigh_what_they_take() -> None:
    shop = Shop(Say(chunks=[b"x"] * 30_000), bound=8_000_000)
    shop.engine.room.bound = 1_000_000
    visit = await shop.get()
    assert len(visit.body) == 30_000
    assert shop.counts["discarded"] == 1


async def test_a_slow_reader_of_a_response_that_is_stored_holds_up_nobody() -> None:
    shop = Shop(Say(chunks=[b"x" * 300_000] * 3, pace=1))
    slow, well = shop.ask(), shop.ask()
    await asyncio.sleep(0.5)
    slow.reads.clear()
    assert (await well.done()).times[-1] == 3.0
    assert shop.engine.room.taken == 0
    assert (await shop.get()).said == "hit"
    slow.reads.set()
    assert len((await slow.done()).body) == 900_000


async def test_what_does_not_fit_a_full_shelf_leaves_it_as_it_is() -> None:
    shop = Shop(lambda scope: Say(headers=[FRESH, (b"vary", b"x")], chunks=[dict(scope["headers"])[b"x"] * 400_000]))
    for name in (b"a", b"b"):
        await shop.get("/", (b"x", name))
    assert (await shop.get("/", (b"x", b"c"))).said == "fwd=vary-miss; detail=too-large"
    for name in (b"a", b"b"):
        assert (await shop.get("/", (b"x", name))).said == "hit"


# -- nobody waits ----------------------------------------------------------------------------------------------------

SWR: Header = (b"cache-control", b"max-age=10, stale-while-revalidate=1000")


@pytest.mark.parametrize(
    "say",
    [
        Say(headers=(), chunks=[b"x"] * 100_000, pace=1),
        Say(headers=(), chunks=iter(lambda: b"x" * 1000, b"")),
        Say(chunks=[b"x" * 10_000] * 100_000, pace=1),
        Say(chunks=iter(lambda: b"x" * 1000, b"")),
        Say(chunks=[b"x"] * 100_000, pace=1),
        Say(wait=1000),
    ],
)
async def test_a_refresh_that_nobody_waits_for_does_not_go_on_for_ever(say: Say) -> None:
    shop = Shop(Say(headers=[SWR]))
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = say
    assert (await shop.get()).body == b"hello"
    await asyncio.sleep(250)
    assert shop.origin.running == 0
    await shop.at_rest()
    assert (await shop.get()).body == b"hello"
    shop.origin.say = Say(chunks=[b"new"])
    await asyncio.sleep(250)
    await shop.get()
    await turns()
    assert (await shop.get()).body == b"new"


async def test_a_refresh_whose_answer_is_not_stored_ends_as_if_its_client_had_gone() -> None:
    heard: list[str] = []

    async def refusing(scope: Scope, receive: Any, send: Send) -> None:
        await send(start(NO_STORE))
        await send(body(b"x", more=True))
        await receive()
        heard.append((await receive())["type"])
        await send(body(b"x"))

    shop = Shop(Say(headers=[SWR]))
    await shop.get()
    await asyncio.sleep(15)
    shop.app.app = refusing
    await shop.get()
    await turns()
    assert heard == ["http.disconnect"]
    await shop.at_rest()


async def test_an_endless_body_that_might_be_stored_ends_when_all_its_readers_have_gone() -> None:
    shop = Shop(Say(chunks=iter(lambda: b"x", b""), pace=1), hard=60)
    visits = [shop.ask(), shop.ask()]
    await asyncio.sleep(10.5)
    for visit in visits:
        assert len(visit.body) == 10
        visit.hung_up.set()
    for visit in visits:
        await visit.done()
        assert not visit.ended
    await asyncio.sleep(30)
    assert shop.origin.running == 1
    late = shop.ask()
    await asyncio.sleep(100)
    assert len(late.body) == 140
    late.hung_up.set()
    await asyncio.sleep(61)
    assert shop.origin.cancelled == 1
    await shop.at_rest()


async def test_what_outgrew_the_cache_hears_when_all_its_readers_have_gone() -> None:
    heard: list[float] = []

    async def growing(scope: Scope, receive: Any, send: Send) -> None:
        async def listen() -> None:
            await receive()
            assert (await receive())["type"] == "http.disconnect"
            heard.append(asyncio.get_running_loop().time())

        listening = asyncio.create_task(listen())
        await send(start(FRESH))
        while not listening.done():
            await asyncio.sleep(1)
            await send(body(b"x" * 300_000, more=True))

    shop = Shop()
    shop.app.app = growing
    visits = [shop.ask(), shop.ask()]
    await asyncio.sleep(20.5)
    for visit in visits:
        visit.hung_up.set()
        await visit.done()
    await asyncio.sleep(2)
    assert heard == [20.5]
    await shop.at_rest()


async def test_the_endless_body_of_an_error_that_a_stale_response_stands_in_for_is_taken_only_for_a_while() -> None:
    shop = Shop(Say(headers=[(b"cache-control", b"max-age=10, stale-if-error=1000")]))
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(status=500, headers=(), chunks=iter(lambda: b"x", b""), pace=1)
    assert (await shop.get()).status == 200
    await asyncio.sleep(31)
    assert shop.origin.cancelled == 1
    await shop.at_rest()


async def test_the_endless_body_of_a_head_is_taken_only_for_a_while() -> None:
    shop = Shop(Say(chunks=iter(lambda: b"x" * 1000, b"")))
    assert (await shop.get(method="HEAD")).body == b""
    await asyncio.sleep(31)
    assert shop.origin.running == 0
    await shop.at_rest()


async def test_after_its_answer_an_application_takes_the_time_it_needs() -> None:
    done: list[float] = []

    async def late(scope: Scope, receive: Any, send: Send) -> None:
        await send(start(FRESH))
        await send(body(b"hello"))
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        await asyncio.sleep(1000)
        done.append(asyncio.get_running_loop().time())

    shop = Shop()
    shop.app.app = late
    assert set((await shop.get()).times) == {0.0}
    await asyncio.sleep(1001)
    assert done == [1000.0]


# -- shutdown, observers ---------------------------------------------------------------------------------------------


async def closes_on_three(wait: Callable[[], Awaitable[None]]) -> None:
    shop = Shop(Say(chunks=[b"a", b"b"], wait=1, pace=1))
    visits = [shop.ask() for _ in range(3)]
    await wait()
    await shop.engine.background.aclose()
    for visit in visits:
        assert isinstance(await visit.failed(), IncompleteError)
    await shop.at_rest()


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
async def test_whoever_waits_for_a_fill_that_ends_with_the_cache_hears_of_it(after: float) -> None:
    async def wait() -> None:
        await turns()
        await asyncio.sleep(after)

    await closes_on_three(wait)


@pytest.mark.called  # so early a server has not asked the application yet
async def test_whoever_has_only_just_come_hears_of_it_too() -> None:
    await closes_on_three(lambda: turns(1))


async def test_observers_hear_what_was_stored() -> None:
    shop = Shop()
    await shop.get()
    stored = [event for event in shop.events if isinstance(event, Stored)]
    assert len(stored) == 1
    assert (stored[0].lifetime, stored[0].tags) == (60.0, ())
    assert stored[0].weight > 700


async def test_a_refresh_that_fails_is_told_once_and_the_stale_response_stays() -> None:
    error = OSError("down")
    shop = Shop(Say(headers=[SWR]))
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(refuses=error)
    with losses() as lost:
        assert (await shop.get()).body == b"hello"
        await turns()
        assert lost == [error]
        assert shop.counts["failed"] == 1
        assert (await shop.get()).body == b"hello"
        await turns()


# -- what an application reads ---------------------------------------------------------------------------------------


async def test_the_application_sees_an_ordinary_call() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        seen.append({**scope, "content": (await receive())["body"]})
        await send(start(FRESH))
        await send(body(b"hello"))

    shop = Shop()
    shop.app.app = app
    await shop.get("/a?b=c", (b"x-one", b"1"), (b"if-match", b'"1"'), client=("1.2.3.4", 5))
    assert seen[0]["path"] == "/a"
    assert seen[0]["query_string"] == b"b=c"
    assert seen[0]["headers"] == [(b"host", b"shop"), (b"x-one", b"1")]
    assert seen[0]["client"] == ("1.2.3.4", 5)
    assert seen[0]["content"] == b""


@pytest.mark.called  # uvicorn gives a copy of it to each request
async def test_the_state_that_an_application_sees_is_that_of_its_caller() -> None:
    shop, state = Shop(), {"shared": 1}
    await shop.get(state=state)
    assert shop.origin.asked[0]["state"] is state
