"""Structured Field values, RFC 9651: as much of them as the fields that we read and write need."""

import re

Bare = bool | int | str | None
"""A bare item: boolean, integer, string or token. None stands for the types that none of our fields has."""

_TOKEN = rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+"
_KEY = rb"[a-z*][a-z0-9_\-.*]*+"
# Possessive throughout: hostile input is refused in linear time.
_BARE = (
    rb"(?:-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}|"
    + _TOKEN
    + rb'|"(?>(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|:[A-Za-z0-9+/=]*+:|\?[01]|@-?[0-9]{1,15}'
    + rb'|%"(?>(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)")'
)
_PARAMETERS = rb"(?>(?:; *+" + _KEY + rb"(?>(?:=" + _BARE + rb")?))*)"
_INNER_LIST = rb"\( *+(?>(?:" + _BARE + _PARAMETERS + rb"(?: ++|(?=\))))*)\)"

_token = re.compile(_TOKEN)
_item = re.compile(rb"(" + _BARE + rb")(" + _PARAMETERS + rb")")
_parameter = re.compile(rb"; *+(" + _KEY + rb")(?>(?:=(" + _BARE + rb"))?)")
_member = re.compile(rb"(" + _KEY + rb")(?>(?:=(?:(" + _BARE + rb")|(" + _INNER_LIST + rb")))?)" + _PARAMETERS)
_separator = re.compile(rb"[ \t]*+,[ \t]*+")
_escaped = re.compile(rb"\\(.)")
_to_escape = re.compile(rb'(["\\])')
_unprintable = re.compile(rb"[^\x20-\x7e]")


def dictionary(value: bytes) -> dict[str, Bare] | None:
    """RFC 9651 §4.2.2; parameters are read over, the last of repeated keys wins; None where it does not parse."""
    value = value.strip(b" ")
    found: dict[str, Bare] = {}
    at = 0
    while at < len(value):
        member = _member.match(value, at)
        if member is None:
            return None
        key, bare, inner = member.groups()
        found[key.decode()] = True if bare is None and inner is None else _convert(bare)
        at = member.end()
        if at == len(value):
            return found
        separator = _separator.match(value, at)
        if separator is None or separator.end() == len(value):
            return None
        at = separator.end()
    return found


def item(value: bytes) -> tuple[Bare, dict[str, Bare]] | None:
    """RFC 9651 §4.2.3: a bare item and its parameters; None where it does not parse, or is an inner list."""
    read = _item.fullmatch(value.strip(b" "))
    if read is None:
        return None
    found = _parameter.finditer(read[2])
    return _convert(read[1]), {one[1].decode(): True if one[2] is None else _convert(one[2]) for one in found}


def string(text: str) -> bytes:
    """An sf-string. It is ASCII (RFC 9651 §3.3.3): any other character goes out percent-encoded as UTF-8."""
    escaped = _to_escape.sub(rb"\\\1", text.encode("utf-8", "replace"))
    return b'"' + _unprintable.sub(lambda one: b"%%%02X" % one[0][0], escaped) + b'"'


def token_or_string(text: str) -> bytes:
    """A token where `text` is a valid one, else an sf-string."""
    if text.isascii() and _token.fullmatch(raw := text.encode()):
        return raw
    return string(text)


def _convert(raw: bytes | None) -> Bare:
    if raw is None:
        return None
    if raw.startswith(b'"'):
        return _escaped.sub(rb"\1", raw[1:-1]).decode("ascii")
    if raw.startswith(b"?"):
        return raw == b"?1"
    if raw.lstrip(b"-").isdigit():
        return int(raw)
    return raw.decode("ascii") if _token.fullmatch(raw) else None
