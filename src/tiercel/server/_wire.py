"""A complete response as bytes of HTTP/1.1 (RFC 9112)."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from tiercel._core.entry import Header

JOINED: Final = 65_536
"""Bytes of a body that goes out in one piece with its head; a longer one is not copied for that."""

_BODILESS: Final = frozenset({204, 304})
_FINAL: Final = range(200, 600)
_LAST_CHUNK: Final = b"0\r\n\r\n"
_STATUS_LINES: Final = {one.value: b"HTTP/1.1 %d %b\r\n" % (one.value, one.phrase.encode()) for one in HTTPStatus}
_LENGTH: Final = b"content-length"
_FRAMING: Final = frozenset({b"connection", _LENGTH, b"transfer-encoding"})
# RFC 9110 §5.1, §5.5. What does not fit into a field line is left to uvicorn, which refuses it.
_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_unfit = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


Pieces = bytes | tuple[bytes, ...]
"""What is written at once, or one after the other."""


class Wire(NamedTuple):
    """What follows the status line and the fields of the server: fields, what ends them, the body, what ends that."""

    status: int
    fields: bytes
    end: bytes
    body: bytes
    tail: bytes


def opening(status: int, defaults: Sequence[Header]) -> bytes | None:
    """The status line, and the fields that the server adds; None where those would frame what follows them."""
    fields = None if any(name in _FRAMING for name, _ in defaults) else lines(defaults)
    return None if fields is None else (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status) + fields


def lines(headers: Iterable[Header]) -> bytes | None:
    """Field lines; None where one is none that can be written."""
    text = list[bytes]()
    for name, value in headers:
        if _unfit.search(value) or not _name.fullmatch(name):
            return None
        text += (name, b": ", value, b"\r\n")
    return b"".join(text)


def wire(method: str, status: int, headers: Sequence[Header], body: bytes) -> Wire | None:
    """The bytes of a response; None where uvicorn would not send it.

    A body without Content-Length is one chunk (§7.1), as uvicorn sends it.
    """
    bodiless = method == "HEAD" or status in _BODILESS
    fields = lines(headers)
    if fields is None or status not in _FINAL or (bodiless and body):
        return None
    if bodiless or any(name == _LENGTH for name, _ in headers):
        return Wire(status, fields, b"\r\n", body, b"")
    chunked = b"transfer-encoding: chunked\r\n\r\n"
    if not body:
        return Wire(status, fields, chunked + _LAST_CHUNK, body, b"")
    return Wire(status, fields, chunked + b"%x\r\n" % len(body), body, b"\r\n" + _LAST_CHUNK)


def joined(first: bytes, text: bytes, body: bytes, tail: bytes) -> Pieces:
    """All of a response, in as few pieces as is worth it."""
    if len(body) <= JOINED:
        return b"".join((first, text, body, tail))
    return (first + text, body, tail) if tail else (first + text, body)
