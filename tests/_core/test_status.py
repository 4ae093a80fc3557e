"""Cache-Status, RFC 9211."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.status import CacheStatus, hit_status

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
INTEGERS = st.integers(-(10**15) + 1, 10**15 - 1)


def statuses(text: st.SearchStrategy[str]) -> st.SearchStrategy[CacheStatus]:
    return st.builds(
        CacheStatus,
        cache=text,
        hit=st.booleans(),
        fwd=st.none() | text,
        fwd_status=st.none() | INTEGERS,
        ttl=st.none() | INTEGERS,
        stored=st.booleans(),
        collapsed=st.booleans(),
        key=st.none() | text,
        detail=st.none() | text,
    )


@pytest.mark.parametrize(
    ("status", "rendered"),
    [
        pytest.param(CacheStatus(), b"tiercel", id="9211-2-name-alone"),
        pytest.param(CacheStatus(hit=True, ttl=42), b"tiercel; hit; ttl=42", id="9211-2.1-hit"),
        pytest.param(CacheStatus(hit=True, ttl=-7), b"tiercel; hit; ttl=-7", id="9211-2.4-stale"),
        pytest.param(CacheStatus(fwd="uri-miss", stored=True), b"tiercel; fwd=uri-miss; stored", id="9211-2.2-fwd"),
        pytest.param(
            CacheStatus(fwd="stale", fwd_status=304, ttl=60, stored=True, collapsed=True),
            b"tiercel; fwd=stale; fwd-status=304; ttl=60; stored; collapsed",
            id="9211-2.3-fwd-status",
        ),
        pytest.param(CacheStatus(key="abc"), b'tiercel; key="abc"', id="9211-2.7-key-is-a-string"),
        pytest.param(
            CacheStatus(fwd="bypass", detail="method"), b"tiercel; fwd=bypass; detail=method", id="9211-2.8-token"
        ),
        pytest.param(CacheStatus(detail='a "b" \\'), b'tiercel; detail="a \\"b\\" \\\\"', id="9211-2.8-string"),
        pytest.param(CacheStatus(detail=""), b'tiercel; detail=""', id="9211-2.8-empty"),
        pytest.param(CacheStatus(detail="é\r\nx: y"), b'tiercel; detail="%C3%A9%0D%0Ax: y"', id="not-printable"),
        pytest.param(CacheStatus(cache="my cache"), b'"my cache"', id="9211-2-name-is-a-string"),
        pytest.param(CacheStatus(ttl=10**20), b"tiercel; ttl=999999999999999", id="9651-3.3.1-greatest-integer"),
    ],
)
def test_render(status: CacheStatus, rendered: bytes) -> None:
    assert status.render() == rendered


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(b"", (), id="9211-2-empty"),
        pytest.param(
            b"OriginCache; hit; ttl=1100, CDN;fwd=uri-miss;collapsed",
            (
                CacheStatus(cache="OriginCache", hit=True, ttl=1100),
                CacheStatus(cache="CDN", fwd="uri-miss", collapsed=True),
            ),
            id="9211-2-nearest-to-the-origin-first",
        ),
        pytest.param("CDN; hit", (CacheStatus(cache="CDN", hit=True),), id="text"),
        pytest.param("CDN; detail=\u20ac, B", (CacheStatus(cache="B"),), id="text-that-is-not-ascii"),
        pytest.param(b'"a, b"; hit', (CacheStatus(cache="a, b", hit=True),), id="9211-2-comma-in-the-name"),
        pytest.param(b"a; hit=?0; stored=?1", (CacheStatus(cache="a", stored=True),), id="9651-3.3.6-booleans"),
        pytest.param(b"a; x=1; hit", (CacheStatus(cache="a", hit=True),), id="9211-2-unknown-parameter"),
        pytest.param(
            b'a; ttl=1.5; fwd-status="200"; fwd=5; key=?1; hit=1', (CacheStatus(cache="a"),), id="9211-2-wrong-types"
        ),
        pytest.param(b"a; ttl=?1", (CacheStatus(cache="a"),), id="9211-2.4-boolean-is-no-integer"),
        pytest.param(b"(a b), 5, a b, ;x, ok; hit", (CacheStatus(cache="ok", hit=True),), id="unreadable-members"),
        pytest.param(b'a; detail="x, b; hit', (CacheStatus(cache="b", hit=True),), id="unterminated-string"),
    ],
)
def test_parse_reads_what_it_can(value: bytes | str, found: tuple[CacheStatus, ...]) -> None:
    assert CacheStatus.parse(value) == found


@given(st.lists(statuses(PRINTABLE), max_size=3))
def test_what_is_rendered_parses_to_what_it_was(given_: list[CacheStatus]) -> None:
    assert CacheStatus.parse(b", ".join(one.render() for one in given_)) == tuple(given_)


@given(statuses(st.text(max_size=20)))
def test_any_text_renders_as_one_printable_member(status: CacheStatus) -> None:
    rendered = status.render()
    assert all(0x20 <= byte <= 0x7E for byte in rendered)
    assert len(CacheStatus.parse(rendered)) == 1


@given(st.binary() | st.text() | st.text('ab;,="\\ ?1', max_size=40))
def test_parsing_never_raises(value: bytes | str) -> None:
    CacheStatus.parse(value)


@given(st.integers())
def test_what_most_responses_say_is_rendered_the_same_at_once(ttl: int) -> None:
    assert hit_status(ttl) == CacheStatus(hit=True, ttl=ttl).render()
