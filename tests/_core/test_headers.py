"""Field lines, lists and cache directives: RFC 9110 §5, RFC 9111 §3.1 and §5.2, RFC 9213."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercel._core.headers import (
    INFINITE,
    Directives,
    combined,
    end_to_end,
    lines,
    members,
    split,
    without,
)

CC = b"cache-control"
ANY_LINES = st.lists(st.tuples(st.sampled_from([CC, b"connection", b"age"]), st.binary(max_size=80)), max_size=6)
LIFETIMES = ("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error")
SOUP = st.lists(
    st.sampled_from(
        [b"max-age", b"private", b"no-store", b"=", b'"', b"\\", b",", b" ", b";", b"0", b"60", b"99999999999", b"\xff"]
    ),
    max_size=20,
).map(b"".join)


def directives(*values: bytes) -> Directives:
    return Directives.of([(CC, value) for value in values])


def test_lines_keep_order_and_repeats() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"1")]
    assert lines(headers, b"a") == [b"1", b"3", b"1"]


def test_combined_joins_the_lines_in_order() -> None:
    assert combined([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")], b"a") == b"1, 3"


def test_combined_tells_an_empty_field_from_an_absent_one() -> None:
    assert combined([(b"a", b"")], b"a") == b""
    assert combined([(b"a", b"")], b"b") is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(b"a, b,c", [b"a", b"b", b"c"], id="9110-5.6.1-comma-separated"),
        pytest.param(b", a ,,\t, b\t,", [b"a", b"b"], id="9110-5.6.1.2-empty-members-are-ignored"),
        pytest.param(b"", [], id="9110-5.6.1.2-empty-list"),
        pytest.param(b'a="x, y", b', [b'a="x, y"', b"b"], id="9110-5.6.4-comma-in-a-quoted-string"),
        pytest.param(rb'a="x\", y", b', [rb'a="x\", y"', b"b"], id="9110-5.6.4-quoted-pair"),
        pytest.param(b'a="x, b', [b'a="x', b"b"], id="9110-5.6.4-unterminated-quote-hides-nothing"),
        pytest.param(b'"a, b", "c, d', [b'"a', b'b"', b'"c', b"d"], id="9110-5.6.4-unterminated-quote-quotes-nothing"),
        pytest.param(b'a="x\\', [b'a="x\\'], id="9110-5.6.4-ends-within-a-quoted-pair"),
    ],
)
def test_a_list_is_split_at_its_own_commas_only(value: bytes, found: list[bytes]) -> None:
    assert split(value) == found


def test_members_are_those_of_all_lines() -> None:
    assert members([(b"a", b"1, 2"), (b"b", b"x"), (b"a", b"3")], b"a") == [b"1", b"2", b"3"]


def test_an_unterminated_quote_does_not_reach_into_the_next_line() -> None:
    assert "no-store" in directives(b'private="a', b"no-store")


def test_without_leaves_the_named_fields_out() -> None:
    assert without([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")], {b"a"}) == [(b"b", b"2")]


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    ],
)
def test_a_field_about_the_connection_is_not_end_to_end(name: bytes) -> None:
    assert end_to_end([(name, b"x"), (b"etag", b'"1"')]) == [(b"etag", b'"1"')]


def test_fields_that_connection_names_are_not_end_to_end() -> None:
    headers = [(b"connection", b"Close, X-Hop"), (b"x-hop", b"1"), (b"connection", b"x-too"), (b"x-too", b"1")]
    assert end_to_end([*headers, (b"x-end", b"1")]) == [(b"x-end", b"1")]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(b"max-age=60", 60, id="9111-5.2.2.1-token"),
        pytest.param(b'max-age="60"', 60, id="9111-5.2-quoted-form"),
        pytest.param(rb'max-age="6\0"', 60, id="9110-5.6.4-quoted-pair-in-it"),
        pytest.param(b"MAX-Age=60", 60, id="9111-5.2-case-insensitive"),
        pytest.param(b"max-age=0060", 60, id="9111-1.2.2-leading-zeros"),
        pytest.param(b"max-age=0", 0, id="9111-1.2.2-zero"),
        pytest.param(b"max-age=2147483648", INFINITE, id="9111-1.2.2-the-greatest"),
        pytest.param(b"max-age=2147483649", INFINITE, id="9111-1.2.2-overflow"),
        pytest.param(b"max-age=" + b"9" * 5000, INFINITE, id="9111-1.2.2-overflow-of-thousands-of-digits"),
        pytest.param(b"max-age=" + b"0" * 5000 + b"7", 7, id="9111-1.2.2-thousands-of-zeros"),
        pytest.param(b"max-age=60, max-age=5", 5, id="9111-4.2.1-repeated"),
        pytest.param(b"max-age=5, max-age=60", 5, id="9111-4.2.1-repeated-other-order"),
        pytest.param(b"max-age=60, max-age=x", 0, id="9111-4.2.1-one-of-two-unreadable"),
        pytest.param(b"max-age", 0, id="9111-4.2.1-no-argument"),
        pytest.param(b"max-age=", 0, id="9111-4.2.1-empty-argument"),
        pytest.param(b'max-age=""', 0, id="9111-4.2.1-empty-quoted-argument"),
        pytest.param(b"max-age=-1", 0, id="9111-4.2.1-negative"),
        pytest.param(b"max-age=+60", 0, id="9111-4.2.1-plus-sign"),
        pytest.param(b"max-age=60.5", 0, id="9111-4.2.1-fraction"),
        pytest.param(b"max-age=60s", 0, id="9111-4.2.1-unit"),
        pytest.param(b"max-age=1e3", 0, id="9111-4.2.1-exponent"),
        pytest.param(b"max-age='60'", 0, id="9111-4.2.1-apostrophes"),
        pytest.param(b"max-age=\xb2", 0, id="9111-4.2.1-not-ascii"),
        pytest.param(b"max-age =60", 0, id="9111-4.2.1-space-before-equals"),
        pytest.param(b"max-age= 60", 0, id="9111-4.2.1-space-after-equals"),
        pytest.param(b"max-age=60;no-cache", 0, id="9111-4.2.1-semicolon"),
        pytest.param(b"x-max-age=60", None, id="9111-5.2.3-another-directive"),
        pytest.param(b'x="max-age=60"', None, id="9111-5.2-inside-a-quoted-string"),
        pytest.param(b"public", None, id="9111-5.2-absent"),
    ],
)
def test_seconds_of_max_age(value: bytes, seconds: int | None) -> None:
    assert directives(value).seconds("max-age") == seconds


@pytest.mark.parametrize(
    ("value", "name", "seconds"),
    [
        pytest.param(b"max-stale", "max-stale", INFINITE, id="9111-5.2.1.2-without-argument-any-staleness"),
        pytest.param(b"max-stale=x", "max-stale", 0, id="9111-5.2.1.2-unreadable-none"),
        pytest.param(b"max-stale, max-stale=5", "max-stale", 5, id="9111-5.2.1.2-repeated-the-least"),
        pytest.param(b"min-fresh=5, min-fresh=9", "min-fresh", 9, id="9111-5.2.1.3-repeated-the-most"),
        pytest.param(b"min-fresh=x", "min-fresh", INFINITE, id="9111-5.2.1.3-unreadable-none-fresh-enough"),
        pytest.param(b"stale-while-revalidate=x", "stale-while-revalidate", 0, id="5861-3-unreadable"),
        pytest.param(b"stale-if-error", "stale-if-error", 0, id="5861-4-without-argument"),
        pytest.param(b"x-wait=soon", "x-wait", None, id="9111-5.2.3-unreadable-extension"),
    ],
)
def test_doubt_is_settled_for_the_stricter_reading(value: bytes, name: str, seconds: int | None) -> None:
    assert directives(value).seconds(name) == seconds


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"no-store", id="9111-5.2.2.5"),
        pytest.param(b"No-Store", id="9111-5.2-case-insensitive"),
        pytest.param(b"no-store=1", id="9111-5.2-argument-it-does-not-have"),
        pytest.param(b"max-age=60; no-store", id="malformed-semicolon"),
        pytest.param(b"no-store max-age=60", id="malformed-space"),
        pytest.param(b'"no-store"', id="malformed-quoted"),
        pytest.param(b"no-store\x00", id="malformed-control-character"),
        pytest.param(b'max-age="60, no-store', id="malformed-unterminated-quote"),
    ],
)
def test_no_store_is_seen_however_it_is_written(value: bytes) -> None:
    assert "no-store" in directives(value)


def test_a_malformed_member_permits_nothing() -> None:
    assert "public" not in directives(b"public; max-age=60")
    assert "must-revalidate" not in directives(b"must-revalidate; max-age=60")


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        pytest.param([b'private="a, B"'], {b"a", b"b"}, id="9111-5.2.2.7-quoted-list"),
        pytest.param([b"private=a"], {b"a"}, id="9111-5.2.2.7-token-form"),
        pytest.param([b'private="a"', b'private="b"'], {b"a", b"b"}, id="9111-5.2.2.7-repeated"),
        pytest.param([b"private"], None, id="9111-5.2.2.7-unqualified"),
        pytest.param([b'private="a", private'], None, id="9111-5.2.2.7-unqualified-once"),
        pytest.param([b'private=""'], None, id="9111-5.2.2.7-empty"),
        pytest.param([b'private=", "'], None, id="9111-5.2.2.7-empty-list"),
        pytest.param([b'private="a b"'], None, id="9111-5.2.2.7-not-field-names"),
        pytest.param([b"private =a"], None, id="9111-5.2.2.7-malformed"),
        pytest.param([b"public"], None, id="9111-5.2.2.7-absent"),
    ],
)
def test_fields_that_a_directive_is_limited_to(values: list[bytes], fields: set[bytes] | None) -> None:
    assert directives(*values).fields("private") == fields


def test_directives_may_be_those_of_another_field() -> None:
    headers = [(CC, b"max-age=60"), (b"cdn-cache-control", b"max-age=5")]
    assert Directives.of(headers, b"cdn-cache-control").seconds("max-age") == 5


def test_long_values_read_like_short_ones() -> None:
    assert directives(b"x" * 5000 + b", max-age=60").seconds("max-age") == 60


TARGETS = ("example-cache-control", "cdn-cache-control")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(b"max-age=60, must-revalidate", 60, id="9213-2.1-integer"),
        pytest.param(b"max-age=60;x=1, a=(b c);d", 60, id="9213-2.1-parameters-are-ignored"),
        pytest.param(b"max-age=60, max-age=5", 5, id="9651-4.2.2-the-last-of-repeated-keys"),
        pytest.param(b"max-age=60.5", 0, id="9213-2.1-decimal"),
        pytest.param(b'max-age="60"', 0, id="9213-2.1-string"),
        pytest.param(b"max-age=-1", 0, id="9213-2.1-negative"),
        pytest.param(b"max-age=?0", 0, id="9213-2.1-boolean"),
        pytest.param(b"max-age=999999999999999", INFINITE, id="9111-1.2.2-overflow"),
    ],
)
def test_a_targeted_field_is_a_dictionary(value: bytes, seconds: int) -> None:
    found = Directives.targeted([(b"cdn-cache-control", value)], TARGETS)
    assert found is not None
    assert found.seconds("max-age") == seconds


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="9213-2.1-empty"),
        pytest.param(b"  ", id="9213-2.1-blank"),
        pytest.param(b"max-age=60,", id="9651-4.2.2-trailing-comma"),
        pytest.param(b"max-age=60 no-store", id="9651-4.2.2-no-comma"),
        pytest.param(b"Max-Age=60", id="9651-4.2.3.3-upper-case-key"),
        pytest.param(b"max-age=", id="9651-4.2.3.1-no-value"),
        pytest.param(b'private="a', id="9651-4.2.5-unterminated-string"),
        pytest.param(b"max-age=1234567890123456", id="9651-4.2.4-too-many-digits"),
        pytest.param(b"max-age=60, \xff", id="9651-4.2-not-ascii"),
    ],
)
def test_an_empty_or_malformed_targeted_field_is_ignored(value: bytes) -> None:
    headers = [(b"example-cache-control", value), (b"cdn-cache-control", b"max-age=5")]
    found = Directives.targeted(headers, TARGETS)
    assert found is not None
    assert found.seconds("max-age") == 5


def test_the_first_target_wins_wherever_its_line_is() -> None:
    headers = [(b"cdn-cache-control", b"max-age=5"), (b"example-cache-control", b"max-age=7")]
    found = Directives.targeted(headers, ("Example-Cache-Control", "CDN-Cache-Control"))
    assert found is not None
    assert found.seconds("max-age") == 7


def test_without_a_target_there_are_no_targeted_directives() -> None:
    assert Directives.targeted([(b"cdn-cache-control", b"max-age=5")], ()) is None
    assert Directives.targeted([(CC, b"max-age=5")], TARGETS) is None


def test_a_targeted_field_may_limit_a_directive_to_fields() -> None:
    found = Directives.targeted([(b"cdn-cache-control", b'private="A, b", no-store=?0')], TARGETS)
    assert found is not None
    assert found.fields("private") == frozenset({b"a", b"b"})
    assert "no-store" in found


@given(ANY_LINES)
@example([(CC, b'"' * 80)])
def test_reading_never_raises(headers: list[tuple[bytes, bytes]]) -> None:
    end_to_end(headers)
    members(headers, CC)
    found = Directives.of(headers)
    Directives.targeted(headers, ["cache-control"])
    for name in (*LIFETIMES, "max-stale", "min-fresh"):
        seconds = found.seconds(name)
        assert seconds is None or 0 <= seconds <= INFINITE
        found.fields(name)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.sampled_from(LIFETIMES), st.booleans())
def test_directives_are_never_longer_than_the_strictest(numbers: list[int], name: str, joined: bool) -> None:  # noqa: FBT001 - drawn
    values = [f"{name}={number}".encode() for number in numbers]
    found = directives(b", ".join(values)) if joined else directives(*values)
    assert found.seconds(name) == min(INFINITE, *numbers)


@given(SOUP, SOUP, st.sampled_from(LIFETIMES))
def test_a_further_line_never_lengthens_a_lifetime(one: bytes, other: bytes, name: str) -> None:
    before = directives(one).seconds(name)
    after = directives(one, other).seconds(name)
    assert before is None or (after is not None and after <= before)


@given(SOUP, SOUP)
def test_a_further_line_never_lifts_a_restriction(one: bytes, other: bytes) -> None:
    before, after = directives(one), directives(one, other)
    for name in ("no-store", "private"):
        assert name not in before or name in after
        assert "private" not in before or before.fields(name) is not None or after.fields(name) is None


def test_hostile_lengths_are_read_in_linear_time() -> None:
    directives(b'"\\' * 50_000, b"a," * 50_000, b"(" * 100_000)
    Directives.targeted([(CC, b"a=(" + b"b;c " * 50_000)], ["cache-control"])
