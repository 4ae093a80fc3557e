"""What happens to a request, in order."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from drive import FRESH, Say, Scope, Shop, Visit, losses, turns

from tiercel._core.entry import Entry, Header
from tiercel._core.events import Answered
from tiercel._core.policy import Policy, Rules

pytestmark = pytest.mark.usefixtures("road")

NO_STORE: Header = (b"cache-control", b"no-store")


def uri(shop: Shop, path: str = "/") -> str:
    """The tag that an unsafe method would cut."""
    shelf: Any = next(iter(shop.engine.tiers.memory.entries()))[1].value
    entry: Entry = shelf.entries[0]
    assert path
    return entry.tags[0]


# -- one call for all ------------------------------------------------------------------------------------------------


async def test_a_hundred_callers_of_a_cold_key_make_one_call() -> None:
    shop = Shop(Say(wait=1))
    visits = [shop.ask() for _ in range(100)]
    for visit in visits:
        await visit.done()
    assert shop.calls == 1
    assert {visit.body for visit in visits} == {b"hello"}
    assert [visit.said for visit in visits] == ["fwd=uri-miss; stored"] + ["fwd=uri-miss; collapsed"] * 99
    assert shop.counts == {"fills": 1, "collapsed": 99, "stored": 1}
    await shop.at_rest()


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5, 2.5])
async def test_a_hundred_callers_of_a_cold_key_make_one_call_also_when_the_first_is_cancelled(after: float) -> None:
    shop = Shop(Say(wait=1, chunks=[b"he", b"llo"], pace=1))
    visits = [shop.ask() for _ in range(100)]
    await asyncio.sleep(after)
    first = visits[0].task
    assert first is not None
    first.cancel()
    for visit in visits[1:]:
        assert (await visit.done()).body == b"hello"
    assert first.cancelled()
    assert shop.calls == 1
    await shop.at_rest()


async def test_a_fill_goes_on_when_everybody_has_left() -> None:
    shop = Shop(Say(wait=1, chunks=[b"he", b"llo"], pace=1))
    visits = [shop.ask() for _ in range(3)]
    await asyncio.sleep(1.5)
    for visit in visits:
        assert visit.task is not None
        visit.task.cancel()
    await asyncio.sleep(5)
    assert (await shop.get()).said == "hit"
    assert shop.calls == 1
    await shop.at_rest()


async def test_a_client_that_comes_while_the_body_grows_gets_all_of_it() -> None:
    shop = Shop(Say(chunks=[b"a", b"b", b"c"], pace=1))
    first = shop.ask()
    await asyncio.sleep(2.5)
    late = await shop.get()
    assert (late.body, late.said) == (b"abc", "fwd=uri-miss; collapsed")
    assert (await first.done()).body == b"abc"
    assert shop.calls == 1


# -- first byte, last byte -------------------------------------------------------------------------------------------


async def test_the_first_byte_goes_out_when_the_application_sends_it() -> None:
    shop = Shop(Say(wait=1, chunks=[b"a", b"b"], pace=2))
    visit = await shop.get()
    assert [
        (one["type"][14:], one.get("body"), time) for one, time in zip(visit.messages, visit.times, strict=True)
    ] == [
        ("start", None, 1.0),
        ("body", b"a", 3.0),
        ("body", b"b", 5.0),
        ("body", b"", 5.0),
    ]


async def test_the_first_byte_goes_out_when_the_application_sends_it_stored_or_not() -> None:
    shop = Shop(Say(headers=(NO_STORE,), wait=1, chunks=[b"a", b"b"], pace=2))
    assert list(dict.fromkeys((await shop.get()).times)) == [1.0, 3.0, 5.0]


async def test_a_client_that_asks_again_before_the_last_byte_is_out_hits() -> None:
    shop = Shop(Say(chunks=[b"a", b"b"], pace=1))
    visit = shop.ask()
    await asyncio.sleep(1.5)
    visit.reads.clear()  # the last byte stays where it is
    await asyncio.sleep(1)
    again = await shop.get()
    assert not visit.ended
    assert (again.said, again.body) == ("hit", b"ab")
    visit.reads.set()
    assert (await visit.done()).body == b"ab"


async def test_a_hit_equals_its_miss_but_for_age_date_and_cache_status() -> None:
    headers = [FRESH, (b"x-one", b"1"), (b"x-one", b"2"), (b"vary", b"accept"), (b"content-type", b"text/plain")]
    shop = Shop(Say(status=203, headers=headers))
    miss, hit = await shop.get(), await shop.get()
    differ = {b"age", b"cache-status"}
    assert hit.status == miss.status == 203
    assert hit.body == miss.body
    assert [line for line in hit.headers if line[0] not in differ] == [
        line for line in miss.headers if line[0] not in differ
    ]
    assert (miss.header(b"age"), hit.header(b"age")) == (None, b"0")


# -- not storable ----------------------------------------------------------------------------------------------------


async def test_an_unstorable_answer_releases_the_waiters_and_all_run_at_once() -> None:
    shop = Shop(Say(headers=(NO_STORE,), wait=1))
    visits = [shop.ask() for _ in range(10)]
    for visit in visits:
        await visit.done()
    assert shop.calls == 10
    assert visits[0].times[-1] == 1.0
    assert {visit.times[-1] for visit in visits[1:]} == {2.0}
    assert {visit.said for visit in visits} == {"fwd=uri-miss; detail=no-store"}
    assert shop.counts == {"fills": 10, "discarded": 10}
    await shop.at_rest()


async def test_after_an_unstorable_answer_nobody_queues_for_a_while() -> None:
    shop = Shop(Say(headers=(NO_STORE,), wait=1))
    await shop.get()
    later = [shop.ask() for _ in range(3)]
    for visit in later:
        await visit.done()
    assert {visit.times[-1] for visit in later} == {2.0}
    await asyncio.sleep(10)
    queued = [shop.ask() for _ in range(3)]
    for visit in queued:
        await visit.done()
    assert [visit.times[-1] for visit in queued] == [13.0, 14.0, 14.0]


async def test_what_becomes_storable_again_is_stored_although_nobody_queues() -> None:
    shop = Shop(Say(headers=(NO_STORE,)))
    await shop.get()
    shop.origin.say = Say()
    assert (await shop.get()).said == "fwd=uri-miss; stored"
    assert (await shop.get()).said == "hit"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"cache-control", b"no-cache"), (b"etag", b'"1"')],
        [(b"cache-control", b"max-age=0"), (b"etag", b'"1"')],
        [FRESH, (b"age", b"60"), (b"etag", b'"1"')],
    ],
)
async def test_what_may_only_be_used_when_validated_is_nothing_to_wait_for(headers: Sequence[Header]) -> None:
    """RFC 9111 §4: a collapsed request may use what it could use from store; else it has to be forwarded."""
    shop = Shop(Say(headers=headers, wait=1))
    visits = [shop.ask() for _ in range(10)]
    for visit in visits:
        await visit.done()
    assert shop.calls == 10
    assert {visit.times[-1] for visit in visits[1:]} == {2.0}
    assert (b"if-none-match", b'"1"') in shop.origin.asked[-1]["headers"]


async def test_answers_to_credentials_do_not_hold_up_those_who_have_none() -> None:
    shop = Shop(Say(wait=1))
    private = shop.ask(headers=[(b"authorization", b"Bearer 1")])
    await turns()
    public = [shop.ask() for _ in range(5)]
    for visit in [private, *public]:
        await visit.done()
    assert private.said == "fwd=uri-miss; detail=authorization"
    assert {visit.times[-1] for visit in public} == {1.0}
    assert shop.calls == 2


async def test_answers_to_credentials_that_may_be_shared_are_made_once() -> None:
    shop = Shop(Say(headers=[(b"cache-control", b"public, max-age=60")], wait=1))
    visits = [shop.ask(headers=[(b"authorization", b"Bearer %d" % number)]) for number in range(5)]
    for visit in visits:
        await visit.done()
    assert shop.calls == 1
    assert (await shop.get()).said == "hit"


# -- variants --------------------------------------------------------------------------------------------------------


def by_language(scope: Scope) -> Say:
    language = dict(scope["headers"]).get(b"accept-language", b"none")
    return Say(headers=[FRESH, (b"vary", b"accept-language")], chunks=[language], wait=1)


async def test_each_variant_is_made_once() -> None:
    shop = Shop(by_language)
    visits = [shop.ask(headers=[(b"accept-language", language)]) for language in (b"de", b"fr", b"de", b"fr", b"de")]
    bodies = [(await visit.done()).body for visit in visits]
    assert bodies == [b"de", b"fr", b"de", b"fr", b"de"]
    assert shop.calls == 2


async def test_those_who_wait_for_different_variants_do_not_wait_for_each_other_one_after_the_other() -> None:
    shop = Shop(by_language)
    visits = [shop.ask(headers=[(b"accept-language", b"l%d" % number)]) for number in range(50)]
    for visit in visits:
        await visit.done()
    assert shop.calls == 50
    assert max(visit.times[-1] for visit in visits) == 2.0


@pytest.mark.called  # once is enough
async def test_ten_thousand_variants_of_one_key_are_answered_and_what_was_stored_stays() -> None:
    shop = Shop(by_language)
    stored = [shop.ask(headers=[(b"accept-language", b"l%d" % number)]) for number in range(64)]
    for visit in stored:
        await visit.done()
    others = [shop.ask(headers=[(b"accept-language", b"x%d" % number)]) for number in range(10_000)]
    for visit in others:
        await visit.done()
    assert {visit.said for visit in others} == {"fwd=vary-miss; detail=variants-full"}
    shop.origin.say = Say(status=500)
    for number in range(64):
        assert (await shop.get("/", (b"accept-language", b"l%d" % number))).said == "hit"
    await shop.at_rest()


# -- invalidation ----------------------------------------------------------------------------------------------------


def numbered(shop: Callable[[], Shop], **more: object) -> Callable[[Scope], Say]:
    return lambda _: Say(chunks=[b"%d" % shop().calls], **more)  # type: ignore[arg-type]


def counting(**more: object) -> Shop:
    """An application that answers with the number of the call."""
    shop = Shop(lambda _: Say(chunks=[b"%d" % shop.calls], **more))  # type: ignore[arg-type]
    return shop


async def invalidate(shop: Shop, path: str = "/") -> None:
    """By an unsafe method on the URI."""
    say, shop.origin.say = shop.origin.say, Say(status=204, headers=(), chunks=())
    await shop.get(path, method="DELETE")
    shop.origin.say = say
    shop.origin.asked.pop()


async def test_an_invalidation_during_a_fill_condemns_what_lands() -> None:
    shop = counting(wait=1)
    first = shop.ask()
    await asyncio.sleep(0.5)
    await invalidate(shop)
    assert (await first.done()).said == "fwd=uri-miss; detail=invalidated"
    assert (await shop.get()).body == b"2"
    assert (await shop.get()).body == b"2"
    assert shop.counts == {"fills": 2, "bypassed": 1, "discarded": 1, "stored": 1, "hits": 1, "invalidations": 2}


async def test_who_asks_after_an_invalidation_does_not_board_the_old_flight() -> None:
    shop = counting(wait=1)
    first = shop.ask()
    await asyncio.sleep(0.5)
    await invalidate(shop)
    second = shop.ask()
    assert ((await first.done()).body, (await second.done()).body) == (b"1", b"2")
    assert (await shop.get()).body == b"2"


async def test_who_asks_after_an_invalidation_does_not_board_the_old_flight_while_its_body_grows() -> None:
    shop = counting(pace=1)
    first = shop.ask()
    await asyncio.sleep(0.5)
    await invalidate(shop)
    second = shop.ask()
    assert ((await first.done()).body, (await second.done()).body) == (b"1", b"2")


async def test_who_asks_after_an_invalidation_that_the_head_makes_known_looks_again() -> None:
    """A group is known only when the head comes: whoever waited for it then has waited in vain."""
    shop = counting(wait=1, headers=[FRESH, (b"cache-groups", b'"shoes"')])
    first = shop.ask()
    await asyncio.sleep(0.5)
    shop.origin.say = Say(status=204, headers=[(b"cache-group-invalidation", b'"shoes"')], chunks=())
    await shop.get("/elsewhere", method="POST")
    shop.origin.say = Say(chunks=[b"new"], wait=1, headers=[FRESH, (b"cache-groups", b'"shoes"')])
    second = shop.ask()
    assert (await first.done()).body == b"1"
    assert (await second.done()).body == b"new"
    assert (await shop.get()).body == b"new"


async def test_an_invalidation_of_something_else_leaves_everybody_aboard() -> None:
    shop = counting(wait=1)
    shop.ask()
    await asyncio.sleep(0.5)
    await invalidate(shop, "/elsewhere")
    assert (await shop.get()).said == "fwd=uri-miss; collapsed"
    assert shop.calls == 1


async def test_a_soft_invalidation_serves_stale_while_one_refresh_runs() -> None:
    shop = counting(wait=1)
    await shop.get()
    shop.engine.cut([uri(shop)], soft=True)
    visits = [shop.ask() for _ in range(10)]
    await turns()
    assert {(visit.body, visit.said) for visit in visits} == {(b"1", "hit")}
    assert visits[0].header(b"cache-status") == b"tiercel; hit; ttl=-1"
    await asyncio.sleep(2)
    assert (await shop.get()).body == b"2"
    assert shop.calls == 2
    assert shop.counts["stale"] == 10
    await shop.at_rest()


async def test_what_lands_after_a_soft_invalidation_is_stale() -> None:
    shop = counting(wait=1)
    await shop.get("/", (b"x", b"1"))
    tag = uri(shop)
    shop.engine.cut_all()
    first = shop.ask()
    await asyncio.sleep(0.5)
    shop.engine.cut([tag], soft=True)
    assert (await first.done()).body == b"2"
    assert (await shop.get()).body == b"2"  # stale, and renewed behind
    await asyncio.sleep(2)
    assert (await shop.get()).body == b"3"


async def test_a_soft_invalidation_does_not_make_stale_what_must_be_revalidated() -> None:
    shop = counting(headers=[(b"cache-control", b"max-age=60, must-revalidate")])
    await shop.get()
    shop.engine.cut([uri(shop)], soft=True)
    assert (await shop.get()).body == b"2"


async def test_a_stale_response_that_was_cut_stands_in_for_nothing() -> None:
    headers = [(b"cache-control", b"max-age=1, stale-if-error=600")]
    shop = counting(headers=headers)
    await shop.get()
    tag = uri(shop)
    await asyncio.sleep(10)
    shop.origin.say = Say(wait=1, refuses=OSError("down"))
    visit = shop.ask()
    await asyncio.sleep(0.5)
    shop.engine.cut([tag])
    assert isinstance(await visit.failed(), OSError)


async def test_a_304_for_what_was_cut_meanwhile_is_asked_again() -> None:
    headers = [(b"cache-control", b"max-age=1"), (b"etag", b'"1"')]
    shop = counting(headers=headers)
    await shop.get()
    tag = uri(shop)
    await asyncio.sleep(10)

    def validating(scope: Scope) -> Say:
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            return Say(status=304, headers=headers, chunks=(), wait=1)
        return Say(headers=[FRESH], chunks=[b"new"], wait=1)

    shop.origin.say = validating
    visit = shop.ask()
    await asyncio.sleep(0.5)
    shop.engine.cut([tag])
    assert (await visit.done()).body == b"new"
    assert (visit.status, visit.said) == (200, "fwd=stale; stored; detail=expired")
    assert (await shop.get()).said == "hit"
    assert shop.calls == 3
    await shop.at_rest()


# -- unsafe methods --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status", "headers", "cut"),
    [
        ("POST", 200, (), {"/"}),
        ("PUT", 204, (), {"/"}),
        ("PATCH", 303, (), {"/"}),
        ("DELETE", 200, (), {"/"}),
        ("POST", 400, (), set[str]()),
        ("POST", 500, (), set[str]()),
        ("POST", 201, [(b"location", b"/a")], {"/", "/a"}),
        ("POST", 201, [(b"location", b"http://shop/a")], {"/", "/a"}),
        ("POST", 201, [(b"location", b"http://elsewhere/a")], {"/"}),
        ("POST", 200, [(b"content-location", b"/b")], {"/", "/b"}),
        ("POST", 404, [(b"content-location", b"/b"), (b"location", b"/a")], set[str]()),
        ("OPTIONS", 200, [(b"location", b"/a")], set[str]()),
        ("TRACE", 200, (), set[str]()),
    ],
)
async def test_unsafe_methods_invalidate_the_uri_location_and_content_location_after_a_non_error(
    method: str, status: int, headers: Sequence[Header], cut: set[str]
) -> None:
    """RFC 9111 §4.4."""
    await _answered(method, status, headers, cut)


@pytest.mark.called  # a server's parser knows the methods that there are
async def test_a_method_that_nobody_knows_is_unsafe() -> None:
    await _answered("BREW", 200, (), {"/"})


async def _answered(method: str, status: int, headers: Sequence[Header], cut: set[str]) -> None:
    shop = Shop()
    for path in ("/", "/a", "/b"):
        await shop.get(path)
    shop.origin.say = Say(status=status, headers=headers, chunks=() if status == 204 else (b"hello",))
    assert (await shop.get("/", method=method)).said == "fwd=method"
    shop.origin.say = Say(status=500, headers=())
    assert {path for path in ("/", "/a", "/b") if (await shop.get(path)).said != "hit"} == cut


async def test_what_was_read_before_a_write_is_committed_is_cut_when_the_application_returns() -> None:
    """The head of a write may be out before its session commits."""
    shop = counting()
    written = asyncio.Event()

    class Writing:
        calls = 0

        async def __call__(self, scope: Scope, receive: object, send: Callable[[object], object]) -> None:
            if scope["method"] == "GET":
                self.calls += 1
                body = b"new" if written.is_set() else b"old"
                await send({"type": "http.response.start", "status": 200, "headers": [FRESH]})  # type: ignore[misc]
                await send({"type": "http.response.body", "body": body})  # type: ignore[misc]
                return
            await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[misc]
            await send({"type": "http.response.body"})  # type: ignore[misc]
            await asyncio.sleep(1)
            written.set()

    shop = Shop(Writing())
    write = shop.ask(method="PUT")
    await asyncio.sleep(0.5)
    assert (await shop.get()).body == b"old"
    await write.done()
    assert (await shop.get()).body == b"new"


# -- stale -----------------------------------------------------------------------------------------------------------


SWR: Header = (b"cache-control", b"max-age=10, stale-while-revalidate=20")
SIE: Header = (b"cache-control", b"max-age=10, stale-if-error=20")


async def test_a_stale_response_is_served_while_one_refresh_runs_behind() -> None:
    shop = counting(headers=[SWR], wait=1)
    await shop.get()
    await asyncio.sleep(15)
    visits = [shop.ask() for _ in range(10)]
    await turns()
    assert {(visit.body, visit.header(b"cache-status")) for visit in visits} == {(b"1", b"tiercel; hit; ttl=-6")}
    await asyncio.sleep(2)
    assert (await shop.get()).body == b"2"
    assert shop.calls == 2
    await asyncio.sleep(100)
    assert (await shop.get()).body == b"3"  # past its window
    await shop.at_rest()


@pytest.mark.parametrize(
    ("say", "stands_in"),
    [
        (Say(status=500, headers=()), True),
        (Say(status=502, headers=()), True),
        (Say(status=503, headers=()), True),
        (Say(status=504, headers=()), True),
        (Say(refuses=OSError("down")), True),
        (Say(wait=61), True),
        (Say(status=401, headers=()), False),
        (Say(status=403, headers=()), False),
        (Say(status=404, headers=()), False),
        (Say(status=410, headers=()), False),
    ],
)
async def test_stale_if_error_on_5xx_exceptions_and_timeouts_never_on_401_403_404(say: Say, stands_in: bool) -> None:  # noqa: FBT001
    """RFC 5861 §4."""
    shop = Shop(Say(headers=[SIE]), hard=3)
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = say
    with losses() as lost:
        visits = [shop.ask() for _ in range(3)]
        for visit in visits:
            await visit.done()
        await turns()
    if stands_in:
        assert {(visit.status, visit.body) for visit in visits} == {(200, b"hello")}
        assert all("detail=stale-if-error" in visit.said for visit in visits)
        assert shop.counts["stale"] == 3
    else:
        assert {visit.status for visit in visits} == {say.status}
    assert lost == ([] if say.refuses is None else [say.refuses])


async def test_what_answered_in_place_of_a_stale_response_is_told() -> None:
    shop = Shop(Say(headers=[SIE]))
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(status=503, headers=())
    assert (await shop.get()).said == "fwd=stale; fwd-status=503; detail=stale-if-error"


async def test_beyond_its_window_a_stale_response_stands_in_for_nothing() -> None:
    shop = Shop(Say(headers=[SIE]))
    await shop.get()
    await asyncio.sleep(31)
    shop.origin.say = Say(status=503, headers=())
    assert (await shop.get()).status == 503


async def test_a_variant_never_stands_in_for_another() -> None:
    shop = Shop(lambda scope: Say(headers=[SIE, (b"vary", b"accept")], chunks=[dict(scope["headers"])[b"accept"]]))
    await shop.get("/", (b"accept", b"a"))
    await asyncio.sleep(15)
    error = OSError("down")
    shop.origin.say = Say(refuses=error, wait=1)
    with losses() as lost:
        one, other = shop.ask(headers=[(b"accept", b"a")]), shop.ask(headers=[(b"accept", b"b")])
        assert (await one.done()).body == b"a"
        assert await other.failed() is error
    assert lost == [error]


async def test_what_is_gone_is_not_served_stale_any_longer() -> None:
    shop = Shop(Say(headers=[SWR]))
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(status=404, headers=())
    assert (await shop.get()).status == 200
    await turns()
    assert (await shop.get()).status == 404


async def test_what_became_private_is_not_served_stale_any_longer() -> None:
    shop = Shop(Say(headers=[SWR]))
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(headers=[(b"cache-control", b"private")], chunks=[b"yours"])
    assert (await shop.get()).body == b"hello"
    await turns()
    assert (await shop.get()).said == "fwd=uri-miss; detail=private"


# -- time limits -----------------------------------------------------------------------------------------------------


async def test_beyond_the_soft_limit_a_stale_response_is_served_and_the_fill_goes_on() -> None:
    shop = Shop(Say(headers=[SIE]), soft=1)
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(wait=3, chunks=[b"new"])
    own, joined = shop.ask(), shop.ask()
    await own.done()
    await joined.done()
    assert (own.body, own.said, own.times[-1]) == (b"hello", "fwd=stale; detail=soft-time-limit", 16.0)
    assert (joined.body, joined.times[-1]) == (b"hello", 16.0)
    assert joined.said == "fwd=stale; collapsed; detail=soft-time-limit"
    await asyncio.sleep(3)
    assert (await shop.get()).body == b"new"
    assert shop.calls == 2
    await shop.at_rest()


async def test_beyond_the_soft_limit_there_is_a_wait_where_nothing_stale_may_be_served() -> None:
    shop = Shop(Say(headers=[SIE]), soft=1)
    await shop.get()
    await asyncio.sleep(100)
    shop.origin.say = Say(wait=3, chunks=[b"new"])
    assert (await shop.get()).body == b"new"


async def test_what_a_slow_application_says_too_late_and_not_for_all_is_said_to_nobody() -> None:
    shop = Shop(Say(headers=[SIE]), soft=1)
    await shop.get()
    await asyncio.sleep(15)
    shop.origin.say = Say(wait=3, headers=[NO_STORE], chunks=[b"a", b"b"], pace=1)
    visit = await shop.get()
    messages = list(visit.messages)
    await asyncio.sleep(10)
    assert visit.messages == messages
    await shop.at_rest()


async def test_beyond_the_hard_limit_everybody_gets_504_and_the_application_is_cancelled() -> None:
    shop = Shop(Say(wait=1000), hard=10)
    visits = [shop.ask(), shop.ask(), shop.ask(method="HEAD")]
    for visit in visits:
        await visit.done()
    assert {(visit.status, visit.times[-1]) for visit in visits} == {(504, 10.0)}
    assert [visit.body for visit in visits] == [b"Gateway Timeout", b"Gateway Timeout", b""]
    assert visits[0].said == "fwd=uri-miss; detail=time-limit"
    assert shop.origin.cancelled == 1
    assert shop.counts == {"fills": 1, "failed": 1}
    await shop.at_rest()


async def test_the_hard_limit_is_about_the_head() -> None:
    shop = Shop(Say(chunks=[b"a"] * 20, pace=1), hard=10)
    assert (await shop.get()).body == b"a" * 20


async def test_without_limits_there_is_no_hurry() -> None:
    shop = Shop(Say(wait=10_000), hard=None)
    assert (await shop.get()).body == b"hello"


async def test_a_head_is_answered_stale_and_renews_nothing() -> None:
    shop = Shop(Say(headers=[(b"cache-control", b"max-age=10, stale-while-revalidate=30")]))
    await shop.get()
    await asyncio.sleep(15)
    assert (await shop.get(method="HEAD")).said == "hit"
    assert shop.calls == 1, "the answer to a HEAD would be no newer GET"
    assert (await shop.get()).said == "hit"
    await turns()
    assert shop.calls == 2
    assert [scope["method"] for scope in shop.origin.asked] == ["GET", "GET"]
    await shop.at_rest()


async def test_a_range_is_answered_stale_and_renews_nothing() -> None:
    shop = Shop(Say(headers=[(b"cache-control", b"max-age=10, stale-while-revalidate=30")]))
    await shop.get()
    await asyncio.sleep(15)
    assert (await shop.get("/", (b"range", b"bytes=0-1"))).body == b"he"
    assert shop.calls == 1, "a part would be no newer whole"
    assert (await shop.get()).body == b"hello"
    await turns()
    assert shop.calls == 2
    await shop.at_rest()


# -- refusals, requests ----------------------------------------------------------------------------------------------


async def test_who_wants_no_work_done_gets_504() -> None:
    shop = Shop(rules=Rules(obey_requests=True))
    visit = await shop.get("/", (b"cache-control", b"only-if-cached"))
    assert (visit.status, visit.said, shop.calls) == (504, "detail=only-if-cached", 0)
    await shop.get()
    assert (await shop.get("/", (b"cache-control", b"only-if-cached"))).said == "hit"


async def test_who_wants_a_new_answer_does_not_wait_for_somebody_elses() -> None:
    shop = counting(wait=1)
    shop.engine.stamps.cut(["a"])
    shop = Shop(Say(wait=1), rules=Rules(obey_requests=True))
    await shop.get()
    visits = [shop.ask(headers=[(b"cache-control", b"no-cache")]) for _ in range(3)]
    for visit in visits:
        await visit.done()
    assert shop.calls == 4
    assert {visit.times[-1] for visit in visits} == {2.0}


async def test_by_default_a_request_cannot_make_work() -> None:
    shop = Shop()
    await shop.get()
    for value in (b"no-cache", b"no-store", b"max-age=0", b"min-fresh=1000"):
        assert (await shop.get("/", (b"cache-control", value))).said == "hit"
    assert (await shop.get("/", (b"pragma", b"no-cache"))).said == "hit"


@pytest.mark.parametrize("headers", [[(b"content-length", b"5")], [(b"transfer-encoding", b"chunked")]])
async def test_a_get_with_content_is_not_for_the_cache(headers: Sequence[Header]) -> None:
    shop = Shop()
    await shop.get()
    visit = await shop.get("/", *headers, content=b"hello")
    assert (visit.said, shop.calls) == ("fwd=bypass; detail=request-content", 2)
    assert shop.counts["bypassed"] == 1


async def test_early_refresh_runs_behind_a_fresh_hit() -> None:
    shop = counting(wait=5)
    await shop.get()
    await asyncio.sleep(50)
    shop.random = 1 - 1e-9  # draws the smallest number: early
    assert (await shop.get()).body == b"1"
    assert (await shop.get()).body == b"1"
    shop.random = 0.0
    await asyncio.sleep(6)
    assert (await shop.get()).body == b"2"
    assert shop.calls == 2


# -- errors ----------------------------------------------------------------------------------------------------------


async def test_an_exception_before_the_head_reaches_everyone_and_the_application_is_not_asked_again() -> None:
    error = RuntimeError("broken")
    shop = Shop(Say(wait=1, refuses=error))
    visits = [shop.ask() for _ in range(10)]
    assert [await visit.failed() for visit in visits] == [error] * 10
    assert shop.calls == 1
    assert shop.counts == {"fills": 1, "failed": 1, "collapsed": 9}
    await shop.at_rest()


async def test_an_exception_does_not_grow_with_those_who_get_it() -> None:
    shop = Shop(Say(wait=1, refuses=RuntimeError("broken")))
    depths: list[int] = []
    for visit in [shop.ask() for _ in range(10)]:
        traceback, depth = (await visit.failed()).__traceback__, 0
        while traceback is not None:
            traceback, depth = traceback.tb_next, depth + 1
        depths.append(depth)
    assert max(depths) == min(depths)


async def test_a_broken_fill_is_never_stored_and_never_ends_cleanly_for_anyone() -> None:
    error = RuntimeError("broken")
    shop = Shop(Say(chunks=[b"a", b"b"], pace=1, fails=error))
    early = [shop.ask() for _ in range(3)]
    await asyncio.sleep(1.5)
    late = [shop.ask() for _ in range(3)]
    for visit in early + late:
        assert await visit.failed() is error
        assert not visit.ended
    shop.origin.say = Say(chunks=[b"whole"])
    assert (await shop.get()).body == b"whole"
    assert shop.counts == {"fills": 2, "collapsed": 5, "failed": 1, "stored": 1}
    await shop.at_rest()


@pytest.mark.parametrize("chunks", [[b"abc"], [b"a", b"bc"], [b"abcdef"], [b"abc", b"def"]])
@pytest.mark.parametrize("pace", [None, 1.0])
async def test_a_body_that_is_not_as_long_as_announced_is_never_stored(
    chunks: list[bytes], pace: float | None, road: str
) -> None:
    shop = Shop(Say(headers=[FRESH, (b"content-length", b"5")], chunks=chunks, pace=pace))
    visits: list[Visit] = []
    for _ in range(2):
        visit = shop.ask()
        assert visit.task is not None
        await asyncio.gather(visit.task, return_exceptions=True)
        visits.append(visit)
    assert shop.calls == 2
    assert shop.counts["discarded"] >= 2
    # What is passed on as it is ends as it ends without a cache, which a server refuses; what others read, too, breaks
    # off.
    passed_on = chunks[-1] in (b"abc", b"abcdef") and pace is None
    assert {visit.ended for visit in visits} == {passed_on and road == "called"}


@pytest.mark.parametrize("chunks", [None, [b"a"]])
async def test_an_application_that_returns_without_a_complete_answer_has_failed(chunks: list[bytes] | None) -> None:
    class Lazy:
        calls = 0

        async def __call__(self, scope: Scope, receive: object, send: Callable[[object], object]) -> None:
            self.calls += 1
            if chunks is not None:
                await send({"type": "http.response.start", "status": 200, "headers": [FRESH]})  # type: ignore[misc]
                for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})  # type: ignore[misc]

    shop = Shop(Lazy())
    visits = [shop.ask() for _ in range(3)]
    for visit in visits:
        assert isinstance(await visit.failed(), ConnectionError)
        assert not visit.ended
    assert shop.calls == 1
    assert shop.counts["failed"] == 1
    await shop.at_rest()


async def test_what_an_application_raises_after_its_answer_is_reported() -> None:
    error = RuntimeError("in a background task")

    class Late:
        calls = 0

        async def __call__(self, scope: Scope, receive: object, send: Callable[[object], object]) -> None:
            self.calls += 1
            await send({"type": "http.response.start", "status": 200, "headers": [FRESH]})  # type: ignore[misc]
            await send({"type": "http.response.body", "body": b"hello"})  # type: ignore[misc]
            raise error

    shop = Shop(Late())
    with losses() as lost:
        assert (await shop.get()).body == b"hello"
        await turns()
    assert lost == [error]
    assert (await shop.get()).said == "hit"


# -- what observers hear ---------------------------------------------------------------------------------------------


async def test_observers_hear_how_each_request_was_answered_and_how_long_it_took() -> None:
    shop = Shop(Say(wait=1))
    visits = [shop.ask(), shop.ask()]
    for visit in visits:
        await visit.done()
    await shop.get()
    await shop.get("/", (b"range", b"bytes=0-1"))
    await shop.get("/", (b"content-length", b"1"), content=b"x")
    heard = [(event.result, event.detail, event.seconds) for event in shop.events if isinstance(event, Answered)]
    assert heard == [
        ("miss", "", 1.0),
        ("collapsed", "", 1.0),
        ("hit", "", 0.0),
        ("hit", "", 0.0),
        ("bypass", "request-content", 0.0),
    ]


async def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    shop.engine.observers = (object(),)  # type: ignore[assignment]
    assert (await shop.get()).body == b"hello"
    assert (await shop.get()).said == "hit"
    assert "when it was told of" in caplog.text


async def test_a_policy_gives_a_lifetime_to_what_says_nothing() -> None:
    shop = Shop(Say(headers=()), policy=Policy(ttl=10))
    await shop.get()
    assert (await shop.get()).said == "hit"
    await asyncio.sleep(11)
    assert (await shop.get()).said == "fwd=stale; stored; detail=expired"
