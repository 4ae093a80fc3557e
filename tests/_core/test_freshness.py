"""Freshness lifetime, age and retention: RFC 9111 §4.2 and §5, RFC 9213 §2.2, RFC 5861."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.dates import format_date
from tiercel._core.entry import Entry, Head, Headers
from tiercel._core.freshness import (
    HEURISTIC_LIMIT,
    VALIDATION_GRACE,
    Lifetime,
    current_age,
    initial_age,
    lifetime,
    retain_until,
    seconds_until_stale,
    usable_stale,
)
from tiercel._core.headers import INFINITE, Directives

NOW = 1_800_000_000.0
CC, CDN, EXPIRES, DATE, AGE, MODIFIED = (
    b"cache-control",
    b"cdn-cache-control",
    b"expires",
    b"date",
    b"age",
    b"last-modified",
)
HOUR_AHEAD = format_date(NOW + 3_600)
DAY = 86_400.0


def found(
    *headers: tuple[bytes, bytes], status: int = 200, ttl: float | None = None, heuristic: bool = False
) -> Lifetime:
    return lifetime(
        Head(status=status, headers=headers),
        Directives.of(headers),
        answered_at=NOW,
        policy_ttl=ttl,
        heuristic=heuristic,
        targeted=Directives.targeted(headers, ["cdn-cache-control"]),
    )


def entry(**changes: object) -> Entry:
    stored = Entry(
        method="GET", status=200, headers=(), body=b"", born=0, asked_at=NOW - 1, answered_at=NOW, lifetime=60.0
    )
    return replace(stored, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "ttl", "seconds", "source"),
    [
        pytest.param(
            [(CDN, b"max-age=1"), (CC, b"s-maxage=2, max-age=3"), (EXPIRES, HOUR_AHEAD)],
            5.0,
            1,
            "targeted",
            id="9213-2.2-targeted-over-all",
        ),
        pytest.param([(CDN, b"s-maxage=1, max-age=9")], None, 1, "targeted", id="9213-2.2-s-maxage-in-it"),
        pytest.param(
            [(CDN, b"must-revalidate"), (CC, b"max-age=3"), (EXPIRES, HOUR_AHEAD)],
            None,
            0,
            "none",
            id="9213-2.2-targeted-hides-Cache-Control-and-Expires",
        ),
        pytest.param([(CDN, b"must-revalidate")], 5.0, 5, "policy", id="9213-2.2-policy-where-targeted-is-silent"),
        pytest.param([(CDN, b"max-age="), (CC, b"max-age=3")], None, 3, "max-age", id="9213-2.1-malformed-is-ignored"),
        pytest.param(
            [(CC, b"max-age=3, s-maxage=20"), (EXPIRES, HOUR_AHEAD)],
            5.0,
            20,
            "s-maxage",
            id="9111-5.2.2.10-s-maxage-over-max-age",
        ),
        pytest.param([(CC, b"s-maxage=x, max-age=3")], 5.0, 0, "s-maxage", id="9111-4.2.1-unreadable-s-maxage"),
        pytest.param(
            [(CC, b"max-age=3"), (EXPIRES, HOUR_AHEAD)], 5.0, 3, "max-age", id="9111-5.3-max-age-over-Expires"
        ),
        pytest.param([(CC, b"max-age=0")], 5.0, 0, "max-age", id="explicit-zero-over-policy"),
        pytest.param([(EXPIRES, HOUR_AHEAD)], 5.0, 3600, "expires", id="9111-4.2.1-Expires-over-policy"),
        pytest.param([(CC, b"public")], 5.0, 5, "policy", id="policy"),
        pytest.param([], 0.0, 0, "policy", id="policy-of-zero"),
        pytest.param([], None, 0, "none", id="nothing"),
    ],
)
def test_the_most_specific_source_wins(
    headers: list[tuple[bytes, bytes]], ttl: float | None, seconds: float, source: str
) -> None:
    assert found(*headers, ttl=ttl) == Lifetime(seconds=seconds, source=source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param([(EXPIRES, HOUR_AHEAD)], 3600, id="9111-4.2.1-from-reception-without-Date"),
        pytest.param([(EXPIRES, HOUR_AHEAD), (DATE, format_date(NOW - 60))], 3660, id="9111-4.2.1-minus-Date"),
        pytest.param([(EXPIRES, HOUR_AHEAD), (DATE, b"now")], 3600, id="9110-6.6.1-unreadable-Date"),
        pytest.param(
            [(EXPIRES, HOUR_AHEAD), (DATE, format_date(NOW - 60)), (DATE, format_date(NOW))],
            3600,
            id="9110-6.6.1-repeated-Date",
        ),
        pytest.param([(EXPIRES, format_date(NOW))], 0, id="9111-5.3-equal-to-Date"),
        pytest.param([(EXPIRES, format_date(NOW - 60))], 0, id="9111-5.3-in-the-past"),
        pytest.param([(EXPIRES, b"0")], 0, id="9111-5.3-zero"),
        pytest.param([(EXPIRES, b"")], 0, id="9111-5.3-empty"),
        pytest.param([(EXPIRES, HOUR_AHEAD[:-3] + b"UTC")], 0, id="9111-4.2-another-zone"),
        pytest.param([(EXPIRES, HOUR_AHEAD), (EXPIRES, format_date(NOW + 60))], 60, id="9111-5.3-repeated"),
        pytest.param([(EXPIRES, HOUR_AHEAD), (EXPIRES, b"never")], 0, id="9111-5.3-repeated-one-unreadable"),
        pytest.param([(EXPIRES, HOUR_AHEAD + b", " + HOUR_AHEAD)], 0, id="9111-5.3-repeated-in-one-line"),
        pytest.param([(EXPIRES, b"Fri, 31 Dec 9999 23:59:59 GMT")], INFINITE, id="9111-1.2.2-far-future"),
        pytest.param(
            [(EXPIRES, HOUR_AHEAD), (DATE, b"Mon, 01 Jan 0001 00:00:00 GMT")], INFINITE, id="9111-1.2.2-Date-far-past"
        ),
    ],
)
def test_expires_is_a_date_or_the_past(headers: list[tuple[bytes, bytes]], seconds: float) -> None:
    assert found(*headers) == Lifetime(seconds=seconds, source="expires")


@pytest.mark.parametrize(
    ("headers", "status", "seconds"),
    [
        pytest.param([(MODIFIED, format_date(NOW - 1000))], 200, 100, id="9111-4.2.2-a-tenth"),
        pytest.param(
            [(MODIFIED, format_date(NOW - 1000)), (DATE, format_date(NOW - 500))], 200, 50, id="9111-4.2.2-since-Date"
        ),
        pytest.param([(MODIFIED, format_date(NOW - 100 * DAY))], 200, HEURISTIC_LIMIT, id="9111-4.2.2-bounded"),
        pytest.param([(MODIFIED, format_date(NOW - 1000))], 404, 100, id="9110-15.1-heuristically-cacheable"),
        pytest.param([(MODIFIED, format_date(NOW - 1000))], 302, 0, id="9110-15.1-not-heuristically-cacheable"),
        pytest.param(
            [(MODIFIED, format_date(NOW - 1000)), (CC, b"public")], 302, 100, id="9111-4.2.2-explicitly-cacheable"
        ),
        pytest.param([(MODIFIED, format_date(NOW + 1000))], 200, 0, id="9111-4.2.2-modified-in-the-future"),
        pytest.param([(MODIFIED, b"long ago")], 200, 0, id="9111-4.2.2-unreadable"),
        pytest.param([], 200, 0, id="9111-4.2.2-no-Last-Modified"),
    ],
)
def test_heuristic_freshness(headers: list[tuple[bytes, bytes]], status: int, seconds: float) -> None:
    assert found(*headers, status=status, heuristic=True) == Lifetime(
        seconds=seconds, source="heuristic" if seconds else "none"
    )


@pytest.mark.parametrize(
    ("headers", "ttl", "heuristic"),
    [
        pytest.param([], None, False, id="off-by-default"),
        pytest.param([], 5.0, True, id="policy-over-heuristic"),
        pytest.param([(CC, b"max-age=3")], None, True, id="9111-4.2.2-never-against-explicit-freshness"),
        pytest.param([(EXPIRES, b"0")], None, True, id="9111-4.2.2-never-against-an-unreadable-Expires"),
    ],
)
def test_no_guess_where_something_is_known(
    headers: list[tuple[bytes, bytes]],
    ttl: float | None,
    heuristic: bool,  # noqa: FBT001 - a column of the table
) -> None:
    modified = (MODIFIED, format_date(NOW - 1000))
    assert found(modified, *headers, ttl=ttl, heuristic=heuristic).source != "heuristic"


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        pytest.param([], 0, id="9111-4.2.3-nothing-known"),
        pytest.param([(AGE, b"30")], 30, id="9111-5.1-Age"),
        pytest.param([(DATE, format_date(NOW - 20))], 20, id="9111-4.2.3-apparent-age"),
        pytest.param([(AGE, b"30"), (DATE, format_date(NOW - 20))], 30, id="9111-4.2.3-the-greater-Age"),
        pytest.param([(AGE, b"10"), (DATE, format_date(NOW - 20))], 20, id="9111-4.2.3-the-greater-apparent-age"),
        pytest.param([(DATE, format_date(NOW + 20))], 0, id="9111-4.2.3-Date-in-the-future"),
        pytest.param([(AGE, b"30, 5")], 30, id="9111-5.1-first-member"),
        pytest.param([(AGE, b"30"), (AGE, b"5")], 30, id="9111-5.1-first-line"),
        pytest.param([(AGE, b"x, 5")], 0, id="9111-5.1-first-member-unreadable"),
        pytest.param([(AGE, b"-30")], 0, id="9111-5.1-negative"),
        pytest.param([(AGE, b"+30")], 0, id="9111-5.1-plus-sign"),
        pytest.param([(AGE, b"30.5")], 0, id="9111-5.1-fraction"),
        pytest.param([(AGE, b'"30"')], 0, id="9111-5.1-quoted"),
        pytest.param([(AGE, b"30;x")], 0, id="9111-5.1-parameter"),
        pytest.param([(AGE, b"30s")], 0, id="9111-5.1-unit"),
        pytest.param([(AGE, b"")], 0, id="9111-5.1-empty"),
        pytest.param([(AGE, b"\xb2")], 0, id="9111-5.1-not-ascii"),
        pytest.param([(AGE, b"0030")], 30, id="9111-1.2.2-leading-zeros"),
        pytest.param([(AGE, b"2147483649")], INFINITE, id="9111-1.2.2-overflow"),
        pytest.param([(AGE, b"9" * 5000)], INFINITE, id="9111-1.2.2-overflow-of-thousands-of-digits"),
    ],
)
def test_initial_age(headers: list[tuple[bytes, bytes]], age: float) -> None:
    assert initial_age(headers, asked_at=NOW, answered_at=NOW) == age


def test_the_response_delay_counts_into_the_age() -> None:
    assert initial_age([(AGE, b"30")], asked_at=NOW - 2, answered_at=NOW) == 32


def test_a_clock_that_stepped_back_while_waiting_takes_nothing_off_the_age() -> None:
    assert initial_age([(AGE, b"30")], asked_at=NOW + 50, answered_at=NOW) == 30


def test_current_age_adds_the_time_since_the_answer() -> None:
    assert current_age(entry(initial_age=5.0), NOW + 10) == 15


def test_a_clock_that_steps_back_makes_nothing_younger() -> None:
    assert current_age(entry(initial_age=5.0), NOW - 10) == 5
    assert seconds_until_stale(entry(initial_age=65.0), NOW - 10) == -5


@pytest.mark.parametrize(
    ("now", "left"),
    [
        pytest.param(NOW, 55, id="9111-4.2-fresh"),
        pytest.param(NOW + 55, 0, id="9111-4.2-age-equal-to-lifetime-is-stale"),
        pytest.param(NOW + 56, -1, id="9111-4.2-stale"),
    ],
)
def test_seconds_until_stale(now: float, left: float) -> None:
    assert seconds_until_stale(entry(initial_age=5.0), now) == left


@pytest.mark.parametrize(
    ("changes", "stale_for", "usable"),
    [
        pytest.param({}, 0.0, True, id="5861-3-the-moment-it-turns-stale"),
        pytest.param({}, 29.0, True, id="5861-3-within"),
        pytest.param({}, 30.0, False, id="5861-3-at-the-end"),
        pytest.param({"must_revalidate": True}, 1.0, False, id="9111-5.2.2.2-must-revalidate"),
        pytest.param({"must_validate": True}, 1.0, False, id="9111-5.2.2.4-no-cache"),
    ],
)
def test_stale_use_ends_with_its_window(changes: dict[str, object], stale_for: float, usable: bool) -> None:  # noqa: FBT001 - a column of the table
    stored = entry(**changes)
    assert usable_stale(stored, stored.fresh_until + stale_for, 30.0) is usable


def test_without_a_window_nothing_stale_is_usable() -> None:
    assert not usable_stale(entry(), entry().fresh_until, 0.0)


@pytest.mark.parametrize(
    ("changes", "kept_for"),
    [
        pytest.param({}, 0, id="no-windows"),
        pytest.param({"stale_while_revalidate": 30.0, "stale_if_error": 20.0}, 30, id="5861-3"),
        pytest.param({"stale_while_revalidate": 30.0, "stale_if_error": 90.0}, 90, id="5861-4"),
        pytest.param({"headers": ((b"etag", b'"1"'),)}, VALIDATION_GRACE, id="9111-4.3-ETag"),
        pytest.param({"headers": ((MODIFIED, b"x"),), "must_validate": True}, VALIDATION_GRACE, id="9111-4.3-no-cache"),
    ],
)
def test_retention_outlasts_freshness_by(changes: dict[str, object], kept_for: float) -> None:
    stored = entry(**changes)
    assert retain_until(stored) == stored.fresh_until + kept_for


def test_retention_covers_what_max_stale_may_ask_for() -> None:
    assert retain_until(entry(stale_if_error=20.0), max_stale=100.0) == entry().fresh_until + 100


SECONDS = st.floats(0, 2.0**31)
MOMENTS = st.floats(NOW - 1e6, NOW + 1e10)
ENTRIES = st.builds(
    entry,
    answered_at=MOMENTS,
    initial_age=SECONDS,
    lifetime=SECONDS,
    stale_while_revalidate=SECONDS,
    stale_if_error=SECONDS,
    must_revalidate=st.booleans(),
    must_validate=st.booleans(),
    headers=st.sampled_from([(), ((b"etag", b'"1"'),)]),
)


@given(ENTRIES, MOMENTS, MOMENTS, SECONDS)
def test_time_passing_never_makes_anything_fresher(stored: Entry, one: float, other: float, window: float) -> None:
    sooner, later = sorted((one, other))
    assert current_age(stored, sooner) <= current_age(stored, later)
    assert seconds_until_stale(stored, sooner) >= seconds_until_stale(stored, later)
    assert usable_stale(stored, sooner, window) >= usable_stale(stored, later, window)


@given(ENTRIES, st.floats(-1.0, 1.0) | st.floats(-1e7, 1e10), st.sampled_from(["swr", "sie", "fresh"]))
def test_retention_covers_every_moment_at_which_an_entry_is_usable(stored: Entry, offset: float, end: str) -> None:
    windows = {"fresh": 0.0, "swr": stored.stale_while_revalidate, "sie": stored.stale_if_error}
    now = stored.fresh_until + windows[end] + offset
    usable = seconds_until_stale(stored, now) > 0 or any(usable_stale(stored, now, one) for one in windows.values())
    assert not usable or now < retain_until(stored)


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([CC, CDN, EXPIRES, DATE, AGE, MODIFIED]),
        st.binary(max_size=40)
        | st.sampled_from([b"max-age=60", b"s-maxage=9999999999", b"0", HOUR_AHEAD, b"public", b"Sat, 01 Jan 0001"]),
    ),
    max_size=6,
)


@given(FIELDS, st.sampled_from([None, 0.0, 60.0]), st.booleans())
def test_any_header_gives_a_lifetime_and_an_age_within_bounds(
    headers: Headers,
    ttl: float | None,
    heuristic: bool,  # noqa: FBT001 - drawn
) -> None:
    assert 0 <= found(*headers, ttl=ttl, heuristic=heuristic).seconds <= INFINITE
    assert initial_age(headers, asked_at=NOW, answered_at=NOW) >= 0


@given(FIELDS, FIELDS)
def test_a_further_expires_never_lengthens_a_lifetime(one: Headers, other: Headers) -> None:
    before = found(*[line for line in one if line[0] == EXPIRES])
    after = found(*[line for line in (*one, *other) if line[0] == EXPIRES])
    assert before.source == "none" or after.seconds <= before.seconds
