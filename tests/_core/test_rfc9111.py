"""How requests are answered, and what becomes of answers that fail or end early: RFC 9111 §4, §5.2.1, RFC 5861."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core import keys, present, rfc9111
from tiercel._core.entry import Entry, Head, Header, Partial, Request
from tiercel._core.freshness import retain_until
from tiercel._core.policy import Policy, Rules
from tiercel._core.rfc9111 import (
    LEAST_DRAW,
    PLAIN_STOPS,
    Asked,
    Bypass,
    Discard,
    Fill,
    Refuse,
    Serve,
    ServeStale,
    UseStale,
    forwarded,
    on_body,
    on_failure,
    on_head,
    on_request,
    plain_until,
    served_until,
)
from tiercel._core.status import CacheStatus

NOW = 1_800_000_000.0
QUIET = Rules()
OBEDIENT = Rules(obey_requests=True)
Decision = Serve | ServeStale | Bypass | Refuse | Fill


def stored(**changes: object) -> Entry:
    """Fresh from NOW - 10 to NOW + 50."""
    entry = Entry(
        method="GET",
        status=200,
        headers=[(b"etag", b'"v"'), (b"last-modified", b"Tue, 15 Nov 1994 12:45:26 GMT")],
        body=b"hello",
        born=0,
        asked_at=NOW - 10,
        answered_at=NOW - 10,
        lifetime=60.0,
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


def asking(*headers: Header, method: str = "GET", content: bytes = b"") -> Request:
    return Request(method, "http", b"shop.example", b"/", headers, content)


def wishing(*directives: bytes) -> Request:
    return asking((b"cache-control", b", ".join(directives)))


def part(first: int, last: int) -> Entry:
    return stored(status=206, partial=Partial(first=first, last=last, complete=100), body=b"x" * (last - first + 1))


FRESH = stored()
ENDING = stored(lifetime=10.0)  # fresh until NOW, which is when it becomes stale
STALE = stored(lifetime=5.0)
SWR = stored(lifetime=5.0, stale_while_revalidate=30.0)
NO_CACHE = stored(must_validate=True, must_revalidate=True)
MUST = stored(lifetime=5.0, stale_while_revalidate=30.0, must_revalidate=True)
MUST_FRESH = stored(must_revalidate=True)
VARIED = stored(selecting=keys.selecting([b"x-a"], [(b"x-a", b"1")]))
HEAD_ONLY = stored(method="HEAD", body=b"")

CASES = [
    # Methods: RFC 9110 §9.2.3, RFC 10008 §2.7
    *[
        pytest.param(asking(method=method), FRESH, Bypass("method", "method"), id=f"9110-9.2.3-{method or 'empty'}")
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", "")
    ],
    pytest.param(asking(method="HEAD"), FRESH, Serve(FRESH, refresh=False), id="9111-4-head-from-get"),
    pytest.param(
        asking(method="QUERY", content=b"{}"),
        stored(method="QUERY"),
        Serve(stored(method="QUERY"), refresh=False),
        id="10008-2.7-query",
    ),
    pytest.param(
        asking((b"content-length", b"2"), method="QUERY", content=b"{}"),
        None,
        Fill("uri-miss", None),
        id="10008-2.7-miss",
    ),
    # Content: RFC 9110 §9.3.1
    pytest.param(asking((b"content-length", b"5")), FRESH, Bypass("request-content"), id="9110-9.3.1-content"),
    pytest.param(asking((b"content-length", b"x")), FRESH, Bypass("request-content"), id="9110-8.6-unreadable-length"),
    pytest.param(
        asking((b"transfer-encoding", b"chunked")), FRESH, Bypass("request-content"), id="9110-9.3.1-chunked-content"
    ),
    pytest.param(
        asking((b"content-length", b"0")), FRESH, Serve(FRESH, refresh=False), id="9110-9.3.1-content-of-no-length"
    ),
    # Selection: RFC 9111 §4.1
    pytest.param(asking(), None, Fill("uri-miss", None), id="4.1-nothing"),
    pytest.param(asking((b"x-a", b"1")), VARIED, Serve(VARIED, refresh=False), id="4.1-match"),
    pytest.param(asking((b"x-a", b"2")), VARIED, Fill("vary-miss", None), id="4.1-no-match"),
    pytest.param(asking(), VARIED, Fill("vary-miss", None), id="4.1-absent"),
    pytest.param(asking(), HEAD_ONLY, Fill("miss", None, "head-only"), id="4-head-is-no-get"),
    # Freshness: RFC 9111 §4.2
    pytest.param(asking(), FRESH, Serve(FRESH, refresh=False), id="4.2-fresh"),
    pytest.param(asking(), ENDING, Fill("stale", ENDING, "expired"), id="4.2-its-lifetime-is-over"),
    pytest.param(asking(), STALE, Fill("stale", STALE, "expired"), id="4.2-stale"),
    pytest.param(
        asking(),
        stored(initial_age=60.0),
        Fill("stale", stored(initial_age=60.0), "expired"),
        id="4.2.3-old-on-arrival",
    ),
    # Serving stale: RFC 9111 §4.2.4, RFC 5861 §3
    pytest.param(asking(), SWR, ServeStale(SWR), id="5861-3-within-the-window"),
    pytest.param(
        asking(),
        stored(lifetime=5.0, stale_while_revalidate=5.0),
        Fill("stale", stored(lifetime=5.0, stale_while_revalidate=5.0), "expired"),
        id="5861-3-past-the-window",
    ),
    pytest.param(asking(), MUST, Fill("stale", MUST, "must-revalidate"), id="5.2.2.2-must-revalidate-stale"),
    pytest.param(asking(), MUST_FRESH, Serve(MUST_FRESH, refresh=False), id="5.2.2.2-must-revalidate-fresh"),
    pytest.param(asking(), NO_CACHE, Fill("stale", NO_CACHE, "no-cache"), id="5.2.2.4-no-cache"),
    # Parts: RFC 9111 §3.3
    pytest.param(
        asking((b"range", b"bytes=10-14")), part(10, 19), Serve(part(10, 19), refresh=False), id="3.3-within-the-part"
    ),
    pytest.param(
        asking((b"range", b"bytes=10-20")), part(10, 19), Fill("partial", None, "range-not-stored"), id="3.3-beyond-it"
    ),
    pytest.param(asking(), part(10, 19), Fill("partial", None, "range-not-stored"), id="3.3-all-was-asked-for"),
    pytest.param(asking((b"range", b"bytes=0-1")), FRESH, Serve(FRESH, refresh=False), id="14.2-range-of-a-200"),
]


@pytest.mark.parametrize(("request_", "entry", "expected"), CASES)
def test_9111_4_answers(request_: Request, entry: Entry | None, expected: Decision) -> None:
    found = on_request(request_, () if entry is None else (entry,), NOW, QUIET)
    assert (type(found), found) == (type(expected), expected)


OLDISH = stored(lifetime=40.0)  # 10 seconds old, fresh for 30 more
WINDOWED = stored(lifetime=5.0, stale_while_revalidate=30.0)

WISHES = [
    pytest.param(wishing(b"max-age=10"), OLDISH, Serve, "", id="5.2.1.1-young-enough"),
    pytest.param(wishing(b"max-age=9"), OLDISH, Fill, "request-max-age", id="5.2.1.1-too-old"),
    pytest.param(wishing(b"max-age=0"), OLDISH, Fill, "request-max-age", id="5.2.1.1-nothing-is-new-enough"),
    pytest.param(wishing(b"max-age=x"), OLDISH, Fill, "request-max-age", id="5.2.1.1-unreadable"),
    pytest.param(wishing(b"max-age=99"), WINDOWED, Fill, "request-max-age", id="5.2.1.1-nothing-stale"),
    pytest.param(wishing(b"max-age=99", b"max-stale=9"), WINDOWED, ServeStale, "", id="5.2.1.1-but-max-stale"),
    pytest.param(wishing(b"max-stale=6"), STALE, ServeStale, "", id="5.2.1.2-not-that-stale"),
    pytest.param(wishing(b"max-stale=5"), STALE, Fill, "expired", id="5.2.1.2-staler"),
    pytest.param(wishing(b"max-stale"), STALE, ServeStale, "", id="5.2.1.2-however-stale"),
    pytest.param(wishing(b"max-stale"), MUST, Fill, "must-revalidate", id="5.2.2.2-not-against-the-response"),
    pytest.param(wishing(b"min-fresh=30"), OLDISH, Serve, "", id="5.2.1.3-fresh-that-long"),
    pytest.param(wishing(b"min-fresh=31"), OLDISH, Fill, "request-min-fresh", id="5.2.1.3-not-that-long"),
    pytest.param(wishing(b"min-fresh=1"), WINDOWED, Fill, "request-min-fresh", id="5.2.1.3-nothing-stale"),
    pytest.param(wishing(b"no-cache"), FRESH, Fill, "request-no-cache", id="5.2.1.4-no-cache"),
    pytest.param(wishing(b"no-store"), FRESH, Serve, "", id="5.2.1.5-what-is-stored-already"),
    pytest.param(wishing(b"no-transform"), FRESH, Serve, "", id="5.2.1.6-no-transform"),
    pytest.param(wishing(b"only-if-cached"), FRESH, Serve, "", id="5.2.1.7-there-is-one"),
    pytest.param(wishing(b"only-if-cached"), STALE, Refuse, "", id="5.2.1.7-none-that-may-be-used"),
    pytest.param(wishing(b"only-if-cached"), WINDOWED, ServeStale, "", id="5.2.1.7-stale-but-usable"),
    pytest.param(wishing(b"only-if-cached", b"no-cache"), FRESH, Refuse, "", id="5.2.1.7-none-that-is-wanted"),
    pytest.param(wishing(b"only-if-cached"), None, Refuse, "", id="5.2.1.7-none"),
    pytest.param(asking((b"pragma", b"No-Cache")), FRESH, Fill, "request-no-cache", id="5.4-pragma"),
    pytest.param(asking((b"pragma", b"x")), FRESH, Serve, "", id="5.4-another-pragma"),
    pytest.param(
        asking((b"pragma", b"no-cache"), (b"cache-control", b"max-age=99")),
        FRESH,
        Serve,
        "",
        id="5.4-cache-control-first",
    ),
]


@pytest.mark.parametrize(("request_", "entry", "kind", "detail"), WISHES)
def test_9111_5_2_1_wishes_are_met_where_requests_are_obeyed(
    request_: Request, entry: Entry | None, kind: type[Decision], detail: str
) -> None:
    found = on_request(request_, () if entry is None else (entry,), NOW, OBEDIENT)
    assert isinstance(found, kind)
    assert (found.detail if isinstance(found, Fill) else "") == detail


@pytest.mark.parametrize(("request_", "entry", "kind", "detail"), WISHES)
def test_by_default_a_request_cannot_force_work(
    request_: Request, entry: Entry | None, kind: type[Decision], detail: str
) -> None:
    held = () if entry is None else (entry,)
    assert on_request(request_, held, NOW, QUIET) == on_request(asking(), held, NOW, QUIET)


def test_9211_2_2_a_wish_that_a_fresh_response_does_not_meet_is_a_request_miss() -> None:
    assert on_request(wishing(b"no-cache"), (FRESH,), NOW, OBEDIENT) == Fill("request", FRESH, "request-no-cache")
    assert on_request(wishing(b"no-cache"), (STALE,), NOW, OBEDIENT) == Fill("stale", STALE, "request-no-cache")


def test_cut_softly_it_is_served_as_stale_while_it_would_have_been_fresh() -> None:
    assert on_request(asking(), (FRESH,), NOW, QUIET, soft=True) == ServeStale(FRESH)
    assert on_request(asking(), (MUST_FRESH,), NOW, QUIET, soft=True) == Fill("stale", MUST_FRESH, "must-revalidate")
    assert on_request(asking(), (STALE,), NOW, QUIET, soft=True) == Fill("stale", STALE, "expired")


COSTLY = stored(cost=2.0)  # fresh until NOW + 50


@pytest.mark.parametrize(
    ("now", "draw", "early"),
    [
        pytest.param(NOW, 1.0, False, id="never-at-1"),
        pytest.param(NOW + 49, 1.0, False, id="never-at-1-however-late"),
        pytest.param(NOW + 49, 0.5, True, id="late"),
        pytest.param(NOW + 40, 0.5, False, id="not-yet"),
        pytest.param(NOW, 1e-11, True, id="a-rare-draw"),
        pytest.param(NOW - 25, 1e-300, False, id="no-draw-is-rarer-than-random"),
        pytest.param(NOW + 49, 0.0, True, id="no-draw-at-all"),
    ],
)
def test_xfetch_refreshes_early_by_cost_and_chance(now: float, draw: float, *, early: bool) -> None:
    assert on_request(asking(), (COSTLY,), now, QUIET, draw=draw) == Serve(COSTLY, refresh=early)


# -- properties --------------------------------------------------------------------------------------------------------

seconds = st.floats(0, 200)
entries = st.builds(
    stored,
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    answered_at=st.floats(NOW - 100, NOW + 100),
    initial_age=st.floats(0, 50),
    lifetime=seconds,
    stale_while_revalidate=seconds,
    stale_if_error=seconds,
    must_revalidate=st.booleans(),
    must_validate=st.booleans(),
    cost=st.floats(0, 3),
    partial=st.sampled_from([None, None, None, Partial(first=10, last=19, complete=100)]),
    selecting=st.sampled_from([(), (), keys.selecting([b"x-a"], [(b"x-a", b"1")])]),
)
moments = st.floats(NOW - 150, NOW + 500)
draws = st.floats(0, 1)
plain_fields = st.lists(st.tuples(st.sampled_from([b"accept", b"x-a", b"host"]), st.binary(max_size=8)), max_size=4)
fields = st.lists(
    st.tuples(
        st.sampled_from([*sorted(PLAIN_STOPS), b"x-a", b"accept-encoding", b"vary", b"connection"]),
        st.binary(max_size=20) | st.sampled_from([b"no-cache", b"max-age=5", b"max-stale", b"bytes=10-12", b"0"]),
    ),
    max_size=6,
)
requests = st.builds(
    Request,
    method=st.sampled_from(["GET", "HEAD", "QUERY", "POST"]),
    scheme=st.just("http"),
    authority=st.binary(max_size=8),
    target=st.binary(max_size=8),
    headers=fields,
)
rules = st.sampled_from([QUIET, OBEDIENT])


@given(entries, plain_fields, moments, draws, st.sampled_from(["GET", "HEAD"]), rules)
def test_until_plain_until_a_plain_request_is_served(  # noqa: PLR0913, PLR0917 - what a decision depends on
    entry: Entry, headers: list[Header], now: float, draw: float, method: str, rules_: Rules
) -> None:
    if now < plain_until(entry):
        request = asking(*headers, method=method)
        assert on_request(request, (entry,), now, rules_, draw=draw) == Serve(entry, refresh=False)
        # ... and not because the same shortcut is taken there: with a second variant it is not.
        other = replace(VARIED, selecting=((b"x-b", b"no digest"),))
        assert on_request(request, (entry, other), now, rules_, draw=draw) == Serve(entry, refresh=False)


@given(st.lists(entries, max_size=3), requests, moments, moments, draws)
def test_until_served_until_the_same_request_is_served_with_the_same(
    stored_: list[Entry], request: Request, now: float, later: float, draw: float
) -> None:
    decision = on_request(request, stored_, now, QUIET, draw=draw)
    if isinstance(decision, Serve) and not decision.refresh and now <= later < served_until(decision.entry):
        assert on_request(request, stored_, later, QUIET, draw=LEAST_DRAW) == decision


def test_plain_until_is_as_late_as_it_can_be() -> None:
    assert plain_until(FRESH) == FRESH.fresh_until
    assert plain_until(COSTLY) == 0.0  # too costly for its lifetime: a refresh may be due from the start
    entry = stored(cost=1.0)
    assert on_request(asking(), (entry,), plain_until(entry) + 0.001, QUIET, draw=LEAST_DRAW) == Serve(
        entry, refresh=True
    )


def rank(decision: Decision) -> int:
    match decision:
        case Serve(refresh=False):
            return 0
        case Serve():
            return 1
        case ServeStale():
            return 2
        case Fill() | Refuse():
            return 3
        case Bypass():
            return 4


@given(st.lists(entries, max_size=3), requests, moments, st.floats(0, 300), draws, rules)
def test_time_passing_never_makes_a_decision_fresher(  # noqa: PLR0913, PLR0917 - what a decision depends on
    held: list[Entry], request: Request, now: float, later: float, draw: float, rules_: Rules
) -> None:
    sooner = on_request(request, held, now, rules_, draw=draw)
    assert rank(sooner) <= rank(on_request(request, held, now + later, rules_, draw=draw))


@given(st.lists(entries, max_size=4), requests, moments, rules, st.booleans())
def test_whatever_is_served_matches_and_may_be_served(
    held: list[Entry],
    request: Request,
    now: float,
    rules_: Rules,
    soft: bool,  # noqa: FBT001 - given by position
) -> None:
    found = on_request(request, held, now, rules_, soft=soft)
    if isinstance(found, Serve | ServeStale):
        assert found.entry in held
        assert keys.matches(found.entry, request.headers)
        assert found.entry.method == request.method or (found.entry.method, request.method) == ("GET", "HEAD")
        assert not found.entry.must_validate
    if isinstance(found, ServeStale):
        assert not found.entry.must_revalidate
        assert rules_.obey_requests or now < found.entry.fresh_until + found.entry.stale_while_revalidate
    if isinstance(found, Fill):
        assert found.fwd in get_args(rfc9111.Forward)
        assert found.detail in get_args(rfc9111.MissDetail)
    if isinstance(found, Bypass):
        assert found.reason in get_args(rfc9111.BypassReason)


@given(entries, requests, moments)
def test_retention_covers_every_moment_at_which_a_response_is_usable(
    entry: Entry, request: Request, now: float
) -> None:
    asked = failed(entry)
    used = isinstance(on_request(request, (entry,), now, QUIET), Serve | ServeStale) or on_failure(asked, now)
    assert not used or now < retain_until(entry)


response_fields = st.lists(
    st.tuples(
        st.sampled_from(
            b"cache-control expires date age vary etag last-modified set-cookie content-length content-range "
            b"content-type connection cache-groups location content-location cache-group-invalidation "
            b"cdn-cache-control".split()
        ),
        st.binary(max_size=20)
        | st.sampled_from([b"max-age=60", b"no-cache", b"public", b'"v"', b"bytes 10-19/100", b"//[", b"http://[::1"]),
    ),
    max_size=8,
)
askeds = st.builds(
    Asked,
    request=requests,
    entry=st.none() | entries,
    born=st.just(7),
    asked_at=st.just(NOW - 1),
    policy=st.sampled_from([Policy(), Policy(ttl=60, vary="x-a", stale_if_error=30)]),
    rules=st.sampled_from([QUIET, OBEDIENT, Rules(targets=("cdn-cache-control",), heuristic=True)]),
    declared=st.booleans(),
    guarded=st.booleans(),
    observed=st.sampled_from([frozenset({b"x-a", b"range"}), frozenset({b"cookie"})]),
)


@given(askeds, st.integers(100, 599), response_fields, st.binary(max_size=30), moments)
def test_whatever_an_application_sends_gets_a_decision(
    asked: Asked, status: int, headers: list[Header], body: bytes, now: float
) -> None:
    head = Head(status=status, headers=headers)
    rfc9111.on_unsafe(asked.request, head, lambda _: True)
    match on_head(asked, head, now):
        case rfc9111.Store(entry=entry):
            assert entry.body == b""
            assert b"set-cookie" not in dict(entry.headers)
            assert not {name for name, _ in entry.selecting} & keys.NEVER_SELECTING
            assert keys.matches(entry, asked.request.headers)
            whole = on_body(entry, body)
            if isinstance(whole, Entry):
                present.reply(whole, asked.request, now, CacheStatus())
                keys.admit((), whole, now, 1)
                rfc9111.combine((whole,), whole)
        case rfc9111.Freshen(entry=entry):
            assert asked.entry is not None
            assert entry.body == asked.entry.body
            assert entry.born == asked.born
        case UseStale(entry=entry):
            assert entry is asked.entry
            assert status in {500, 502, 503, 504}
        case Discard(reason=reason):
            assert reason in get_args(rfc9111.DiscardReason)


# -- what the application is asked -------------------------------------------------------------------------------------

CLIENTS = (
    (b"accept", b"a/b"),
    (b"if-none-match", b'"client"'),
    (b"if-modified-since", b"Tue, 15 Nov 1994 12:45:26 GMT"),
    (b"if-match", b'"client"'),
    (b"if-unmodified-since", b"Tue, 15 Nov 1994 12:45:26 GMT"),
    (b"range", b"bytes=0-9"),
    (b"if-range", b'"client"'),
)
OURS = [(b"if-none-match", b'"v"'), (b"if-modified-since", b"Tue, 15 Nov 1994 12:45:26 GMT")]
ACCEPT = [(b"accept", b"a/b")]


@pytest.mark.parametrize(
    ("entry", "keep_range", "expected"),
    [
        pytest.param(None, False, ACCEPT, id="4.3.1-nothing-to-validate"),
        pytest.param(STALE, False, ACCEPT + OURS, id="4.3.1-both-validators"),
        pytest.param(stored(headers=[]), False, ACCEPT, id="4.3.1-no-validator"),
        pytest.param(stored(headers=[(b"etag", b'"v"')]), False, ACCEPT + OURS[:1], id="4.3.1-entity-tag"),
        pytest.param(stored(headers=[(b"etag", b'"v"')] * 2), False, ACCEPT, id="4.3.1-two-entity-tags"),
        pytest.param(stored(status=404), False, ACCEPT, id="9110-13.2.1-no-success"),
        pytest.param(None, True, ACCEPT + list(CLIENTS[5:]), id="14.2-range-kept"),
    ],
)
def test_9111_4_3_1_the_conditions_that_the_application_sees_are_ours(
    entry: Entry | None, expected: list[Header], *, keep_range: bool
) -> None:
    assert forwarded(asking(*CLIENTS), Fill("stale", entry), keep_range=keep_range) == expected


# -- failures ----------------------------------------------------------------------------------------------------------

SIE = stored(lifetime=5.0, stale_if_error=30.0)


def failed(entry: Entry | None, *headers: Header, rules_: Rules = QUIET) -> Asked:
    return Asked(
        request=asking(*headers),
        entry=entry,
        born=1,
        asked_at=NOW,
        policy=Policy(),
        rules=rules_,
        declared=False,
        guarded=False,
    )


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        pytest.param(failed(None), False, id="5861-4-nothing-stored"),
        pytest.param(failed(SIE), True, id="5861-4-within-the-window"),
        pytest.param(failed(STALE), False, id="5861-4-no-window"),
        pytest.param(failed(FRESH), False, id="5861-4-no-window-though-fresh"),
        pytest.param(failed(replace(SIE, stale_if_error=5.0)), False, id="5861-4-past-the-window"),
        pytest.param(failed(replace(SIE, must_revalidate=True)), False, id="9111-5.2.2.2-must-revalidate"),
        pytest.param(failed(replace(SIE, must_validate=True)), False, id="9111-5.2.2.4-no-cache"),
        pytest.param(failed(STALE, (b"cache-control", b"stale-if-error=9")), False, id="5861-4-not-obeyed"),
        pytest.param(
            failed(STALE, (b"cache-control", b"stale-if-error=9"), rules_=OBEDIENT),
            True,
            id="5861-4-the-request-allows",
        ),
    ],
)
def test_5861_4_a_failure_is_covered_within_the_window(asked: Asked, *, used: bool) -> None:
    assert on_failure(asked, NOW) == (UseStale(asked.entry) if used and asked.entry else None)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_5861_4_an_error_is_covered(status: int) -> None:
    assert on_head(failed(SIE), Head(status=status, headers=[]), NOW) == UseStale(SIE)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 501, 505])
def test_5861_4_an_answer_is_not_covered_up(status: int) -> None:
    assert isinstance(on_head(failed(SIE), Head(status=status, headers=[]), NOW), Discard)


# -- bodies ------------------------------------------------------------------------------------------------------------


def announcing(*values: bytes) -> Entry:
    return stored(headers=[(b"content-length", value) for value in values], body=b"")


@pytest.mark.parametrize(
    ("entry", "body", "complete"),
    [
        pytest.param(announcing(b"5"), b"hello", True, id="3.3-as-announced"),
        pytest.param(announcing(), b"hello", True, id="3.3-unannounced"),
        pytest.param(announcing(b"5", b"5"), b"hello", True, id="9110-8.6-said-twice"),
        pytest.param(announcing(b"6"), b"hello", False, id="3.3-incomplete"),
        pytest.param(announcing(b"4"), b"hello", False, id="3.3-too-long"),
        pytest.param(announcing(b"5", b"6"), b"hello", False, id="9110-8.6-conflicting"),
        pytest.param(announcing(b"-5"), b"hello", False, id="9110-8.6-no-number"),
        pytest.param(announcing(b"9" * 5000), b"hello", False, id="9110-8.6-absurd"),
        pytest.param(part(10, 19), b"0123456789", True, id="9110-14.4-the-range"),
        pytest.param(part(10, 19), b"012345678", False, id="9110-14.4-less-than-the-range"),
        pytest.param(replace(HEAD_ONLY, headers=[(b"content-length", b"5")]), b"", True, id="9110-9.3.2-head"),
    ],
)
def test_9111_3_3_only_what_is_complete_is_stored(entry: Entry, body: bytes, *, complete: bool) -> None:
    assert on_body(entry, body) == (replace(entry, body=body) if complete else Discard("length"))
