"""How stored responses leave us: RFC 9110 §13 to §15, RFC 9111 §5.1, RFC 9211, RFC 9213, RFC 9875."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tiercel._core.dates import format_date
from tiercel._core.entry import Entry, Head, Header, Partial, Request
from tiercel._core.policy import Policy
from tiercel._core.present import conditional, dress, hit_headers, reply, slice_of, strong_etag
from tiercel._core.status import CacheStatus

NOW = 1_800_000_000.0
BODY = bytes(range(256)) * 4
HIT = CacheStatus(hit=True, ttl=42)
STATUS_LINE = (b"cache-status", b"tiercel; hit; ttl=42")
HEADERS = [
    (b"content-type", b"text/plain"),
    (b"content-length", b"1024"),
    (b"etag", b'"v"'),
    (b"last-modified", format_date(NOW - 100)),
    (b"cache-control", b"max-age=60"),
    (b"vary", b"accept"),
    (b"set-nothing", b"at all"),
]
ENTRY = Entry(
    method="GET",
    status=200,
    headers=HEADERS,
    body=BODY,
    born=0,
    asked_at=NOW - 10,
    answered_at=NOW - 10,
    lifetime=60.0,
)
PART = replace(
    ENTRY,
    status=206,
    headers=[*HEADERS[2:], (b"content-range", b"bytes 100-199/1024"), (b"content-length", b"100")],
    body=BODY[100:200],
    partial=Partial(first=100, last=199, complete=1024),
)


def asking(*headers: Header, method: str = "GET") -> Request:
    return Request(method, "http", b"shop.example", b"/", headers)


def fields(headers: list[Header]) -> dict[bytes, bytes]:
    return dict(headers)


# -- hits --------------------------------------------------------------------------------------------------------------


def test_a_hit_is_what_was_stored_and_age_and_cache_status() -> None:
    answer = reply(ENTRY, asking(), NOW, HIT)
    assert answer == (200, [*HEADERS, (b"age", b"10"), STATUS_LINE], BODY)


def test_9110_9_3_2_head_gets_the_fields_of_get_and_no_body() -> None:
    assert reply(ENTRY, asking(method="HEAD"), NOW, HIT) == (200, [*HEADERS, (b"age", b"10"), STATUS_LINE], b"")


@pytest.mark.parametrize(
    ("entry", "now", "age"),
    [
        pytest.param(ENTRY, NOW + 0.9, b"10", id="5.1-whole-seconds"),
        pytest.param(replace(ENTRY, initial_age=7.0), NOW, b"17", id="4.2.3-age-on-arrival"),
        pytest.param(ENTRY, NOW - 1000, b"0", id="4.2.3-the-clock-stepped-back"),
    ],
)
def test_9111_5_1_age(entry: Entry, now: float, age: bytes) -> None:
    assert fields(hit_headers(entry, now, HIT))[b"age"] == age


def test_9211_2_our_status_comes_after_those_of_caches_nearer_to_the_origin() -> None:
    entry = replace(ENTRY, headers=[(b"cache-status", b"Inner; hit"), *HEADERS])
    found = [value for name, value in hit_headers(entry, NOW, HIT) if name == b"cache-status"]
    assert found == [b"Inner; hit", b"tiercel; hit; ttl=42"]


# -- conditions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_9110_15_4_5_a_304_has_the_fields_that_guide_caches_and_no_content(method: str) -> None:
    answer = reply(ENTRY, asking((b"if-none-match", b'"v"'), method=method), NOW, HIT)
    kept = {b"etag", b"cache-control", b"vary", b"set-nothing", b"age", b"cache-status"}
    assert (answer.status, set(fields(answer.headers)), answer.body) == (304, kept, b"")


def test_9110_15_4_5_without_an_entity_tag_a_304_has_last_modified() -> None:
    dated = replace(ENTRY, headers=[line for line in HEADERS if line[0] != b"etag"])
    answer = reply(dated, asking((b"if-modified-since", format_date(NOW))), NOW, HIT)
    assert (answer.status, fields(answer.headers)[b"last-modified"]) == (304, format_date(NOW - 100))


def test_9110_15_5_13_a_412_is_nothing_to_keep() -> None:
    answer = reply(ENTRY, asking((b"if-match", b'"w"')), NOW, HIT)
    assert (answer.status, answer.body) == (412, b"")
    assert fields(answer.headers).keys().isdisjoint({b"cache-control", b"age", b"content-type"})
    assert fields(answer.headers)[b"content-length"] == b"0"


def test_9110_13_2_2_a_condition_that_fails_comes_before_range() -> None:
    request = asking((b"if-none-match", b'"v"'), (b"range", b"bytes=0-9"))
    assert reply(ENTRY, request, NOW, HIT).status == 304


# -- ranges ------------------------------------------------------------------------------------------------------------


def test_9110_15_3_7_1_one_range() -> None:
    answer = reply(ENTRY, asking((b"range", b"bytes=100-199")), NOW, HIT)
    found = fields(answer.headers)
    assert (answer.status, answer.body) == (206, BODY[100:200])
    assert (found[b"content-range"], found[b"content-length"]) == (b"bytes 100-199/1024", b"100")
    assert (found[b"etag"], found[b"content-type"], found[b"age"]) == (b'"v"', b"text/plain", b"10")


def parts_of(content_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    """Content-Range and content of each part, read the way RFC 2046 §5.1 says."""
    kind, _, boundary = content_type.partition(b"; boundary=")
    assert kind == b"multipart/byteranges"
    preamble, *parts, epilogue = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert (preamble, epilogue) == (b"", b"--\r\n")
    found: list[tuple[bytes, bytes]] = []
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        named = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
        found.append((named[b"content-range"], content))
    return found


def test_9110_14_6_several_ranges() -> None:
    answer = reply(ENTRY, asking((b"range", b"bytes=1000-, 0-9")), NOW, HIT)
    found = fields(answer.headers)
    assert (answer.status, found[b"content-length"]) == (206, b"%d" % len(answer.body))
    assert b"content-range" not in found
    assert parts_of(found[b"content-type"], answer.body) == [
        (b"bytes 1000-1023/1024", BODY[1000:]),
        (b"bytes 0-9/1024", BODY[:10]),
    ]
    assert answer.body.count(b"content-type: text/plain\r\n") == 2


def test_9110_14_6_the_same_ranges_get_the_same_bytes() -> None:
    request = asking((b"range", b"bytes=0-9,20-29"))
    assert reply(ENTRY, request, NOW, HIT) == reply(ENTRY, request, NOW, HIT)


def test_2046_5_1_1_a_boundary_seen_before_does_no_harm_in_the_content() -> None:
    request = asking((b"range", b"bytes=0-63,64-"))
    boundary = fields(reply(ENTRY, request, NOW, HIT).headers)[b"content-type"].partition(b"; boundary=")[2]
    tricky = replace(ENTRY, body=(BODY[:64] + b"\r\n--" + boundary + b"--\r\n" + BODY)[:1024])
    answer = reply(tricky, request, NOW, HIT)
    contents = parts_of(fields(answer.headers)[b"content-type"], answer.body)
    assert b"".join(content for _, content in contents) == tricky.body


def test_9110_15_5_17_a_range_that_cannot_be_satisfied() -> None:
    answer = reply(ENTRY, asking((b"range", b"bytes=5000-")), NOW, HIT)
    found = fields(answer.headers)
    assert (answer.status, found[b"content-range"], answer.body) == (416, b"bytes */1024", b"")
    assert b"cache-control" not in found


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(asking((b"range", b"bytes=9-0")), 200, id="14.2-invalid"),
        pytest.param(asking((b"range", b"bytes=0-600,500-")), 200, id="14.2-overlapping"),
        pytest.param(asking((b"range", b"bytes=0-9"), method="HEAD"), 200, id="14.2-head"),
        pytest.param(asking((b"range", b"bytes=0-9"), (b"if-range", b'"w"')), 200, id="13.1.5-if-range-fails"),
        pytest.param(asking((b"range", b"bytes=0-9"), (b"if-range", b'"v"')), 206, id="13.1.5-if-range-holds"),
        pytest.param(
            asking((b"range", b"bytes=0-9"), (b"if-range", format_date(NOW - 100))), 206, id="13.1.5-if-range-date"
        ),
        pytest.param(asking((b"if-range", b'"v"')), 200, id="13.1.5-if-range-alone"),
    ],
)
def test_9110_14_2_when_range_counts(request_: Request, status: int) -> None:
    assert reply(ENTRY, request_, NOW, HIT).status == status


@pytest.mark.parametrize("status", [203, 404, 301])
def test_9110_14_2_range_is_about_a_200(status: int) -> None:
    answer = reply(replace(ENTRY, status=status), asking((b"range", b"bytes=0-9")), NOW, HIT)
    assert (answer.status, answer.body) == (status, BODY)


def test_9111_3_3_a_range_out_of_a_part() -> None:
    answer = reply(PART, asking((b"range", b"bytes=110-119")), NOW, HIT)
    assert (answer.status, answer.body) == (206, BODY[110:120])
    assert fields(answer.headers)[b"content-range"] == b"bytes 110-119/1024"


def test_a_part_that_is_not_what_was_asked_for_goes_out_as_what_it_is() -> None:
    answer = reply(PART, asking((b"range", b"bytes=0-9")), NOW, HIT)
    assert (answer.status, answer.body) == (206, PART.body)
    assert fields(answer.headers)[b"content-range"] == b"bytes 100-199/1024"


cuts = st.lists(st.integers(1, len(BODY) - 1), min_size=1, max_size=15, unique=True).map(sorted)


@given(cuts)
def test_9110_14_slices_that_join_concatenate_to_the_body(cuts: list[int]) -> None:
    edges = [0, *cuts, len(BODY)]
    ranges = [b"%d-%d" % (first, stop - 1) for first, stop in pairwise(edges)]
    single = [reply(ENTRY, asking((b"range", b"bytes=" + one)), NOW, HIT) for one in ranges]
    assert b"".join(answer.body for answer in single) == BODY
    answer = reply(ENTRY, asking((b"range", b"bytes=" + b",".join(ranges))), NOW, HIT)
    contents = parts_of(fields(answer.headers)[b"content-type"], answer.body)
    assert b"".join(content for _, content in contents) == BODY


hostile = st.binary(max_size=30)
names = st.sampled_from([b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"cache-control"])


@given(st.lists(st.tuples(names, hostile), max_size=6), st.sampled_from(["GET", "HEAD", "QUERY"]))
def test_a_hostile_request_gets_a_response(headers: list[Header], method: str) -> None:
    for entry in (ENTRY, PART):
        answer = reply(entry, asking(*headers, method=method), NOW, HIT)
        assert answer.status in {200, 206, 304, 412, 416}
        head = Head(status=entry.status, headers=entry.headers)
        conditional(head, asking(*headers, method=method), NOW)
        slice_of(head, asking(*headers, method=method), NOW)


@given(st.binary(max_size=40).map(lambda value: b"bytes=" + value))
def test_an_invalid_range_is_ignored(value: bytes) -> None:
    answer = reply(ENTRY, asking((b"range", value)), NOW, HIT)
    assume(answer.status == 200)
    assert answer == reply(ENTRY, asking(), NOW, HIT)


# -- responses whose body is still to come -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param((), None, id="13-unconditional"),
        pytest.param(((b"if-none-match", b'"v"'),), 304, id="13.1.2-not-modified"),
        pytest.param(((b"if-none-match", b'"w"'),), None, id="13.1.2-modified"),
        pytest.param(((b"if-match", b'"w"'),), 412, id="13.1.1-no-match"),
    ],
)
def test_9110_13_conditions_are_decided_by_the_head(headers: tuple[Header, ...], status: int | None) -> None:
    found = conditional(Head(status=200, headers=HEADERS), asking(*headers), NOW)
    assert (None if found is None else found.status) == status
    assert found is None or b"content-type" not in dict(found.headers)


@pytest.mark.parametrize(
    ("head", "request_", "expected"),
    [
        pytest.param(Head(status=200, headers=HEADERS), asking((b"range", b"bytes=10-19")), (10, 20), id="one-range"),
        pytest.param(Head(status=200, headers=HEADERS), asking((b"range", b"bytes=1000-")), (1000, 1024), id="open"),
        pytest.param(Head(status=200, headers=HEADERS), asking((b"range", b"bytes=-24")), (1000, 1024), id="suffix"),
        pytest.param(Head(status=200, headers=HEADERS), asking(), None, id="none"),
        pytest.param(Head(status=200, headers=HEADERS), asking((b"range", b"bytes=0-9,20-29")), None, id="several"),
        pytest.param(Head(status=200, headers=HEADERS), asking((b"range", b"bytes=5000-")), None, id="beyond"),
        pytest.param(
            Head(status=200, headers=HEADERS),
            asking((b"range", b"bytes=0-9"), (b"if-range", b'"w"')),
            None,
            id="if-range",
        ),
        pytest.param(Head(status=200, headers=HEADERS[2:]), asking((b"range", b"bytes=0-9")), None, id="no-length"),
        pytest.param(
            Head(status=200, headers=[(b"content-length", b"+5")]),
            asking((b"range", b"bytes=0-1")),
            None,
            id="no-number",
        ),
        pytest.param(Head(status=404, headers=HEADERS), asking((b"range", b"bytes=0-9")), None, id="no-success"),
    ],
)
def test_9110_14_a_range_of_a_body_that_is_still_to_come(
    head: Head, request_: Request, expected: tuple[int, int] | None
) -> None:
    found = slice_of(head, request_, NOW)
    assert (None if found is None else found[1:]) == expected
    if found is not None:
        first, stop = found[1:]
        assert found[0].status == 206
        assert (b"content-range", b"bytes %d-%d/1024" % (first, stop - 1)) in found[0].headers
        assert (b"content-length", b"%d" % (stop - first)) in found[0].headers


# -- entity tags -------------------------------------------------------------------------------------------------------


def test_9110_8_8_3_3_an_entity_tag_is_of_the_content_and_its_coding() -> None:
    tags = {strong_etag(b"a", b""), strong_etag(b"b", b""), strong_etag(b"a", b"gzip"), strong_etag(b"pa", b"gzi")}
    assert len(tags) == 4
    assert strong_etag(b"a", b"gzip") == strong_etag(b"a", b"gzip")
    assert all(tag.startswith(b'"') and tag.endswith(b'"') and tag.count(b'"') == 2 for tag in tags)


# -- what the outside is told ------------------------------------------------------------------------------------------

CC, CDN = b"cache-control", b"cdn-cache-control"
QUIET = Policy(ttl=300)
WINDOWS = Policy(ttl=300, browser_ttl=60, cdn_ttl=600, stale_while_revalidate=30, stale_if_error=90)


@pytest.mark.parametrize(
    ("policy", "guarded", "status", "said", "told"),
    [
        pytest.param(QUIET, False, 200, [], [(CC, b"max-age=0, must-revalidate")], id="5.2.2.2-revalidate"),
        pytest.param(QUIET, True, 200, [], [(CC, b"private, max-age=0, must-revalidate")], id="5.2.2.7-guarded"),
        pytest.param(
            WINDOWS,
            False,
            200,
            [],
            [
                (CC, b"max-age=60, stale-while-revalidate=30, stale-if-error=90"),
                (CDN, b"max-age=600, stale-while-revalidate=30, stale-if-error=90"),
            ],
            id="9213-cdn",
        ),
        pytest.param(
            WINDOWS,
            True,
            200,
            [],
            [(CC, b"private, max-age=60, stale-while-revalidate=30, stale-if-error=90")],
            id="9213-never-when-guarded",
        ),
        pytest.param(
            replace(QUIET, browser_ttl=0.5), False, 200, [], [(CC, b"max-age=0, must-revalidate")], id="5.2-fractions"
        ),
        pytest.param(WINDOWS, False, 200, [(CC, b"max-age=5")], [(CC, b"max-age=5")], id="the-endpoint-said-something"),
        pytest.param(
            WINDOWS,
            False,
            200,
            [(CDN, b"x")],
            [(CDN, b"x"), (CC, b"max-age=60, stale-while-revalidate=30, stale-if-error=90")],
            id="9213-the-endpoint-told-cdns",
        ),
        pytest.param(QUIET, True, 200, [(CC, b"max-age=5")], [(CC, b"private, max-age=5")], id="5.2.2.7-made-private"),
        pytest.param(QUIET, True, 200, [(CC, b"public, max-age=5")], [(CC, b"public, max-age=5")], id="5.2.2.9-public"),
        pytest.param(QUIET, True, 200, [(CC, b"s-maxage=5")], [(CC, b"s-maxage=5")], id="5.2.2.10-for-shared-caches"),
        pytest.param(QUIET, True, 200, [(CC, b"no-store")], [(CC, b"no-store")], id="5.2.2.5-no-store"),
        pytest.param(QUIET, False, 200, [(b"expires", b"0")], [(b"expires", b"0")], id="5.3-expires-is-a-word-too"),
        pytest.param(
            QUIET, True, 200, [(b"expires", b"0")], [(b"expires", b"0"), (CC, b"private")], id="5.3-expires-guarded"
        ),
        pytest.param(WINDOWS, False, 404, [], [], id="an-error-is-not-kept"),
        pytest.param(WINDOWS, True, 404, [], [(CC, b"private")], id="nor-a-guarded-one"),
        pytest.param(
            WINDOWS,
            False,
            200,
            [(b"set-cookie", b"a=b")],
            [(b"set-cookie", b"a=b"), (CC, b"private, max-age=60, stale-while-revalidate=30, stale-if-error=90")],
            id="set-cookie-is-for-one",
        ),
    ],
)
def test_what_is_said_of_reuse(
    policy: Policy, status: int, said: list[Header], told: list[Header], *, guarded: bool
) -> None:
    head = Head(status=status, headers=said)
    assert dress(head, policy, declared=True, guarded=guarded, tags=(), selecting_names=()).headers == told


def test_in_headers_mode_nothing_is_said_for_the_endpoint() -> None:
    head = Head(status=200, headers=[(b"etag", b'"v"')])
    assert dress(head, WINDOWS, declared=False, guarded=False, tags=(), selecting_names=()) == head


def dressed(head: list[Header], *, tags: tuple[str, ...] = (), names: tuple[bytes, ...] = ()) -> list[Header]:
    head_ = Head(status=200, headers=head)
    return list(dress(head_, QUIET, declared=False, guarded=False, tags=tags, selecting_names=names).headers)


def test_9875_2_groups_are_the_tags() -> None:
    assert dressed([], tags=("product:42", 'a "b"')) == [(b"cache-groups", b'"product:42", "a \\"b\\""')]


@pytest.mark.parametrize(
    "tag",
    [
        pytest.param("u:" + "0" * 32, id="of-our-own-making"),
        pytest.param("x" * 33, id="9875-2-longer-than-all-must-read"),
        pytest.param("größe", id="9651-3.3.3-not-ascii"),
        pytest.param("a\nb", id="9651-3.3.3-control"),
        pytest.param("", id="empty"),
    ],
)
def test_9875_2_what_is_not_sent_as_a_group(tag: str) -> None:
    assert dressed([], tags=(tag, "kept")) == [(b"cache-groups", b'"kept"')]


def test_9875_2_no_more_groups_than_all_must_read() -> None:
    ((_, value),) = dressed([], tags=tuple(f"t{number}" for number in range(40)))
    assert value.count(b",") == 31


@pytest.mark.parametrize(
    ("head", "names", "expected"),
    [
        pytest.param([], (b"x-a", b"x-b"), [(b"vary", b"x-a, x-b")], id="added"),
        pytest.param([], (), [], id="none"),
        pytest.param([(b"vary", b"X-A")], (b"x-a",), [(b"vary", b"X-A")], id="said-already"),
        pytest.param([(b"vary", b"X-C"), (b"vary", b"x-d")], (b"x-a",), [(b"vary", b"X-C, x-d, x-a")], id="one-line"),
        pytest.param([(b"vary", b"*")], (b"x-a",), [(b"vary", b"*")], id="anything"),
    ],
)
def test_9110_12_5_5_vary_names_what_selects(
    head: list[Header], names: tuple[bytes, ...], expected: list[Header]
) -> None:
    assert dressed(head, names=names) == expected


field_lines = st.lists(
    st.tuples(st.sampled_from([CC, CDN, b"vary", b"expires", b"cache-groups", b"set-cookie"]), st.binary(max_size=20)),
    max_size=5,
)


@given(headers=field_lines, status=st.integers(200, 599), declared=st.booleans(), guarded=st.booleans())
def test_dressing_hostile_heads_keeps_private_what_is_guarded(
    headers: list[Header], status: int, *, declared: bool, guarded: bool
) -> None:
    head = Head(status=status, headers=headers)
    told = dress(head, WINDOWS, declared=declared, guarded=guarded, tags=("a",), selecting_names=[b"x"])
    new = [line for line in told.headers if line not in headers]
    if guarded and declared:
        assert CDN not in dict(new)
        said = b",".join(value for name, value in told.headers if name == CC).lower()
        assert any(word in said for word in (b"private", b"public", b"no-store", b"s-maxage"))
