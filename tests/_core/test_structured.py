"""Structured Fields, RFC 9651."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.structured import Bare, dictionary, item, string, token_or_string

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(b"", {}, id="9651-4.2-empty"),
        pytest.param(b" a ", {"a": True}, id="9651-3.2-no-value-is-true"),
        pytest.param(b"a=1,b=-2\t,\tc", {"a": 1, "b": -2, "c": True}, id="9651-3.2-several"),
        pytest.param(b"a=?0, b=?1", {"a": False, "b": True}, id="9651-3.3.6-booleans"),
        pytest.param(rb'a="x\"\\, y"', {"a": 'x"\\, y'}, id="9651-3.3.3-string"),
        pytest.param(b"a=tok/en:x, b=*t", {"a": "tok/en:x", "b": "*t"}, id="9651-3.3.4-tokens"),
        pytest.param(b"a=1.5, b=:aGk=:, c=@5, d=()", dict.fromkeys("abcd"), id="9651-3-types-of-no-use"),
        pytest.param(b'a=%"f%c3%bc"', {"a": None}, id="9651-3.3.8-display-string"),
        pytest.param(b'a=( "x"  1;p );q=2, b', {"a": None, "b": True}, id="9651-3.1.1-inner-list"),
        pytest.param(b"a;x=1; y, b=2;z", {"a": True, "b": 2}, id="9651-3.1.2-parameters"),
        pytest.param(b"*a_-.*=1", {"*a_-.*": 1}, id="9651-3.1.2-key"),
        pytest.param(b"a,,b", None, id="9651-4.2.2-empty-member"),
        pytest.param(b"a=1.", None, id="9651-4.2.4-no-fraction"),
        pytest.param(b"a=1.2345", None, id="9651-4.2.4-long-fraction"),
        pytest.param(b"a=?2", None, id="9651-4.2.8-boolean"),
        pytest.param(rb'a="\x"', None, id="9651-4.2.5-escape"),
        pytest.param(b"a=(1", None, id="9651-4.2.1.2-open-inner-list"),
        pytest.param(b"a=(1)(2)", None, id="9651-4.2.2-two-values"),
        pytest.param(b"a;", None, id="9651-4.2.3.2-no-parameter"),
        pytest.param(b"a ;b", None, id="9651-4.2.3.2-space-before-semicolon"),
        pytest.param(b"1a", None, id="9651-4.2.3.3-key"),
    ],
)
def test_dictionaries(value: bytes, found: dict[str, Bare] | None) -> None:
    assert dictionary(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(b"a", ("a", dict[str, Bare]()), id="9651-4.2.3-token"),
        pytest.param(b' "a b";c;d=1;c=2 ', ("a b", {"c": 2, "d": 1}), id="9651-4.2.3.2-parameters"),
        pytest.param(b"1.5;a=?0", (None, {"a": False}), id="9651-3.3.2-decimal"),
        pytest.param(b"", None, id="9651-4.2.3.1-empty"),
        pytest.param(b"(a)", None, id="9651-4.2.1.2-inner-list"),
        pytest.param(b"a b", None, id="9651-4.2-trailing-characters"),
    ],
)
def test_items(value: bytes, found: tuple[Bare, dict[str, Bare]] | None) -> None:
    assert item(value) == found


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a", b'"a"'),
        ('"\\', b'"\\"\\\\"'),
        ("é\n", b'"%C3%A9%0A"'),
        ("\ud800", b'"?"'),
    ],
)
def test_a_string_is_ascii(text: str, written: bytes) -> None:
    assert string(text) == written


@given(PRINTABLE)
def test_a_printable_string_comes_back(text: str) -> None:
    assert item(string(text)) == (text, {})
    assert item(token_or_string(text)) == (text, {})


@given(st.text())
def test_any_text_is_written_as_something_that_reads(text: str) -> None:
    assert item(string(text)) is not None
    assert item(token_or_string(text)) is not None


@given(st.binary() | st.text('ab=1;,("\\)?:@%* .', max_size=40).map(str.encode))
def test_reading_never_raises(value: bytes) -> None:
    dictionary(value)
    item(value)
