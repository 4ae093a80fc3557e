"""Preconditions: RFC 9110 §13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.conditions import CONDITIONS, if_range_holds, validators, verdict
from tiercel._core.dates import format_date
from tiercel._core.entry import Header, Request

NOW = 1_800_000_000.0
MODIFIED = format_date(NOW - 100)
EARLIER = format_date(NOW - 101)
LATER = format_date(NOW - 99)

STRONG = [(b"etag", b'"a"'), (b"last-modified", MODIFIED)]
WEAK = [(b"etag", b'W/"a"')]
OBS_TEXT = [(b"etag", b'"\xff\xe9,"')]
DATED = [(b"last-modified", MODIFIED)]
NOTHING: list[Header] = []


def asking(*headers: Header, method: str = "GET") -> Request:
    return Request(method, "http", b"shop.example", b"/", headers)


def lines(name: str, *values: bytes) -> list[Header]:
    return [(name.encode(), value) for value in values]


IF_MATCH, IF_NONE_MATCH = "if-match", "if-none-match"
SINCE, UNMODIFIED_SINCE = "if-modified-since", "if-unmodified-since"

TABLE = [
    pytest.param(STRONG, [], 200, id="13-unconditional"),
    # §13.1.1 If-Match: the strong comparison
    pytest.param(STRONG, lines(IF_MATCH, b'"a"'), 200, id="13.1.1-same"),
    pytest.param(STRONG, lines(IF_MATCH, b'"b", "a"'), 200, id="13.1.1-in-a-list"),
    pytest.param(STRONG, lines(IF_MATCH, b'"b"', b'"a"'), 200, id="13.1.1-in-lines"),
    pytest.param(STRONG, lines(IF_MATCH, b'"b"'), 412, id="13.1.1-other"),
    pytest.param(STRONG, lines(IF_MATCH, b'W/"a"'), 412, id="13.1.1-weak-in-the-request"),
    pytest.param(WEAK, lines(IF_MATCH, b'W/"a"'), 412, id="13.1.1-weak-in-both"),
    pytest.param(STRONG, lines(IF_MATCH, b"*"), 200, id="13.1.1-any"),
    pytest.param(NOTHING, lines(IF_MATCH, b'"a"'), 412, id="13.1.1-no-entity-tag"),
    pytest.param(STRONG, lines(IF_MATCH, b"a"), 412, id="13.1.1-no-list-of-entity-tags"),
    # §13.1.2 If-None-Match: the weak comparison
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'"a"'), 304, id="13.1.2-same"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'W/"a"'), 304, id="13.1.2-weak-in-the-request"),
    pytest.param(WEAK, lines(IF_NONE_MATCH, b'"a"'), 304, id="13.1.2-weak-in-the-response"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'"b" ,, W/"a"'), 304, id="13.1.2-in-a-list"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'"b"', b'"a"'), 304, id="13.1.2-in-lines"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'"b"'), 200, id="13.1.2-other"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b"*"), 304, id="13.1.2-any"),
    pytest.param(NOTHING, lines(IF_NONE_MATCH, b"*"), 304, id="13.1.2-any-without-an-entity-tag"),
    pytest.param(NOTHING, lines(IF_NONE_MATCH, b'"a"'), 200, id="13.1.2-no-entity-tag"),
    pytest.param(OBS_TEXT, lines(IF_NONE_MATCH, b'"b", "\xff\xe9,"'), 304, id="8.8.3-obs-text-and-comma"),
    pytest.param([(b"etag", b'"a\\"')], lines(IF_NONE_MATCH, b'"a\\", "b"'), 304, id="8.8.3-backslash"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'w/"a"'), 200, id="8.8.3-case-of-the-weakness-mark"),
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'"x"a"'), 200, id="8.8.3-quotation-mark-within"),
    pytest.param([(b"etag", b"a")], lines(IF_NONE_MATCH, b"a"), 304, id="8.8.3-unquoted-in-both"),
    # §13.1.3 If-Modified-Since
    pytest.param(DATED, lines(SINCE, MODIFIED), 304, id="13.1.3-same"),
    pytest.param(DATED, lines(SINCE, LATER), 304, id="13.1.3-later"),
    pytest.param(DATED, lines(SINCE, EARLIER), 200, id="13.1.3-modified"),
    pytest.param(DATED, lines(SINCE, b"yesterday"), 200, id="13.1.3-no-date"),
    pytest.param(DATED, lines(SINCE, LATER, LATER), 200, id="13.1.3-several"),
    pytest.param([(b"date", MODIFIED)], lines(SINCE, LATER), 304, id="9111-4.3.2-by-date"),
    pytest.param([(b"date", MODIFIED)], lines(SINCE, EARLIER), 200, id="9111-4.3.2-by-later-date"),
    pytest.param(NOTHING, lines(SINCE, format_date(NOW)), 304, id="9111-4.3.2-by-arrival"),
    pytest.param(NOTHING, lines(SINCE, format_date(NOW - 1)), 200, id="9111-4.3.2-by-later-arrival"),
    # §13.1.4 If-Unmodified-Since
    pytest.param(DATED, lines(UNMODIFIED_SINCE, MODIFIED), 200, id="13.1.4-same"),
    pytest.param(DATED, lines(UNMODIFIED_SINCE, EARLIER), 412, id="13.1.4-modified"),
    pytest.param(DATED, lines(UNMODIFIED_SINCE, b"soon"), 200, id="13.1.4-no-date"),
    pytest.param(NOTHING, lines(UNMODIFIED_SINCE, EARLIER), 200, id="13.1.4-no-last-modified"),
    # §13.2.2 Precedence
    pytest.param(STRONG, lines(IF_NONE_MATCH, b'"b"') + lines(SINCE, LATER), 200, id="13.2.2-tag-before-date"),
    pytest.param(
        STRONG, lines(IF_MATCH, b'"a"') + lines(UNMODIFIED_SINCE, EARLIER), 200, id="13.2.2-match-before-date"
    ),
    pytest.param(STRONG, lines(IF_MATCH, b'"b"') + lines(IF_NONE_MATCH, b'"a"'), 412, id="13.2.2-match-first"),
    pytest.param(STRONG, lines(IF_MATCH, b'"a"') + lines(IF_NONE_MATCH, b'"a"'), 304, id="13.2.2-both-hold"),
    pytest.param(STRONG, lines(UNMODIFIED_SINCE, EARLIER) + lines(SINCE, LATER), 412, id="13.2.2-unmodified-first"),
]


@pytest.mark.parametrize(("response", "conditions", "expected"), TABLE)
def test_9110_13_conditions(response: list[Header], conditions: list[Header], expected: int) -> None:
    assert verdict(asking(*conditions), 200, response, NOW) == expected


@pytest.mark.parametrize("status", [301, 404, 410, 500])
def test_9110_13_2_1_a_response_that_is_no_success_is_not_conditional(status: int) -> None:
    assert verdict(asking((b"if-none-match", b"*")), status, STRONG, NOW) == 200
    assert verdict(asking((b"if-match", b'"b"')), status, STRONG, NOW) == 200


@pytest.mark.parametrize(("method", "expected"), [("GET", 304), ("HEAD", 304), ("QUERY", 200)])
def test_9110_13_1_3_a_date_is_a_condition_for_get_and_head_only(method: str, expected: int) -> None:
    assert verdict(asking((b"if-modified-since", LATER), method=method), 200, STRONG, NOW) == expected


def test_10008_2_6_a_query_may_be_conditional() -> None:
    assert verdict(asking((b"if-none-match", b'"a"'), method="QUERY"), 200, STRONG, NOW) == 304


@pytest.mark.parametrize(
    ("response", "given", "holds"),
    [
        pytest.param(STRONG, [], True, id="absent"),
        pytest.param(STRONG, [b'"a"'], True, id="same"),
        pytest.param(STRONG, [b'"b"'], False, id="other"),
        pytest.param(STRONG, [b'W/"a"'], False, id="weak-in-the-request"),
        pytest.param(WEAK, [b'W/"a"'], False, id="weak-in-both"),
        pytest.param(NOTHING, [b'"a"'], False, id="no-entity-tag"),
        pytest.param(DATED, [MODIFIED], True, id="date-same"),
        pytest.param(DATED, [LATER], False, id="date-later"),
        pytest.param(DATED, [EARLIER], False, id="date-earlier"),
        pytest.param(NOTHING, [MODIFIED], False, id="no-last-modified"),
        pytest.param([(b"last-modified", MODIFIED), (b"date", MODIFIED)], [MODIFIED], False, id="8.8.2.2-date-weak"),
        pytest.param(STRONG, [b"nonsense"], False, id="neither"),
        pytest.param(STRONG, [b'"a"', b'"a"'], False, id="several"),
    ],
)
def test_9110_13_1_5_if_range(response: list[Header], given: list[bytes], *, holds: bool) -> None:
    request = asking(*[(b"if-range", value) for value in given])
    assert if_range_holds(request, validators(response, NOW)) is holds


hostile = st.binary(max_size=40) | st.text(alphabet='W/"a, *\\', max_size=20).map(str.encode)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(CONDITIONS)), hostile), max_size=5),
    st.lists(st.tuples(st.sampled_from([b"etag", b"last-modified", b"date"]), hostile), max_size=4),
    st.sampled_from(["GET", "HEAD", "QUERY"]),
)
def test_hostile_conditions_get_a_verdict(conditions: list[Header], response: list[Header], method: str) -> None:
    assert verdict(asking(*conditions, method=method), 200, response, NOW) in {200, 304, 412}


@given(st.lists(hostile, max_size=4))
def test_hostile_entity_tags_never_match_one_that_is_not_among_them(values: list[bytes]) -> None:
    unguessable = b'"0123456789abcdef0123456789abcdef"'
    request = asking(*[(b"if-none-match", value) for value in values])
    anything = b", ".join(values) == b"*"
    assert verdict(request, 200, [(b"etag", unguessable)], NOW) == (304 if anything else 200)
