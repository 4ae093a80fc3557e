"""A complete response as bytes of HTTP/1.1 (RFC 9112)."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from tiercel._core.entry import Header

_BODILESS: Final = frozenset({204, 304})
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
    """The bytes up to the body, and the body as it is framed."""

    status: int
    head: bytes
    body: bytes


def lines(headers: Iterable[Header]) -> Lines | None:
    """Field lines; None where one is none that can be written."""
    text, length = list[bytes](), False
    for name, value in headers:
        if _unfit.search(value) or not _name.fullmatch(name):
            return None
        length = length or name == _LENGTH
        text += (name, b": ", value, b"\r\n")
    return Lines(b"".join(text), length)


def wire(method: str, status: int, fields: Iterable[Lines], body: bytes) -> Wire:
    """The bytes of a response.

    A body without Content-Length is one chunk (§7.1), as uvicorn sends it.
    """
    parts, length = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status], False
    for text, says_length in fields:
        parts.append(text)
        length = length or says_length
    if not length and method != "HEAD" and status not in _BODILESS:
        parts.append(b"transfer-encoding: chunked\r\n")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    parts.append(b"\r\n")
    return Wire(status, b"".join(parts), body)
