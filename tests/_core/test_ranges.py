"""Range requests and partial content: RFC 9110 §14, RFC 9111 §3.3 and §3.4."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.entry import Entry, Header, Partial, Request
from tiercel._core.ranges import RANGES_LIMIT, Span, combine, content_range, covers, wanted

NOW = 1_800_000_000.0
BODY = bytes(range(100))


def asking(value: bytes, *headers: Header, method: str = "GET") -> Request:
    return Request(method, "http", b"shop.example", b"/", [(b"range", value), *headers])


def part(first: int, last: int, *, complete: int | None = 100, etag: bytes = b'"v"', **changes: object) -> Entry:
    said = b"*" if complete is None else b"%d" % complete
    entry = Entry(
        method="GET",
        status=206,
        headers=[(b"etag", etag), (b"content-range", b"bytes %d-%d/%b" % (first, last, said))],
        body=BODY[first : last + 1],
        born=0,
        asked_at=NOW,
        answered_at=NOW,
        lifetime=60.0,
        partial=Partial(first=first, last=last, complete=complete),
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        pytest.param(b"bytes=0-9", [(0, 9)], id="14.1.2-closed"),
        pytest.param(b"bytes=90-", [(90, 99)], id="14.1.2-open"),
        pytest.param(b"bytes=-10", [(90, 99)], id="14.1.2-suffix"),
        pytest.param(b"bytes=-1000", [(0, 99)], id="14.1.2-suffix-longer-than-all"),
        pytest.param(b"bytes=50-1000", [(50, 99)], id="14.1.2-end-beyond"),
        pytest.param(b"bytes=50-99999999999999999999999999", [(50, 99)], id="14.1.2-end-far-beyond"),
        pytest.param(b"bytes=0000000000000000000000005-7", [(5, 7)], id="14.1.2-leading-zeros"),
        pytest.param(b"bytes=0-9,20-29, -5", [(0, 9), (20, 29), (95, 99)], id="14.1.2-several"),
        pytest.param(b"bytes=20-29,0-9", [(20, 29), (0, 9)], id="14.2-in-the-order-asked-for"),
        pytest.param(b"bytes=0-9,100-", [(0, 9)], id="14.2-one-is-satisfiable"),
        pytest.param(b"BYTES = 0-9 ,, 11-12,", [(0, 9), (11, 12)], id="14.1-case-and-empty-members"),
        pytest.param(b"bytes=100-", [], id="15.5.17-beyond"),
        pytest.param(b"bytes=9" + b"9" * 5000 + b"-", [], id="15.5.17-far-beyond"),
        pytest.param(b"bytes=-0", [], id="14.1.2-empty-suffix"),
        pytest.param(b"bytes=9-0", None, id="14.1.1-backwards-is-invalid"),
        pytest.param(b"bytes=0-9,9-0", None, id="14.1.1-one-invalid-of-several"),
        pytest.param(b"bytes=", None, id="14.1.1-none"),
        pytest.param(b"bytes", None, id="14.1.1-no-set"),
        pytest.param(b"bytes=a-b", None, id="14.1.1-no-numbers"),
        pytest.param(b"bytes=-", None, id="14.1.1-no-positions"),
        pytest.param(b"bytes=+1-2", None, id="14.1.1-sign"),
        pytest.param(b"bytes=0 - 9", None, id="14.1.1-white-space"),
        pytest.param(b"lines=0-9", None, id="14.1-other-unit"),
        pytest.param(b"bytes=0-9,5-20", None, id="14.2-overlapping"),
        pytest.param(b"bytes=0-9,9-20", None, id="14.2-overlapping-by-one-byte"),
        pytest.param(b"bytes=0-9,10-20", [(0, 9), (10, 20)], id="14.2-adjacent"),
        pytest.param(b"bytes=0-,0-,0-", None, id="14.2-the-same-again"),
        pytest.param(b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(17)), None, id="14.2-too-many"),
        pytest.param(b"bytes=" + b"," * 5000 + b"0-1", None, id="14.2-too-many-commas"),
    ],
)
def test_9110_14_which_bytes_are_wanted(value: bytes, spans: list[tuple[int, int]] | None) -> None:
    assert wanted(asking(value), [], NOW, 100) == (None if spans is None else [Span(*span) for span in spans])


@pytest.mark.parametrize("method", ["HEAD", "QUERY", "POST"])
def test_9110_14_2_range_is_for_get(method: str) -> None:
    assert wanted(asking(b"bytes=0-9", method=method), [], NOW, 100) is None


def test_9110_14_2_two_range_fields_are_none() -> None:
    assert wanted(asking(b"bytes=0-9", (b"range", b"bytes=0-9")), [], NOW, 100) is None


def test_9110_13_1_5_range_counts_only_while_if_range_holds() -> None:
    headers = [(b"etag", b'"v"')]
    assert wanted(asking(b"bytes=0-9", (b"if-range", b'"v"')), headers, NOW, 100) == [Span(0, 9)]
    assert wanted(asking(b"bytes=0-9", (b"if-range", b'"w"')), headers, NOW, 100) is None


def test_9110_14_4_of_nothing_no_range_can_be_told() -> None:
    assert wanted(asking(b"bytes=0-9"), [], NOW, 0) is None


@pytest.mark.parametrize(("value", "spans"), [(b"bytes=0-9", [Span(0, 9)]), (b"bytes=5-", None), (b"bytes=-5", None)])
def test_9110_14_4_where_the_length_is_unknown_only_closed_ranges_say_what_is_meant(
    value: bytes, spans: object
) -> None:
    assert wanted(asking(value), [], NOW, None) == spans


@given(
    st.binary(max_size=60) | st.text(alphabet="bytes=0123456789-, ", max_size=40).map(str.encode), st.integers(0, 200)
)
def test_hostile_ranges_are_ignored_or_within_the_representation(value: bytes, length: int) -> None:
    spans = wanted(asking(value), [], NOW, length)
    assert spans is None or (
        len(spans) <= RANGES_LIMIT and all(0 <= span.first <= span.last < length for span in spans)
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([b"bytes 0-9/100"], Partial(first=0, last=9, complete=100), id="complete-length"),
        pytest.param([b"bytes 0-9/*"], Partial(first=0, last=9, complete=None), id="unknown-length"),
        pytest.param([b"Bytes 0-9/10"], Partial(first=0, last=9, complete=10), id="14.1-case-of-the-unit"),
        pytest.param([], None, id="absent"),
        pytest.param([b"bytes 0-9/100", b"bytes 0-9/100"], None, id="repeated"),
        pytest.param([b"bytes 9-0/100"], None, id="backwards"),
        pytest.param([b"bytes 0-9/9"], None, id="beyond-the-end"),
        pytest.param([b"bytes */100"], None, id="unsatisfied"),
        pytest.param([b"bytes=0-9/100"], None, id="syntax-of-range"),
        pytest.param([b"lines 0-9/100"], None, id="other-unit"),
        pytest.param([b"bytes 0-9/" + b"9" * 5000], None, id="absurd"),
    ],
)
def test_9110_14_4_content_range(values: list[bytes], expected: Partial | None) -> None:
    assert content_range([(b"content-range", value) for value in values]) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(asking(b"bytes=10-19"), True, id="all-of-it"),
        pytest.param(asking(b"bytes=12-13,15-16"), True, id="pieces-of-it"),
        pytest.param(asking(b"bytes=10-20"), False, id="one-byte-more"),
        pytest.param(asking(b"bytes=9-9"), False, id="the-byte-before"),
        pytest.param(asking(b"bytes=10-"), False, id="to-the-end"),
        pytest.param(asking(b"bytes=200-"), True, id="beyond-the-end-it-knows"),
        pytest.param(asking(b"bytes=x"), False, id="invalid-means-everything"),
        pytest.param(asking(b"bytes=10-19", (b"if-range", b'"w"')), False, id="if-range-means-everything"),
        pytest.param(asking(b"bytes=10-19", (b"if-range", b'"v"')), True, id="if-range-holds"),
        pytest.param(Request("GET", "http", b"a", b"/", []), False, id="everything"),
    ],
)
def test_9111_3_3_what_a_part_can_answer(request_: Request, *, expected: bool) -> None:
    assert covers(part(10, 19), request_) is expected


def test_a_complete_response_can_answer_everything() -> None:
    assert covers(part(0, 99, partial=None), Request("GET", "http", b"a", b"/", []))


# -- combining ---------------------------------------------------------------------------------------------------------


def test_9111_3_4_overlapping_parts_become_one() -> None:
    joined = combine([part(0, 49)], part(40, 79))
    assert joined.partial == Partial(first=0, last=79, complete=100)
    assert joined.body == BODY[:80]
    assert (b"content-range", b"bytes 0-79/100") in joined.headers
    assert (b"content-length", b"80") in joined.headers
    assert joined.status == 206


def test_9111_3_4_parts_that_make_up_the_whole_are_a_200() -> None:
    joined = combine([part(0, 39), part(80, 99)], part(40, 79))
    assert (joined.status, joined.partial, joined.body) == (200, None, BODY)
    assert joined.headers == [(b"etag", b'"v"'), (b"content-length", b"100")]


def test_9110_15_3_7_3_the_newer_fields_replace_the_older() -> None:
    old = part(0, 49, headers=[(b"etag", b'"v"'), (b"x-a", b"old"), (b"x-b", b"old")], born=1)
    new = part(50, 99, headers=[(b"etag", b'"v"'), (b"x-a", b"new")], born=2)
    joined = combine([old], new)
    assert joined.headers == [(b"x-b", b"old"), (b"etag", b'"v"'), (b"x-a", b"new"), (b"content-length", b"100")]
    assert joined.born == 2


def test_9111_3_4_a_part_of_what_is_there_confirms_it() -> None:
    whole = part(0, 99, partial=None, status=200, headers=[(b"etag", b'"v"'), (b"content-length", b"100")])
    new = part(10, 19, answered_at=NOW + 50, born=7)
    assert combine([whole], new) == replace(whole, answered_at=NOW + 50, born=7)


OTHER = (b"x-a", b"0123456789abcdef")


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(part(0, 8), id="3.4-a-gap"),
        pytest.param(part(25, 40), id="3.4-a-gap-after"),
        pytest.param(part(12, 15), id="3.4-nothing-new"),
        pytest.param(part(0, 12, etag=b'"w"'), id="3.4-another-representation"),
        pytest.param(part(0, 12, etag=b'W/"v"'), id="3.4-a-weak-validator"),
        pytest.param(part(0, 12, headers=[]), id="3.4-no-validator"),
        pytest.param(part(0, 12, complete=99), id="3.4-another-length"),
        pytest.param(part(0, 12, selecting=(OTHER,)), id="4.1-another-variant"),
        pytest.param(part(0, 12, method="HEAD", partial=None, body=b""), id="3.4-a-head"),
        pytest.param(part(0, 12, status=404, partial=None), id="3.4-an-error"),
    ],
)
def test_9111_3_4_what_does_not_belong_together_stays_apart(old: Entry) -> None:
    joined = combine([old], part(10, 19))
    assert (joined.partial, joined.body) == (Partial(first=10, last=19, complete=100), BODY[10:20])


def test_a_length_that_one_part_knows_is_known_of_all() -> None:
    assert combine([part(0, 49)], part(50, 99, complete=None)).partial is None


def test_a_complete_response_combines_to_itself() -> None:
    whole = part(0, 99, partial=None, status=200)
    assert combine([], whole) is whole


pieces = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(sorted)


@given(st.lists(pieces, min_size=1, max_size=6))
def test_9111_3_4_whatever_is_combined_holds_the_bytes_of_the_representation(given_: list[list[int]]) -> None:
    stored: list[Entry] = []
    for first, last in given_:
        joined = combine(stored, part(first, last))
        stored.append(joined)
        start = 0 if joined.partial is None else joined.partial.first
        assert joined.body == BODY[start : start + len(joined.body)]
        assert start <= first
        assert last < start + len(joined.body)
