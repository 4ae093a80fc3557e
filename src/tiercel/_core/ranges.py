"""Range requests and partial content: RFC 9110 §14, §15.3.7; RFC 9111 §3.3, §3.4."""

import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

from tiercel._core.conditions import if_range_holds, same_strong, validators
from tiercel._core.entry import Entry, Header, Headers, Partial, Request
from tiercel._core.headers import combined, lines, without

RANGES_LIMIT: Final = 16
"""Ranges of one request; more are taken for an attack, and Range is ignored: RFC 9110 §14.2."""

OK: Final = 200
PARTIAL_CONTENT: Final = 206

_DIGITS_LIMIT = 18
_BEYOND: Final = 10**_DIGITS_LIMIT
_OWS = b" \t"
_REPLACED = frozenset({b"content-length", b"content-range"})

_byte_range = re.compile(rb"([0-9]+)-([0-9]*)|-([0-9]+)")
_content_range = re.compile(rb"bytes[ ]([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)


class Span(NamedTuple):
    """Bytes `[first, last]`, inclusive."""

    first: int
    last: int


def wanted(request: Request, headers: Headers, arrived: float, complete: int | None) -> list[Span] | None:
    """The ranges to send of a representation of `complete` bytes. None: no Range that applies; []: none satisfiable."""
    if request.method != "GET":  # RFC 9110 §14.2; RFC 10008 §2.8 allows QUERY the same, and expects no use of it
        return None
    given = lines(request.headers, b"range")
    if len(given) != 1 or not if_range_holds(request, validators(headers, arrived)):
        return None
    asked = _parse(given[0])
    return None if asked is None else _resolve(asked, complete)


def covers(entry: Entry, request: Request) -> bool:
    """Whether a stored response has every byte that the request asks for."""
    part = entry.partial
    if part is None:
        return True
    spans = wanted(request, entry.headers, entry.answered_at, part.complete)
    return spans is not None and all(part.first <= span.first and span.last <= part.last for span in spans)


def content_range(headers: Headers) -> Partial | None:
    """What the Content-Range of a 206 says; None where it is absent, repeated, or makes no sense."""
    given = lines(headers, b"content-range")
    read = _content_range.fullmatch(given[0]) if len(given) == 1 else None
    if read is None:
        return None
    first, last = int(read[1]), int(read[2])
    complete = None if read[3] == b"*" else int(read[3])
    if first > last or (complete is not None and last >= complete):
        return None
    return Partial(first=first, last=last, complete=complete)


def part_headers(headers: Headers, span: Span, complete: int | None) -> list[Header]:
    """The fields of a 206 with one range."""
    return [
        *without(headers, _REPLACED),
        (b"content-range", _written(span, complete)),
        (b"content-length", b"%d" % (span.last - span.first + 1)),
    ]


def multipart(
    headers: Headers, parts: Sequence[tuple[Span, bytes]], complete: int | None
) -> tuple[list[Header], bytes]:
    """The fields and the content of a 206 with several ranges: RFC 9110 §14.6."""
    boundary = _boundary([content for _, content in parts])
    kind = combined(headers, b"content-type")
    typed = b"" if kind is None else b"content-type: " + kind + b"\r\n"
    pieces: list[bytes] = []
    for span, content in parts:
        written = _written(span, complete)
        pieces += (b"--", boundary, b"\r\n", typed, b"content-range: ", written, b"\r\n\r\n", content, b"\r\n")
    body = b"".join((*pieces, b"--", boundary, b"--\r\n"))
    fields = [
        *without(headers, _REPLACED | {b"content-type"}),
        (b"content-type", b"multipart/byteranges; boundary=" + boundary),
        (b"content-length", b"%d" % len(body)),
    ]
    return fields, body


def combine(stored: Sequence[Entry], part: Entry) -> Entry:
    """One stored response of the part and all that joins it: RFC 9111 §3.4, RFC 9110 §15.3.7.3."""
    joined = part
    rest = [entry for entry in stored if _of_one_representation(entry, part)]
    whole = next((entry for entry in rest if entry.partial is None), None)
    if whole is not None:  # confirmed: the whole is as new as its part, and says what that says (RFC 9111 §3.4)
        named = {name for name, _ in part.headers} - _REPLACED
        spoken = {name for name in named if lines(part.headers, name) != lines(whole.headers, name)}
        headers = [*without(whole.headers, spoken), *[line for line in part.headers if line[0] in spoken]]
        return replace(
            part, status=whole.status, headers=headers, body=whole.body, partial=None, tags=_tags_of(part, whole)
        )
    growing = True
    while growing:
        growing = False
        for entry in rest:
            if (longer := _joined(joined, entry)) is not None:
                joined, growing = longer, True
    return _completed(joined)


def _parse(value: bytes) -> list[tuple[int | None, int | None]] | None:
    """(first, last), (first, None) to the end, (None, length) of a suffix. None for what is not valid."""
    unit, equals, ranges = value.partition(b"=")
    if not equals or unit.strip(_OWS).lower() != b"bytes" or ranges.count(b",") > 2 * RANGES_LIMIT:
        return None
    found: list[tuple[int | None, int | None]] = []
    for member in ranges.split(b","):
        text = member.strip(_OWS)
        if not text:  # RFC 9110 §5.6.1.2: empty members are passed over
            continue
        read = _byte_range.fullmatch(text)
        if read is None:
            return None
        first, last = _number(read[1]), _number(read[2] or read[3])
        if first is not None and last is not None and last < first:
            return None
        found.append((first, last))
    return found if 0 < len(found) <= RANGES_LIMIT else None


def _number(digits: bytes | None) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= _DIGITS_LIMIT else _BEYOND


def _resolve(asked: Sequence[tuple[int | None, int | None]], complete: int | None) -> list[Span] | None:
    """The satisfiable ones. None where Range is better ignored: overlaps, nothing to cut, or no known end."""
    if complete is None:
        spans = [Span(first, last) for first, last in asked if first is not None and last is not None]
        return spans if len(spans) == len(asked) and not _overlap(spans) else None
    if complete == 0:  # no Content-Range can say where nothing begins
        return None
    resolved = [_span(first, last, complete) for first, last in asked]
    spans = [span for span in resolved if span is not None]
    return None if _overlap(spans) else spans


def _span(first: int | None, last: int | None, complete: int) -> Span | None:
    if first is None:  # a suffix
        return Span(max(0, complete - last), complete - 1) if last else None
    if first >= complete:
        return None
    return Span(first, complete - 1 if last is None else min(last, complete - 1))


def _overlap(spans: Sequence[Span]) -> bool:
    """RFC 9110 §14.2: what asks twice for the same bytes is broken, or an attack."""
    ordered = sorted(spans)
    return any(one.last >= other.first for one, other in pairwise(ordered))


def _written(span: Span, complete: int | None) -> bytes:
    return b"bytes %d-%d/%b" % (span.first, span.last, b"*" if complete is None else b"%d" % complete)


def _boundary(contents: Sequence[bytes]) -> bytes:
    """A digest of the content: the same request gets the same bytes, and nothing contains its own digest."""
    digest = blake2b(digest_size=16)
    for content in contents:
        digest.update(content)
    return digest.hexdigest().encode()


def _of_one_representation(entry: Entry, part: Entry) -> bool:
    return (
        entry.method == "GET"
        and entry.selecting == part.selecting
        and entry.status in (OK, PARTIAL_CONTENT)
        and same_strong(combined(entry.headers, b"etag"), combined(part.headers, b"etag"))
    )


def _joined(new: Entry, old: Entry) -> Entry | None:
    """Both in one, the newer bytes and fields over the older; None where it would add nothing, or leave a gap."""
    one, other = new.partial, old.partial
    if one is None or other is None or _contradict(one, other):
        return None
    if other.first > one.last + 1 or one.first > other.last + 1:
        return None
    if one.first <= other.first and other.last <= one.last:
        return None
    before = old.body[: max(0, one.first - other.first)]
    after = old.body[one.last + 1 - other.first :] if other.last > one.last else b""
    spoken = {name for name, _ in new.headers}
    return replace(
        new,
        headers=[*without(old.headers, spoken), *new.headers],
        body=before + new.body + after,
        tags=_tags_of(new, old),
        partial=Partial(
            first=min(one.first, other.first),
            last=max(one.last, other.last),
            complete=other.complete if one.complete is None else one.complete,
        ),
    )


def _tags_of(one: Entry, other: Entry) -> tuple[str, ...]:
    """What is made of both falls with either."""
    return tuple(dict.fromkeys((*one.tags, *other.tags)))


def _contradict(one: Partial, other: Partial) -> bool:
    return one.complete is not None and other.complete is not None and one.complete != other.complete


def _completed(joined: Entry) -> Entry:
    part = joined.partial
    if part is None:
        return joined
    if part.first == 0 and part.complete == part.last + 1:
        length = (b"content-length", b"%d" % len(joined.body))
        return replace(joined, status=OK, headers=[*without(joined.headers, _REPLACED), length], partial=None)
    return replace(joined, headers=part_headers(joined.headers, Span(part.first, part.last), part.complete))
