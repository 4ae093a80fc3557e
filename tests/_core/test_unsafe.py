"""What unsafe methods invalidate: RFC 9111 §4.4, RFC 9875."""

import pytest

from tiercel._core.entry import Head, Header, Request
from tiercel._core.keys import group_tag, uri_tag
from tiercel._core.rfc9111 import group_tags, on_unsafe
from tiercel._core.unsafe import GROUPS_LIMIT


def asking(method: str = "POST", target: bytes = b"/shop/cart?x=1") -> Request:
    return Request(method, "https", b"Shop.example", target, [])


def unsafe(request: Request, head: Head) -> tuple[str, ...]:
    return on_unsafe(request, head, lambda _: True)


def places(*targets: bytes) -> tuple[str, ...]:
    return tuple(uri_tag("https", b"shop.example", target) for target in targets)


def groups(*names: str) -> tuple[str, ...]:
    return tuple(group_tag("https", b"shop.example", name) for name in names)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"])
def test_9111_4_4_a_safe_method_invalidates_nothing(method: str) -> None:
    headers = [(b"location", b"/"), (b"cache-group-invalidation", b'"a"')]
    assert unsafe(asking(method), Head(status=200, headers=headers)) == ()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "BREW", "get", ""])
def test_9111_4_4_what_is_not_known_to_be_safe_invalidates_the_target(method: str) -> None:
    assert unsafe(asking(method), Head(status=204, headers=[])) == places(b"/shop/cart?x=1")


@pytest.mark.parametrize(
    ("status", "cut"), [(200, True), (201, True), (303, True), (399, True), (101, False), (400, False), (500, False)]
)
def test_9111_4_4_after_what_was_no_error(status: int, *, cut: bool) -> None:
    assert bool(unsafe(asking(), Head(status=status, headers=[]))) is cut


def test_a_place_under_which_nothing_can_be_stored_is_not_logged() -> None:
    head = Head(status=201, headers=[(b"location", b"/orders/7"), (b"cache-group-invalidation", b'"a"')])
    assert on_unsafe(asking(), head, lambda place: place == b"/orders/7") == places(b"/orders/7") + groups("a")


@pytest.mark.parametrize("name", [b"location", b"content-location"])
@pytest.mark.parametrize(
    ("value", "target"),
    [
        pytest.param(b"/orders/7", b"/orders/7", id="absolute-path"),
        pytest.param(b"7?y=2", b"/shop/7?y=2", id="relative"),
        pytest.param(b"../orders", b"/orders", id="relative-upwards"),
        pytest.param(b"?y=2", b"/shop/cart?y=2", id="query"),
        pytest.param(b"https://SHOP.example:443/orders#7", b"/orders", id="same-origin"),
        pytest.param(b"//shop.example/orders", b"/orders", id="same-authority"),
        pytest.param(b"http://shop.example/orders", None, id="other-scheme"),
        pytest.param(b"https://evil.example/orders", None, id="other-host"),
        pytest.param(b"https://shop.example:444/orders", None, id="other-port"),
        pytest.param(b"https://u@shop.example/orders", None, id="user-information"),
        pytest.param(b"mailto:a@shop.example", None, id="no-origin"),
        pytest.param(b"https://[/orders", None, id="no-reference"),
        pytest.param(b"\xe9", b"/shop/\xe9", id="obs-text"),
    ],
)
def test_9111_4_4_places_of_the_same_origin_are_invalidated_too(
    name: bytes, value: bytes, target: bytes | None
) -> None:
    found = unsafe(asking(), Head(status=201, headers=[(name, value)]))
    assert found == places(b"/shop/cart?x=1") + (() if target is None else places(target))


def test_9111_4_4_a_target_that_looks_like_another_authority_is_a_path() -> None:
    found = unsafe(asking(target=b"//evil.example/x"), Head(status=201, headers=[(b"location", b"/y")]))
    assert found == places(b"//evil.example/x", b"/y")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param([b'"a", "b c"'], ("a", "b c"), id="3-list"),
        pytest.param([b'"a"', b'"b"'], ("a", "b"), id="3-lines"),
        pytest.param([b'"a, \\"b\\""'], ('a, "b"',), id="9651-3.3.3-escapes"),
        pytest.param([b'"a";x=1;y'], ("a",), id="3-parameters-are-ignored"),
        pytest.param([b'"a", "a"'], ("a",), id="once-each"),
        pytest.param([b'"a", b'], (), id="9651-4.2-a-token-spoils-the-field"),
        pytest.param([b'"a", "b'], (), id="9651-4.2-an-open-string-spoils-the-field"),
        pytest.param([b'("a")'], (), id="9651-4.2-an-inner-list-spoils-the-field"),
        pytest.param([b"\xff"], (), id="9651-4.2-hostile"),
    ],
)
def test_9875_groups(values: list[bytes], names: tuple[str, ...]) -> None:
    member = [(b"cache-groups", value) for value in values]
    invalidated: list[Header] = [(b"cache-group-invalidation", value) for value in values]
    assert group_tags(asking(), member) == groups(*names)
    assert unsafe(asking(), Head(status=200, headers=invalidated))[1:] == groups(*names)


def test_9875_2_1_a_group_belongs_to_one_origin() -> None:
    assert group_tag("https", b"shop.example", "a") != group_tag("https", b"evil.example", "a")
    assert group_tag("https", b"shop.example", "a") != group_tag("https", b"shop.example", "A")


def test_groups_are_bounded() -> None:
    value = b", ".join(b'"%d"' % number for number in range(GROUPS_LIMIT + 50))
    assert len(group_tags(asking(), [(b"cache-groups", value)])) == GROUPS_LIMIT
