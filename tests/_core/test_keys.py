"""Keys, selecting fields, and what is kept under one key: RFC 9111 §2, §4.1."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core import keys
from tiercel._core.dates import format_date
from tiercel._core.entry import Entry, Header, Partial, Request

NOW = 1_000_000.0

NO_NAMES: frozenset[bytes] = frozenset()

ENTRY = Entry(
    method="GET",
    status=200,
    headers=[(b"content-type", b"text/plain")],
    body=b"hello",
    born=0,
    asked_at=NOW,
    answered_at=NOW,
    lifetime=60.0,
)

octets = st.binary(max_size=12)
field_lines = st.lists(
    st.tuples(st.sampled_from([b"accept", b"accept-encoding", b"accept-language", b"cookie", b"x-user"]), octets),
    max_size=6,
)


def asking(*headers: Header, method: str = "GET") -> Request:
    return Request(method, "http", b"shop.example", b"/", headers)


# -- primary keys ----------------------------------------------------------------------------------------------------

parts = st.lists(st.none() | octets, max_size=5)


@given(parts, parts)
def test_two_lists_of_parts_share_a_key_only_if_they_are_the_same(
    one: list[bytes | None], other: list[bytes | None]
) -> None:
    assert (keys.primary(*one) == keys.primary(*other)) == (one == other)


def test_a_primary_key_is_16_bytes_however_long_its_parts() -> None:
    assert len(keys.primary(b"x" * 100_000, None)) == 16


BASE = Request("GET", "http", b"shop.example", b"/a?b=c", [])
QUERY = Request("QUERY", "http", b"shop.example", b"/a", [(b"content-type", b"application/json")], b"{}")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(BASE, BASE._replace(method="HEAD"), True, id="9111-4-head-shares-the-key-of-get"),
        pytest.param(BASE, BASE._replace(authority=b"SHOP.example:80"), True, id="9110-4.2.3-host-and-default-port"),
        pytest.param(BASE, BASE._replace(scheme="https"), False, id="9110-4.3.1-scheme"),
        pytest.param(BASE, BASE._replace(authority=b"shop.example:81"), False, id="9110-4.3.1-port"),
        pytest.param(BASE, BASE._replace(target=b"/A?b=c"), False, id="9110-4.2.3-path-has-case"),
        pytest.param(BASE, BASE._replace(target=b"/a?b=d"), False, id="9111-2-query-component"),
        pytest.param(BASE, BASE._replace(headers=[(b"accept", b"a/b")]), True, id="9111-2-fields-are-no-key"),
        pytest.param(QUERY, QUERY._replace(method="GET"), False, id="10008-2.7-query-is-not-get"),
        pytest.param(QUERY, QUERY._replace(content=b"{ }"), False, id="10008-2.7-content"),
        pytest.param(QUERY, QUERY._replace(headers=[(b"content-type", b"a/b")]), False, id="10008-2.7-content-type"),
        pytest.param(
            QUERY,
            QUERY._replace(headers=[*QUERY.headers, (b"content-encoding", b"gzip")]),
            False,
            id="10008-2.7-content-encoding",
        ),
        pytest.param(
            QUERY, QUERY._replace(headers=[*QUERY.headers, (b"accept", b"a/b")]), True, id="10008-2.7-other-fields"
        ),
    ],
)
def test_the_key_of_a_request(one: Request, other: Request, *, same: bool) -> None:
    assert (keys.of_request(one) == keys.of_request(other)) is same


@pytest.mark.parametrize(
    ("authority", "target", "same"),
    [
        pytest.param(b"shop.example", b"/a%7Eb", True, id="9110-4.2.3-unreserved-octets-encoded"),
        pytest.param(b"shop.example", b"/a%7eb", True, id="3986-6.2.2.1-case-of-encoded-octets"),
        pytest.param(b"Shop.Example", b"/a~b", True, id="9110-4.2.3-case-of-host"),
        pytest.param(b"shop.example:443", b"/a~b", True, id="9110-4.2.3-default-port"),
        pytest.param(b"shop.example:", b"/a~b", True, id="3986-6.2.3-empty-port"),
        pytest.param(b"shop.example", b"/a~b#there", True, id="9110-4.2.5-fragment"),
        pytest.param(b"shop.example", b"/A~b", False, id="9110-4.2.3-case-of-path"),
        pytest.param(b"shop.example:80", b"/a~b", False, id="9110-4.3.1-other-port"),
    ],
)
def test_equivalent_uris_share_a_tag(authority: bytes, target: bytes, *, same: bool) -> None:
    assert (keys.uri_tag("https", authority, target) == keys.uri_tag("HTTPS", b"shop.example", b"/a~b")) is same


def test_an_encoded_delimiter_is_not_the_delimiter() -> None:
    assert keys.uri_tag("http", b"a", b"/b%2Fc") != keys.uri_tag("http", b"a", b"/b/c")


def test_the_empty_path_is_the_root() -> None:
    assert keys.uri_tag("http", b"a", b"") == keys.uri_tag("http", b"a", b"/")


# -- selecting fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        pytest.param(b"x-a", [], [b""], False, id="absent-is-not-empty"),
        pytest.param(b"x-a", [], [], True, id="absent-in-both"),
        pytest.param(b"x-a", [b"1", b"2"], [b"1, 2"], True, id="repeated-lines-are-one-list"),
        pytest.param(b"x-a", [b"1, 2"], [b"2, 1"], False, id="order-of-an-unknown-field"),
        pytest.param(b"x-a", [b"A"], [b"a"], False, id="case-of-an-unknown-field"),
        pytest.param(b"cookie", [b"a=1", b"b=2"], [b"a=1; b=2"], True, id="cookie-crumbs-9113-8.2.3"),
        pytest.param(b"cookie", [b"a=x, y"], [b"a=x,y"], False, id="space-within-a-cookie"),
        pytest.param(b"accept-encoding", [b"gzip,br"], [b"br ;q=1.0 , GZIP"], True, id="codings-9110-12.5.3"),
        pytest.param(b"accept-encoding", [b"gzip"], [b"gzip", b"gzip"], True, id="a-coding-twice"),
        pytest.param(b"accept-encoding", [b"gzip;q=0"], [b"gzip"], False, id="a-coding-refused"),
        pytest.param(b"accept-encoding", [b"gzip;q=0"], [b""], False, id="a-coding-refused-is-not-none-named"),
        pytest.param(b"accept-language", [b"de-CH,de;q=0.80"], [b"DE-ch , de;q=0.8"], True, id="languages-9110-12.5.4"),
        pytest.param(b"accept-language", [b"de, en"], [b"en, de"], False, id="order-of-languages-9110-12.5.4"),
        pytest.param(b"accept-language", [b"de;q=0.5"], [b"de;q=0.6"], False, id="other-weight"),
        pytest.param(b"accept-language", [b"de;q=7"], [b"de"], False, id="no-weight-at-all"),
        pytest.param(b"accept", [b"Text/HTML;Level=1"], [b"text/html; level=1"], True, id="types-9110-12.5.1"),
        pytest.param(b"accept", [b'a/b;p="X;Y"'], [b'a/b;p="x;y"'], False, id="case-of-a-quoted-parameter"),
        pytest.param(b"accept", [b"a/b," * 300], [b"a/b"], False, id="a-long-value"),
    ],
)
def test_9111_4_1_values_match_if_they_mean_the_same(
    name: bytes, one: list[bytes], other: list[bytes], *, same: bool
) -> None:
    first = keys.selecting([name], [(name, value) for value in one])
    second = keys.selecting([name], [(name, value) for value in other])
    assert (first == second) is same


def test_selecting_fields_are_sorted_and_their_values_are_not_kept() -> None:
    found = keys.selecting([b"x-b", b"x-a", b"x-b"], [(b"x-b", b"secret")])
    assert [name for name, _ in found] == [b"x-a", b"x-b"]
    assert found[0][1] is None
    assert found[1][1] is not None
    assert b"secret" not in found[1][1]


def test_what_the_application_never_sees_selects_nothing() -> None:
    assert keys.selecting([b"if-none-match", b"range", b"host", b"content-length"], [(b"range", b"bytes=0-1")]) == ()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param([], NO_NAMES, id="absent"),
        pytest.param([b"Accept, x-A", b"x-b"], frozenset({b"accept", b"x-a", b"x-b"}), id="several-lines"),
        pytest.param([b"accept, *"], None, id="anything-among-names"),
        pytest.param([b" , ,"], NO_NAMES, id="nothing-in-a-list"),
    ],
)
def test_9110_12_5_5_names_in_vary(values: list[bytes], names: frozenset[bytes] | None) -> None:
    assert keys.vary_names([(b"vary", value) for value in values]) == names


@given(field_lines, field_lines, st.sets(st.sampled_from([b"accept", b"accept-encoding", b"cookie", b"x-user"])))
def test_an_entry_matches_exactly_the_requests_whose_selecting_fields_are_its_own(
    stored: list[Header], headers: list[Header], names: set[bytes]
) -> None:
    entry = replace(ENTRY, selecting=keys.selecting(names, stored))
    assert keys.matches(entry, stored)
    assert keys.matches(entry, headers) == (keys.selecting(names, headers) == entry.selecting)


# -- selection ---------------------------------------------------------------------------------------------------------


def variant(value: bytes, *, at: float = NOW, **changes: object) -> Entry:
    return replace(ENTRY, selecting=keys.selecting([b"x-a"], [(b"x-a", value)]), answered_at=at, **changes)  # type: ignore[arg-type]


def part(first: int, last: int, *, etag: bytes = b'"v"', at: float = NOW) -> Entry:
    return replace(
        ENTRY,
        status=206,
        headers=[(b"etag", etag)],
        partial=Partial(first=first, last=last, complete=100),
        body=b"x" * (last - first + 1),
        answered_at=at,
    )


HEAD_ONLY = replace(ENTRY, method="HEAD", body=b"")
OLDER = replace(ENTRY, answered_at=NOW - 10)
DATED = replace(ENTRY, headers=[(b"date", format_date(NOW + 5))], answered_at=NOW - 10)
RANGED = asking((b"range", b"bytes=10-19"))


@pytest.mark.parametrize(
    ("stored", "request_", "chosen"),
    [
        pytest.param((), asking(), None, id="4.1-nothing"),
        pytest.param((variant(b"1"),), asking((b"x-a", b"2")), None, id="4.1-no-match"),
        pytest.param((variant(b"1"), variant(b"2")), asking((b"x-a", b"2")), 1, id="4.1-the-variant-that-matches"),
        pytest.param((OLDER, ENTRY), asking(), 1, id="4.1-the-most-recent"),
        pytest.param((ENTRY, DATED), asking(), 1, id="4.1-the-most-recent-by-date"),
        pytest.param((variant(b"1"), OLDER), asking((b"x-a", b"1")), 0, id="4.1-with-and-without-vary"),
        pytest.param((ENTRY,), asking(method="HEAD"), 0, id="4-get-answers-head"),
        pytest.param((HEAD_ONLY,), asking(method="HEAD"), 0, id="4-head-answers-head"),
        pytest.param((HEAD_ONLY,), asking(), None, id="4-head-does-not-answer-get"),
        pytest.param((part(0, 9),), asking(method="HEAD"), None, id="3.3-a-part-does-not-answer-head"),
        pytest.param((part(0, 9, at=NOW + 9), OLDER), asking(), 1, id="3.4-complete-before-parts"),
        pytest.param((part(0, 9, at=NOW + 9), part(10, 29)), RANGED, 1, id="3.4-the-part-that-has-the-range"),
    ],
)
def test_9111_4_1_selection(stored: tuple[Entry, ...], request_: Request, chosen: int | None) -> None:
    found = keys.select(stored, request_)
    assert found is (None if chosen is None else stored[chosen])


@given(st.lists(st.tuples(field_lines, st.floats(0, 100)), max_size=8), field_lines)
def test_what_is_selected_matches_and_is_found_if_anything_does(
    fills: list[tuple[list[Header], float]], headers: list[Header]
) -> None:
    names = [b"accept-encoding", b"x-user"]
    stored = [replace(ENTRY, selecting=keys.selecting(names, made), answered_at=at) for made, at in fills]
    found = keys.select(stored, asking(*headers))
    matching = [entry for entry in stored if keys.matches(entry, headers)]
    assert (found in matching) if matching else found is None


# -- what is kept under one key ----------------------------------------------------------------------------------------


def test_a_newcomer_replaces_its_own_variant_only() -> None:
    one, two = variant(b"1"), variant(b"2")
    new = variant(b"1", at=NOW + 1)
    assert keys.admit((one, two), new, NOW + 1, 8) == (new, two)


def test_what_is_of_no_use_any_more_makes_room() -> None:
    dead = variant(b"1")
    assert keys.admit((dead,), variant(b"2", at=NOW + 100), NOW + 100, 1) == (variant(b"2", at=NOW + 100),)


def test_ten_thousand_variants_cost_nothing_that_is_stored() -> None:
    stored: tuple[Entry, ...] = ()
    for number in range(64):
        stored = keys.admit(stored, variant(b"%d" % number), NOW, 64) or ()
    refused = [keys.admit(stored, variant(b"%d" % number), NOW, 64) for number in range(64, 10_064)]
    assert len(stored) == 64
    assert set(refused) == {None}


def test_a_full_shelf_still_renews_what_it_holds() -> None:
    stored = (variant(b"1"), variant(b"2"))
    assert keys.admit(stored, variant(b"2", at=NOW + 1), NOW + 1, 2) == (variant(b"2", at=NOW + 1), variant(b"1"))


def test_9111_4_3_5_a_head_that_did_not_confirm_makes_the_get_stale_from_now_on() -> None:
    new = replace(HEAD_ONLY, answered_at=NOW + 20)
    admitted = keys.admit((ENTRY,), new, NOW + 20, 8)
    assert admitted == (new, replace(ENTRY, lifetime=20.0))


def test_a_get_replaces_the_head() -> None:
    assert keys.admit((HEAD_ONLY,), ENTRY, NOW, 8) == (ENTRY,)


def test_a_head_replaces_a_head() -> None:
    new = replace(HEAD_ONLY, answered_at=NOW + 1)
    assert keys.admit((HEAD_ONLY,), new, NOW + 1, 8) == (new,)


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        pytest.param(part(12, 15), False, id="3.4-what-the-new-part-holds"),
        pytest.param(part(50, 59), True, id="3.4-another-part"),
        pytest.param(part(50, 59, etag=b'"old"'), False, id="3.4-a-part-of-another-representation"),
        pytest.param(ENTRY, True, id="3.4-complete-and-fresh"),
        pytest.param(replace(ENTRY, lifetime=0.0, stale_if_error=60.0), True, id="3.4-complete-and-stale"),
        pytest.param(replace(ENTRY, lifetime=-1e9), False, id="3.4-complete-and-past-all-use"),
        pytest.param(HEAD_ONLY, True, id="3.4-a-head"),
    ],
)
def test_what_a_part_replaces(old: Entry, *, kept: bool) -> None:
    new = part(10, 19)
    assert keys.admit((old,), new, NOW, 8) == ((new, old) if kept else (new,))
