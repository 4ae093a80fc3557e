"""Freshening what is stored: RFC 9111 §3.2, §4.3.3 to §4.3.5."""

from dataclasses import replace

import pytest

from tiercel._core import keys, present
from tiercel._core.dates import format_date
from tiercel._core.entry import Entry, Head, Header, Request
from tiercel._core.policy import Policy, Rules
from tiercel._core.rfc9111 import Asked, Discard, Freshen, Store, on_head

NOW = 1_800_000_000.0
CC = b"cache-control"
MODIFIED = format_date(NOW - 9_000)
OLD = Entry(
    method="GET",
    status=200,
    headers=[
        (b"date", format_date(NOW - 100)),
        (CC, b"max-age=60"),
        (b"etag", b'"v"'),
        (b"last-modified", MODIFIED),
        (b"content-length", b"5"),
        (b"x-old", b"1"),
    ],
    body=b"hello",
    tags=("product:42",),
    born=1,
    asked_at=NOW - 100,
    answered_at=NOW - 100,
    lifetime=60.0,
)
DECLARED = Policy(ttl=300, browser_ttl=20, cdn_ttl=600, stale_if_error=90)


def asked(
    entry: Entry | None = OLD, *, method: str = "GET", policy: Policy | None = None, guarded: bool = False
) -> Asked:
    return Asked(
        request=Request(method, "http", b"shop.example", b"/", [(b"x-a", b"1")]),
        entry=entry,
        born=7,
        asked_at=NOW,
        policy=policy or Policy(),
        rules=Rules(),
        declared=policy is not None,
        guarded=guarded,
    )


def freshened(asked_: Asked, *headers: Header, status: int = 304) -> Entry:
    found = on_head(asked_, Head(status=status, headers=headers), NOW)
    assert isinstance(found, Freshen), found
    return found.entry


def tagged(etag: bytes | None, modified: bytes | None = None) -> Entry:
    headers = [(b"etag", etag)] if etag is not None else []
    return replace(OLD, headers=headers if modified is None else [*headers, (b"last-modified", modified)])


@pytest.mark.parametrize(
    ("entry", "headers", "expected"),
    [
        pytest.param(OLD, [(b"etag", b'"v"')], "", id="4.3.4-same-strong"),
        pytest.param(OLD, [(b"etag", b'"w"')], "other-representation", id="4.3.4-other-strong"),
        pytest.param(OLD, [(b"etag", b'W/"v"')], "", id="4.3.4-same-weak"),
        pytest.param(tagged(b'W/"v"'), [(b"etag", b'W/"v"')], "", id="4.3.4-both-weak"),
        pytest.param(tagged(b'W/"v"'), [(b"etag", b'"v"')], "other-representation", id="4.3.4-strong-for-weak"),
        pytest.param(tagged(None, MODIFIED), [(b"last-modified", MODIFIED)], "", id="4.3.4-same-date"),
        pytest.param(
            tagged(None, MODIFIED),
            [(b"last-modified", format_date(NOW))],
            "other-representation",
            id="4.3.4-other-date",
        ),
        pytest.param(OLD, [], "", id="4.3.4-no-validator-answers-the-one-that-was-sent"),
        pytest.param(tagged(None), [], "not-modified", id="4.3.3-none-was-sent"),
        pytest.param(None, [(b"etag", b'"v"')], "not-modified", id="4.3.3-nothing-was-stored"),
        pytest.param(replace(OLD, status=404), [], "not-modified", id="9110-13.2.1-errors-are-not-conditional"),
    ],
)
def test_9111_4_3_4_what_a_304_renews(entry: Entry | None, headers: list[Header], expected: str) -> None:
    found = on_head(asked(entry), Head(status=304, headers=headers), NOW)
    assert (found.reason if isinstance(found, Discard) else "") == expected
    assert isinstance(found, Freshen | Discard)


def test_9111_4_3_4_what_is_renewed_is_as_new_as_the_304() -> None:
    entry = freshened(asked(), (CC, b"max-age=10"), (b"etag", b'"v"'))
    assert (entry.body, entry.status, entry.method) == (OLD.body, 200, "GET")
    assert (entry.answered_at, entry.asked_at, entry.born) == (NOW, NOW, 7)
    assert (entry.initial_age, entry.lifetime, entry.fresh_until) == (0.0, 10, NOW + 10)


def test_9111_4_3_4_what_the_304_does_not_say_stays() -> None:
    entry = freshened(asked())
    assert entry.lifetime == 60
    assert (b"x-old", b"1") in entry.headers
    assert entry.tags == OLD.tags


def test_9111_4_2_3_the_date_of_the_old_answer_does_not_age_the_new_one() -> None:
    assert freshened(asked()).initial_age == 0.0
    assert freshened(asked(), (b"date", format_date(NOW - 7))).initial_age == 7.0
    assert freshened(asked(), (b"age", b"9")).initial_age == 9.0


@pytest.mark.parametrize(
    ("line", "updated"),
    [
        pytest.param((b"x-old", b"2"), True, id="any-field"),
        pytest.param((b"x-new", b"2"), True, id="a-new-field"),
        pytest.param((b"content-type", b"a/b"), True, id="content-type"),
        pytest.param((b"content-security-policy", b"x"), True, id="content-security-policy"),
        pytest.param((b"content-length", b"0"), False, id="content-length"),
        pytest.param((b"content-encoding", b"gzip"), False, id="content-encoding"),
        pytest.param((b"content-range", b"bytes 0-1/2"), False, id="content-range"),
        pytest.param((b"set-cookie", b"a=b"), False, id="set-cookie"),
        pytest.param((b"connection", b"x"), False, id="connection"),
        pytest.param((b"transfer-encoding", b"chunked"), False, id="transfer-encoding"),
        pytest.param((b"age", b"5"), False, id="age"),
        pytest.param((b"cache-status", b"Inner; hit"), False, id="cache-status"),
    ],
)
def test_9111_3_2_fields_that_are_updated(line: Header, *, updated: bool) -> None:
    headers = freshened(asked(), line).headers
    assert (line in headers) is updated
    assert [name for name, _ in headers].count(line[0]) <= 1


def test_9111_3_2_all_lines_of_a_field_are_replaced() -> None:
    old = replace(OLD, headers=[*OLD.headers, (b"x-old", b"2")])
    headers = freshened(asked(old), (b"x-old", b"3"), (b"x-old", b"4")).headers
    assert [value for name, value in headers if name == b"x-old"] == [b"3", b"4"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param((CC, b"no-store"), id="5.2.2.5-no-store"),
        pytest.param((CC, b"private"), id="5.2.2.7-private"),
        pytest.param((b"vary", b"*"), id="4.1-vary-any"),
    ],
)
def test_9111_3_what_may_not_be_stored_answers_once_and_is_never_served_unasked(line: Header) -> None:
    entry = freshened(asked(), line)
    assert entry.must_validate
    assert entry.fresh_until <= NOW


def test_9111_4_1_the_304_may_add_to_what_selects() -> None:
    old = replace(OLD, selecting=keys.selecting([b"x-b"], []))
    entry = freshened(asked(old), (b"vary", b"X-A"))
    assert entry.selecting == keys.selecting([b"x-a", b"x-b"], [(b"x-a", b"1")])


# -- declared mode: what is stored carries words of ours ---------------------------------------------------------------


def dressed(entry: Entry, policy: Policy, *, guarded: bool = False) -> Entry:
    head = Head(status=entry.status, headers=entry.headers)
    told = present.dress(head, policy, declared=True, guarded=guarded, tags=(), selecting_names=())
    return replace(entry, headers=told.headers)


QUIET = replace(OLD, headers=[line for line in OLD.headers if line[0] != CC], lifetime=300.0)


@pytest.mark.parametrize("guarded", [False, True])
def test_what_we_told_browsers_is_not_what_the_endpoint_said(*, guarded: bool) -> None:
    old = dressed(QUIET, DECLARED, guarded=guarded)
    entry = freshened(asked(old, policy=DECLARED, guarded=guarded))
    assert (entry.lifetime, entry.must_validate, entry.stale_if_error) == (300, False, 90)
    assert (CC in dict(old.headers), entry.headers) == (True, [line for line in old.headers if line[0] != b"date"])


def test_a_softly_cut_response_is_fresh_again_once_it_was_validated() -> None:
    cut = replace(dressed(QUIET, DECLARED), lifetime=0.0, stale_while_revalidate=300.0)
    assert freshened(asked(cut, policy=DECLARED)).lifetime == 300


@pytest.mark.parametrize("said", [b"max-age=5", b"max-age=5, must-revalidate"])
@pytest.mark.parametrize("guarded", [False, True])
def test_what_the_endpoint_said_still_counts(said: bytes, *, guarded: bool) -> None:
    spoken = replace(QUIET, headers=[*QUIET.headers, (CC, said)], lifetime=5.0, must_revalidate=b"must" in said)
    entry = freshened(asked(dressed(spoken, DECLARED, guarded=guarded), policy=DECLARED, guarded=guarded))
    assert (entry.lifetime, entry.must_revalidate) == (5, b"must" in said)


def test_what_the_endpoint_says_in_the_same_words_as_we_do_is_still_its_own() -> None:
    policy = Policy(ttl=300)
    spoken = replace(
        QUIET, headers=[*QUIET.headers, (CC, b"max-age=0, must-revalidate")], lifetime=0.0, must_revalidate=True
    )
    assert freshened(asked(spoken, policy=policy)).lifetime == 0


def test_an_expires_of_a_guarded_endpoint_still_counts() -> None:
    spoken = replace(QUIET, headers=[*QUIET.headers, (b"expires", format_date(NOW + 5))], lifetime=105.0)
    old = dressed(spoken, DECLARED, guarded=True)
    assert (CC, b"private") in old.headers
    assert freshened(asked(old, policy=DECLARED, guarded=True)).lifetime == 5


# -- HEAD --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "confirmed"),
    [
        pytest.param([(b"etag", b'"v"')], True, id="same-entity-tag"),
        pytest.param([(b"last-modified", MODIFIED)], True, id="same-date"),
        pytest.param([(b"etag", b'"v"'), (b"content-length", b"5")], True, id="same-length"),
        pytest.param([(b"etag", b'"v"'), (b"content-length", b"6")], False, id="other-length"),
        pytest.param([(b"etag", b'"w"'), (b"last-modified", MODIFIED)], False, id="other-entity-tag"),
        pytest.param([(b"etag", b'"v"'), (b"last-modified", format_date(NOW))], False, id="other-date"),
        pytest.param([(b"content-length", b"5")], False, id="no-validator"),
    ],
)
def test_9111_4_3_5_a_head_freshens_the_get_that_it_confirms(headers: list[Header], *, confirmed: bool) -> None:
    found = on_head(asked(method="HEAD"), Head(status=200, headers=[(CC, b"max-age=30"), *headers]), NOW)
    if confirmed:
        assert isinstance(found, Freshen)
        assert (found.entry.method, found.entry.body, found.entry.lifetime) == ("GET", b"hello", 30)
    else:
        assert isinstance(found, Store)
        assert found.entry.method == "HEAD"


def test_9111_4_3_5_only_a_200_confirms() -> None:
    assert isinstance(on_head(asked(method="HEAD"), Head(status=404, headers=[(b"etag", b'"v"')]), NOW), Discard)


def test_9111_4_3_5_a_get_is_stored_anew() -> None:
    found = on_head(asked(), Head(status=200, headers=[(CC, b"max-age=30"), (b"etag", b'"v"')]), NOW)
    assert isinstance(found, Store)
