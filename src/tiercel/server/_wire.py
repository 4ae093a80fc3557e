"""A complete response as bytes of HTTP/1.1 (RFC 9112)."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from tiercel._core.entry import Header

_BODILESS: Final = frozenset({204, 304})
_FINAL: Final = range(200, 600)
_LAST_CHUNK: Final = b"0\r\n\r\n"
_STATUS_LINES: Final = {one.value: b"HTTP/1.1 %d %b\r\n" % (one.value, one.phrase.encode()) for one in HTTPStatus}
_LENGTH: Final = b"content-length"
# RFC 9110 §5.1, §5.5. What does not fit into a field line is left to uvicorn, which refuses it.
_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_unfit = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Lines(NamedTuple):
    """Field lines as bytes, and whether they say how long the body is."""

    text: bytes
    length: bool


class Wire(NamedTuple):
    """The bytes up to the body, the body as it is stored, and what ends it."""

    status: int
    head: bytes
    body: bytes
    tail: bytes = b""


def lines(headers: Iterable[Header]) -> Lines | None:
    """Field lines; None where one is none that can be written."""
    text, length = list[bytes](), False
    for name, value in headers:
        if _unfit.search(value) or not _name.fullmatch(name):
            return None
        length = length or name == _LENGTH
        text += (name, b": ", value, b"\r\n")
    return Lines(b"".join(text), length)


def wire(method: str, status: int, fields: Sequence[Lines], body: bytes) -> Wire | None:
    """The bytes of a response; None where uvicorn would not send it.

    A body without Content-Length is one chunk (§7.1), as uvicorn sends it.
    """
    bodiless = method == "HEAD" or status in _BODILESS
    if status not in _FINAL or (bodiless and body):
        return None
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, *[one.text for one in fields]]
    if bodiless or any(one.length for one in fields):
        return Wire(status, b"".join([*parts, b"\r\n"]), body)
    parts.append(b"transfer-encoding: chunked\r\n\r\n")
    if not body:
        return Wire(status, b"".join([*parts, _LAST_CHUNK]), body)
    return Wire(status, b"".join([*parts, b"%x\r\n" % len(body)]), body, b"\r\n" + _LAST_CHUNK)
