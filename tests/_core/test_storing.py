"""Whether an answer may be stored, and on what terms: RFC 9111 §3, §4.2, §5.2.2."""

from dataclasses import replace
from typing import Any

import pytest

from tiercel._core import keys
from tiercel._core.dates import format_date
from tiercel._core.entry import Entry, Head, Header, Partial, Request
from tiercel._core.policy import Policy, Rules
from tiercel._core.rfc9111 import Asked, Discard, Store, on_head
from tiercel._core.storing import UNDERSTOOD

NOW = 1_800_000_000.0
CC = b"cache-control"
ETAG = (b"etag", b'"v"')
FOR_A_MINUTE = (CC, b"max-age=60")
DECLARED = Policy(ttl=300, stale_while_revalidate=30, stale_if_error=90)


def asked(  # noqa: PLR0913 - what storing depends on
    *headers: Header,
    method: str = "GET",
    policy: Policy | None = None,
    rules: Rules | None = None,
    guarded: bool = False,
    observed: frozenset[bytes] = frozenset(),
    keyed: frozenset[bytes] = frozenset(),
) -> Asked:
    """In declared mode where a policy is given, else in headers mode."""
    return Asked(
        request=Request(method, "http", b"shop.example", b"/a?b=c", headers, b"{}" if method == "QUERY" else b""),
        entry=None,
        born=7,
        asked_at=NOW - 2,
        policy=policy or Policy(),
        rules=rules or Rules(),
        declared=policy is not None,
        guarded=guarded,
        observed=observed,
        keyed=keyed,
    )


def stored(asked_: Asked, *headers: Header, status: int = 200) -> Entry:
    found = on_head(asked_, Head(status=status, headers=headers), NOW)
    assert isinstance(found, Store), found
    return found.entry


PLAIN = asked()
AUTHORIZED = asked((b"authorization", b"Bearer x"))
RANGED = asked((b"range", b"bytes=0-9"))
PART = (b"content-range", b"bytes 0-9/100")
STORED = "stored"

TABLE = [
    # §3: methods
    pytest.param(PLAIN, 200, [FOR_A_MINUTE], STORED, id="3-get"),
    pytest.param(asked(method="HEAD"), 200, [FOR_A_MINUTE], STORED, id="3-head"),
    pytest.param(asked(method="QUERY"), 200, [FOR_A_MINUTE], STORED, id="10008-2.7-query"),
    # §3: status codes
    *[
        pytest.param(PLAIN, status, [FOR_A_MINUTE], STORED, id=f"3-explicit-freshness-{status}")
        for status in (203, 204, 299, 301, 302, 307, 404, 410, 500, 503, 599)
    ],
    *[
        pytest.param(PLAIN, status, [FOR_A_MINUTE], "status", id=f"3-no-answer-for-others-{status}")
        for status in (100, 101, 103, 412, 416)
    ],
    pytest.param(PLAIN, 304, [FOR_A_MINUTE], "not-modified", id="4.3.3-304-to-no-condition"),
    # §3: freshness, or something else that allows it
    pytest.param(PLAIN, 200, [], "no-freshness", id="3-nothing-said"),
    pytest.param(PLAIN, 200, [(CC, b"public")], "no-freshness", id="3-public-alone"),
    pytest.param(PLAIN, 200, [ETAG], "no-freshness", id="3-validator-alone"),
    pytest.param(PLAIN, 200, [(b"expires", format_date(NOW + 9))], STORED, id="5.3-expires"),
    pytest.param(PLAIN, 200, [(b"expires", b"0"), ETAG], STORED, id="5.3-expired-but-to-be-validated"),
    pytest.param(PLAIN, 200, [(b"expires", b"0")], "not-reusable", id="5.3-expired"),
    pytest.param(PLAIN, 200, [(CC, b"max-age=0")], "not-reusable", id="5.2.2.1-stale-at-once"),
    pytest.param(PLAIN, 200, [(CC, b"max-age=0"), ETAG], STORED, id="5.2.2.1-to-be-validated"),
    pytest.param(PLAIN, 200, [(CC, b"max-age=0, stale-if-error=9")], STORED, id="5861-4-to-fall-back-to"),
    pytest.param(PLAIN, 404, [(CC, b"max-age=0"), ETAG], "not-reusable", id="9110-13.2.1-errors-are-not-validated"),
    pytest.param(PLAIN, 200, [FOR_A_MINUTE, (b"age", b"58")], "not-reusable", id="4.2.3-stale-on-arrival"),
    pytest.param(PLAIN, 200, [FOR_A_MINUTE, (b"age", b"57")], STORED, id="4.2.3-fresh-for-a-second"),
    pytest.param(
        PLAIN,
        200,
        [(CC, b"max-age=9, must-revalidate, stale-if-error=99"), (b"age", b"9")],
        "not-reusable",
        id="5.2.2.2-nothing-stale-is-used",
    ),
    # §5.2.2.3 must-understand
    pytest.param(PLAIN, 200, [(CC, b"max-age=60, must-understand, no-store")], STORED, id="5.2.2.3-understood"),
    pytest.param(
        PLAIN, 299, [(CC, b"max-age=60, must-understand, no-store")], "must-understand", id="5.2.2.3-not-understood"
    ),
    pytest.param(
        PLAIN,
        299,
        [(CC, b"max-age=60, must-understand")],
        "must-understand",
        id="5.2.2.3-not-understood-without-no-store",
    ),
    # §5.2.2.4 no-cache
    pytest.param(PLAIN, 200, [(CC, b"no-cache"), ETAG], STORED, id="5.2.2.4-to-be-validated"),
    pytest.param(PLAIN, 200, [(CC, b"no-cache, max-age=60")], "not-reusable", id="5.2.2.4-nothing-to-validate-by"),
    # §5.2.2.5 no-store, §5.2.2.7 private
    pytest.param(PLAIN, 200, [(CC, b"max-age=60, No-Store")], "no-store", id="5.2.2.5-no-store"),
    pytest.param(PLAIN, 200, [FOR_A_MINUTE, (CC, b"no-store")], "no-store", id="5.2.2.5-in-another-line"),
    pytest.param(PLAIN, 200, [(CC, b"max-age=60, private")], "private", id="5.2.2.7-private"),
    pytest.param(PLAIN, 200, [(CC, b'max-age=60, private="x-a"')], STORED, id="5.2.2.7-a-field-is-private"),
    pytest.param(PLAIN, 200, [(CC, b'max-age=60, private="x-a", private')], "private", id="5.2.2.7-both"),
    pytest.param(
        asked(policy=DECLARED, guarded=True), 200, [(CC, b"private")], "private", id="5.2.2.7-though-keyed-by-identity"
    ),
    pytest.param(asked(policy=DECLARED), 200, [(CC, b"no-store")], "no-store", id="5.2.2.5-though-declared"),
    # §3.5 Authorization
    pytest.param(AUTHORIZED, 200, [FOR_A_MINUTE], "authorization", id="3.5-not-permitted"),
    pytest.param(AUTHORIZED, 200, [(CC, b"max-age=60, public")], STORED, id="3.5-public"),
    pytest.param(AUTHORIZED, 200, [(CC, b"max-age=60, must-revalidate")], STORED, id="3.5-must-revalidate"),
    pytest.param(AUTHORIZED, 200, [(CC, b"s-maxage=60")], STORED, id="3.5-s-maxage"),
    pytest.param(
        asked((b"authorization", b"x"), policy=DECLARED), 200, [], "authorization", id="3.5-declared-in-front"
    ),
    pytest.param(asked((b"authorization", b"x"), policy=DECLARED, guarded=True), 200, [], STORED, id="3.5-guarded"),
    pytest.param(
        asked((b"authorization", b"x"), policy=DECLARED, keyed=frozenset({b"authorization"})),
        200,
        [],
        STORED,
        id="3.5-in-the-key",
    ),
    # never, whatever is said
    pytest.param(PLAIN, 200, [FOR_A_MINUTE, (b"set-cookie", b"a=b")], "set-cookie", id="7.3-set-cookie"),
    pytest.param(PLAIN, 200, [FOR_A_MINUTE, (b"vary", b"accept, *")], "vary-any", id="4.1-vary-any"),
    pytest.param(
        PLAIN, 200, [FOR_A_MINUTE, (b"content-type", b"Text/Event-Stream; charset=utf-8")], "event-stream", id="no-end"
    ),
    # §3.3 partial content
    pytest.param(RANGED, 206, [FOR_A_MINUTE, PART], STORED, id="3.3-part"),
    pytest.param(RANGED, 206, [FOR_A_MINUTE], "partial-content", id="3.3-which-part"),
    pytest.param(PLAIN, 206, [FOR_A_MINUTE, PART], "partial-content", id="3.3-nobody-asked-for-a-part"),
    pytest.param(
        asked((b"range", b"bytes=0-9"), policy=DECLARED), 206, [PART], "partial-content", id="3.3-declared-mode"
    ),
    pytest.param(
        asked((b"range", b"bytes=0-9"), method="QUERY"), 206, [FOR_A_MINUTE, PART], "partial-content", id="3.3-query"
    ),
    # §5.2.1.5 the request's no-store
    pytest.param(asked((CC, b"no-store")), 200, [FOR_A_MINUTE], STORED, id="5.2.1.5-not-obeyed"),
    pytest.param(
        asked((CC, b"no-store"), rules=Rules(obey_requests=True)),
        200,
        [FOR_A_MINUTE],
        "request-no-store",
        id="5.2.1.5-obeyed",
    ),
    # Negative answers
    *[
        pytest.param(
            asked(policy=DECLARED), status, [], "error-without-freshness", id=f"declared-ttl-is-not-for-{status}"
        )
        for status in (400, 401, 403, 404, 410, 429, 500, 501, 503)
    ],
    pytest.param(asked(policy=DECLARED), 404, [FOR_A_MINUTE], STORED, id="declared-explicit-404"),
    pytest.param(
        asked(rules=Rules(heuristic=True)),
        404,
        [(b"last-modified", format_date(NOW - 1000))],
        "error-without-freshness",
        id="4.2.2-no-guess-for-errors",
    ),
    # The policy's ttl
    pytest.param(asked(policy=DECLARED), 200, [], STORED, id="declared"),
    pytest.param(asked(policy=DECLARED), 302, [], STORED, id="declared-redirect"),
    pytest.param(replace(PLAIN, policy=DECLARED), 200, [], STORED, id="3-default-policy-for-the-cacheable"),
    pytest.param(replace(PLAIN, policy=DECLARED), 302, [], "no-freshness", id="3-but-not-for-the-uncacheable"),
]


@pytest.mark.parametrize(("asked_", "status", "headers", "expected"), TABLE)
def test_9111_3_storing(asked_: Asked, status: int, headers: list[Header], expected: str) -> None:
    found = on_head(asked_, Head(status=status, headers=headers), NOW)
    assert (found.reason if isinstance(found, Discard) else STORED) == expected


def test_5_2_2_3_status_codes_with_requirements_of_their_own_are_not_claimed() -> None:
    assert UNDERSTOOD.isdisjoint({304, 306, 412, 416, 299, 418})
    assert {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501} <= UNDERSTOOD


@pytest.mark.parametrize(
    ("asked_", "said", "lifetime", "must_revalidate", "must_validate"),
    [
        pytest.param(PLAIN, b"max-age=60", 60, False, False, id="5.2.2.1-max-age"),
        pytest.param(PLAIN, b"max-age=60, s-maxage=30", 30, True, False, id="5.2.2.10-s-maxage"),
        pytest.param(PLAIN, b"max-age=60, must-revalidate", 60, True, False, id="5.2.2.2-must-revalidate"),
        pytest.param(PLAIN, b"max-age=60, proxy-revalidate", 60, True, False, id="5.2.2.8-proxy-revalidate"),
        pytest.param(PLAIN, b"max-age=60, no-cache", 60, True, True, id="5.2.2.4-no-cache"),
        pytest.param(PLAIN, b'max-age=60, no-cache="x-a"', 60, False, False, id="5.2.2.4-a-field"),
        pytest.param(asked(policy=DECLARED), b"public", 300, False, False, id="declared"),
        pytest.param(asked(policy=DECLARED), b"max-age=5", 5, False, False, id="declared-but-the-endpoint-wins"),
    ],
)
def test_9111_5_2_2_terms(
    asked_: Asked, said: bytes, lifetime: float, *, must_revalidate: bool, must_validate: bool
) -> None:
    entry = stored(asked_, (CC, said), ETAG)
    assert (entry.lifetime, entry.must_revalidate, entry.must_validate) == (lifetime, must_revalidate, must_validate)


@pytest.mark.parametrize(
    ("asked_", "said", "windows"),
    [
        pytest.param(PLAIN, b"max-age=60", (0, 0), id="none"),
        pytest.param(PLAIN, b"max-age=60, stale-while-revalidate=5, stale-if-error=6", (5, 6), id="5861-said"),
        pytest.param(asked(policy=DECLARED), b"max-age=60", (30, 90), id="declared"),
        pytest.param(
            asked(policy=DECLARED), b"stale-while-revalidate=0, stale-if-error=1", (0, 1), id="the-endpoint-wins"
        ),
    ],
)
def test_5861_windows(asked_: Asked, said: bytes, windows: tuple[float, float]) -> None:
    entry = stored(asked_, (CC, said))
    assert (entry.stale_while_revalidate, entry.stale_if_error) == windows


def test_9111_4_2_3_the_wait_for_an_answer_is_age_but_for_an_endpoint_of_our_own() -> None:
    assert stored(PLAIN, FOR_A_MINUTE).initial_age == 2
    assert stored(asked(policy=Policy(ttl=1))).initial_age == 0
    assert stored(asked(policy=Policy(ttl=9)), (b"age", b"5")).initial_age == 5


def test_9213_2_a_targeted_field_that_means_us_stands_for_cache_control() -> None:
    ours = asked(rules=Rules(targets=("cdn-cache-control",)))
    headers = [(b"cdn-cache-control", b"max-age=600"), (CC, b"no-store")]
    assert stored(ours, *headers).lifetime == 600
    assert on_head(PLAIN, Head(status=200, headers=headers), NOW) == Discard("no-store")


def test_9213_2_2_a_malformed_targeted_field_is_passed_over() -> None:
    ours = asked(rules=Rules(targets=("cdn-cache-control",)))
    assert stored(ours, (b"cdn-cache-control", b"max-age="), FOR_A_MINUTE).lifetime == 60


def test_9111_4_2_2_a_lifetime_is_guessed_only_where_that_is_allowed() -> None:
    headers = [(b"last-modified", format_date(NOW - 1000))]
    assert stored(asked(rules=Rules(heuristic=True)), *headers).lifetime == 100
    assert on_head(PLAIN, Head(status=200, headers=headers), NOW) == Discard("no-freshness")


def test_what_is_stored_of_an_answer() -> None:
    request = asked(
        (b"accept", b"a/b"),
        observed=frozenset({b"x-user", b"x-tenant", b"if-none-match"}),
        keyed=frozenset({b"x-tenant"}),
    )
    policy = Policy(vary="X-Region")
    entry = stored(replace(request, policy=policy), FOR_A_MINUTE, (b"vary", b"Accept"), (b"age", b"5"))
    assert entry == Entry(
        method="GET",
        status=200,
        headers=[FOR_A_MINUTE, (b"vary", b"Accept")],
        body=b"",
        selecting=keys.selecting([b"accept", b"x-region", b"x-user"], [(b"accept", b"a/b")]),
        tags=(keys.uri_tag("http", b"shop.example", b"/a?b=c"),),
        born=7,
        asked_at=NOW - 2,
        answered_at=NOW,
        initial_age=7.0,
        lifetime=60,
        cost=2.0,
    )


NAMES = {b"cookie", b"x-tenant"}


@pytest.mark.parametrize(
    ("more", "vary", "expected"),
    [
        pytest.param({"observed": NAMES}, b"", NAMES, id="what-was-read"),
        pytest.param({"observed": NAMES, "keyed": NAMES}, b"", set[bytes](), id="but-for-what-is-accounted-for"),
        pytest.param({"policy": Policy(ttl=9, vary="Cookie")}, b"", {b"cookie"}, id="what-is-declared"),
        pytest.param({"keyed": NAMES}, b"Cookie", {b"cookie"}, id="what-the-application-names-though-accounted-for"),
        pytest.param(
            {"observed": NAMES, "keyed": NAMES}, b"X-Tenant, DNT", {b"x-tenant", b"dnt"}, id="only-what-it-names"
        ),
        pytest.param(
            {"keyed": NAMES, "guarded": True}, b"accept, COOKIE", {b"accept", b"cookie"}, id="in-any-spelling"
        ),
    ],
)
def test_9111_4_1_what_a_response_says_that_it_varies_by_selects_whatever_is_declared(
    more: dict[str, Any], vary: bytes, expected: set[bytes]
) -> None:
    said = [(b"vary", vary)] if vary else []
    entry = stored(replace(asked(policy=DECLARED), **more), *said)
    assert {name for name, _ in entry.selecting} == expected


def test_9111_3_1_fields_of_one_connection_or_one_use_are_not_stored() -> None:
    headers = [(b"connection", b"x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"1"), (b"cache-status", b"Inner; hit")]
    assert stored(PLAIN, FOR_A_MINUTE, *headers, (b"age", b"1"), ETAG).headers == [FOR_A_MINUTE, ETAG]


@pytest.mark.parametrize("directive", [b"private", b"no-cache"])
def test_9111_5_2_2_fields_that_are_named_are_not_stored(directive: bytes) -> None:
    said = (CC, b'max-age=60, %b="x-a, X-B"' % directive)
    assert stored(PLAIN, said, (b"x-a", b"1"), (b"x-b", b"2"), (b"x-c", b"3")).headers == [said, (b"x-c", b"3")]


def test_9111_3_3_a_part_says_which_bytes_it_has() -> None:
    assert stored(RANGED, FOR_A_MINUTE, PART, status=206).partial == Partial(first=0, last=9, complete=100)
    assert stored(RANGED, FOR_A_MINUTE, PART).partial is None


def test_9111_4_4_in_declared_mode_a_write_to_the_path_reaches_what_is_stored_for_its_queries() -> None:
    tags = stored(asked(policy=DECLARED)).tags
    assert tags == tuple(keys.uri_tag("http", b"shop.example", target) for target in (b"/a?b=c", b"/a"))


def test_9875_2_the_groups_of_a_response_are_tags() -> None:
    tags = stored(PLAIN, FOR_A_MINUTE, (b"cache-groups", b'"scripts";x=1, "styles"')).tags
    assert tags[1:] == tuple(keys.group_tag("http", b"shop.example", group) for group in ("scripts", "styles"))
