"""What is added to an answer before it is stored."""

from collections.abc import Sequence
from typing import Any

import pytest

from tiercel._core import keys
from tiercel._core.entry import Entry, Head, Header, Request
from tiercel._core.plan import RouteRules
from tiercel._core.policy import Policy, Rules
from tiercel._core.rfc9111 import Asked
from tiercel._engine import fitting
from tiercel._engine.observed import Watch

PLAIN = RouteRules(label="*", policy=Policy(), declared=False)
DECLARED = RouteRules(label="GET /", policy=Policy(ttl=60), declared=True)
REQUEST = Request("GET", "http", b"shop", b"/", [(b"host", b"shop"), (b"x", b"1"), (b"y", b"2")])


def entry(**more: Any) -> Entry:
    given: dict[str, Any] = {"method": "GET", "status": 200, "headers": [], "body": b"", "born": 0, "lifetime": 60.0}
    given.update({"asked_at": 10.0, "answered_at": 12.0}, **more)
    return Entry(**given)


def asked(**more: Any) -> Asked:
    given: dict[str, Any] = {"request": REQUEST, "entry": None, "born": 0, "asked_at": 10.0}
    given.update({"policy": Policy(), "rules": Rules(), "declared": True, "guarded": False}, **more)
    return Asked(**given)


def test_what_was_looked_up_is_added_to_what_selects() -> None:
    watch = Watch(REQUEST.headers)
    headers = watch.headers()
    assert [value for name, value in headers if name == b"x"] == [b"1"]
    seen = fitting.observed(asked(observed=frozenset({b"y"})), watch)
    assert seen is not None
    assert seen.observed == {b"x", b"y"}


def test_what_could_not_be_seen_is_not_known() -> None:
    watch = Watch([])
    watch.headers()
    assert fitting.observed(asked(), watch) is None
    plain = asked()
    assert fitting.observed(plain, None) is plain


def test_a_response_is_narrowed_by_what_was_read_late_but_what_is_in_the_key() -> None:
    shown = entry(selecting=keys.selecting([b"x"], REQUEST.headers))
    late = asked(observed=frozenset({b"x", b"y", b"z", b"host"}), keyed=frozenset({b"z"}))
    assert [name for name, _ in fitting.narrowed(shown, late, REQUEST).selecting] == [b"x", b"y"]
    assert fitting.narrowed(shown, asked(observed=frozenset({b"x"})), REQUEST) is shown
    assert fitting.narrowed(shown, None, REQUEST) is shown


def test_the_response_of_an_application_that_declares_nothing_is_left_as_it_is() -> None:
    given = entry(headers=[(b"a", b"b")], tags=("u:1",))
    assert fitting.dressed(given, PLAIN, REQUEST, ()) == ([(b"a", b"b")], ("u:1",))


def test_a_declared_response_says_what_is_declared_and_has_every_tag() -> None:
    headers, tags = fitting.dressed(entry(tags=("u:1",)), DECLARED, REQUEST, ("shoes",))
    assert dict(headers)[b"cache-groups"] == b'"shoes"'
    assert dict(headers)[b"cache-control"] == b"max-age=0, must-revalidate"
    assert tags[:2] == ("shoes", "u:1")
    assert tags[2].startswith("g:")


@pytest.mark.parametrize("names", [[b"cookie"], [b"authorization", b"accept"]])
def test_what_depends_on_who_asks_is_private_outside(names: list[bytes]) -> None:
    head = fitting.worn(Head(status=200, headers=[]), DECLARED, names=names)
    assert dict(head.headers)[b"cache-control"].startswith(b"private")


@pytest.mark.parametrize(
    ("given", "tagged"),
    [
        (entry(), True),
        (entry(status=404), False),
        (entry(status=206), False),
        (entry(method="HEAD"), False),
        (entry(headers=[(b"etag", b'"1"')]), False),
    ],
)
def test_a_whole_representation_without_an_entity_tag_is_given_one(given: Entry, tagged: bool) -> None:  # noqa: FBT001
    headers = fitting.tagged(given, given.headers, b"seed")
    assert (len(headers) == len(given.headers) + 1) is tagged
    assert list(headers)[: len(given.headers)] == list(given.headers)


def test_each_encoding_has_an_entity_tag_of_its_own() -> None:
    plain, packed = entry(), entry(headers=[(b"content-encoding", b"gzip")])
    assert fitting.tagged(plain, plain.headers, b"seed")[-1] != fitting.tagged(packed, packed.headers, b"seed")[-1]


def test_the_wait_for_a_declared_response_does_not_age_it() -> None:
    given, dress = entry(initial_age=5.0), fitting.Dress((), ())
    assert fitting.complete(given, dress, DECLARED, 13.0, 0.0).initial_age == 3.0
    assert fitting.complete(given, dress, PLAIN, 13.0, 0.0).initial_age == 5.0


def test_jitter_shortens_the_declared_lifetime_and_no_other() -> None:
    dress = fitting.Dress((), ())
    assert fitting.complete(entry(), dress, DECLARED, 13.0, 0.25).lifetime == 45.0
    assert fitting.complete(entry(lifetime=61.0), dress, DECLARED, 13.0, 0.25).lifetime == 61.0
    assert fitting.complete(entry(), dress, PLAIN, 13.0, 0.25).lifetime == 60.0


def test_the_cost_is_what_the_whole_answer_took() -> None:
    assert fitting.complete(entry(), fitting.Dress((), ()), PLAIN, 17.5, 0.0).cost == 7.5


@pytest.mark.parametrize(
    ("headers", "method", "length"),
    [
        ([], "GET", 0),
        ([(b"content-length", b"5")], "GET", 5),
        ([(b"content-length", b"5")], "HEAD", 0),
        ([(b"content-length", b"5"), (b"content-length", b"5")], "GET", 0),
        ([(b"content-length", b"-5")], "GET", 0),
        ([(b"content-length", b"9" * 5000)], "GET", 0),
        ([(b"content-length", "٣".encode())], "GET", 0),
    ],
)
def test_a_length_counts_where_it_can_be_read(headers: Sequence[Header], method: str, length: int) -> None:
    assert fitting.announced(entry(headers=headers, method=method)) == length


def test_fields_are_read_whatever_they_are_made_of() -> None:
    given: Any = [[bytearray(b"X-One"), memoryview(b" 1\t")]]
    assert fitting.plain(given) == [(b"x-one", b"1")]
