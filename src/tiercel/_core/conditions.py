"""Preconditions: which of a client's conditions hold for a stored response (RFC 9110 §13).

A cache may leave If-Match and If-Unmodified-Since to the origin (§13.1.1). This one lives in the origin's own process
and takes every condition off the request before it asks the application: so it answers for all of them, 412 included.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from tiercel._core.dates import parse_date
from tiercel._core.entry import Header, Headers, Request
from tiercel._core.headers import combined, lines

CONDITIONS: Final = frozenset({b"if-match", b"if-modified-since", b"if-none-match", b"if-unmodified-since"})

SUCCESSFUL: Final = range(200, 300)

Verdict = Literal[200, 304, 412]

# A list is read by its quotation marks: an entity tag may contain commas, and a backslash escapes nothing (§8.8.3).
_entity_tag = re.compile(rb'(?<![^\t ,])(?:W/)?"[^"]*"(?![^\t ,])')


class Validators(NamedTuple):
    """What a client's conditions are compared with. `dated`: Date, or when the response arrived."""

    etag: bytes | None
    modified: float | None
    dated: float


def validators(headers: Headers, arrived: float) -> Validators:
    """Those of a response."""
    etag = modified = dated = None
    for name, value in headers:
        if name == b"etag":
            etag = value
        elif name == b"last-modified":
            modified = parse_date(value, now=arrived)
        elif name == b"date":
            dated = parse_date(value, now=arrived)
    return Validators(etag, modified, arrived if dated is None else dated)


def verdict(request: Request, status: int, headers: Headers, arrived: float) -> Verdict:
    """The precedence of RFC 9110 §13.2.2, up to Range. 200: go on, whatever the status is."""
    conditions = [line for line in request.headers if line[0] in CONDITIONS]
    if not conditions or status not in SUCCESSFUL:  # §13.2.1
        return 200
    known = validators(headers, arrived)
    if not _may_proceed(conditions, known, arrived):
        return 412
    return 304 if _not_modified(request.method, conditions, known, arrived) else 200


def if_range_holds(request: Request, known: Validators) -> bool:
    """RFC 9110 §13.1.5: no If-Range, or the same strong entity tag, or exactly a date that is a strong validator."""
    given = lines(request.headers, b"if-range")
    if not given:
        return True
    if len(given) > 1:
        return False
    if given[0].startswith((b'"', b"W/")):
        return same_strong(given[0], known.etag)
    date = parse_date(given[0], now=known.dated)
    # §8.8.2.2: a second in which the representation may still have changed proves nothing.
    return date is not None and date == known.modified and date + 1 <= known.dated


def same_strong(one: bytes | None, other: bytes | None) -> bool:
    """Strong comparison, RFC 9110 §8.8.3.2."""
    return one is not None and one == other and one.startswith(b'"')


def same_weak(one: bytes | None, other: bytes | None) -> bool:
    """Weak comparison, RFC 9110 §8.8.3.2."""
    return one is not None and other is not None and one.removeprefix(b"W/") == other.removeprefix(b"W/")


def _may_proceed(conditions: Sequence[Header], known: Validators, arrived: float) -> bool:
    """If-Match (§13.1.1), and only where there is none, If-Unmodified-Since (§13.1.4)."""
    tags = combined(conditions, b"if-match")
    if tags is not None:
        return tags == b"*" or any(same_strong(tag, known.etag) for tag in _entity_tag.findall(tags))
    since = _date(conditions, b"if-unmodified-since", arrived)
    return since is None or known.modified is None or known.modified <= since


def _not_modified(method: str, conditions: Sequence[Header], known: Validators, arrived: float) -> bool:
    """If-None-Match (§13.1.2), and only where there is none, If-Modified-Since (§13.1.3)."""
    tags = combined(conditions, b"if-none-match")
    if tags is not None:
        # The bare comparison is the usual case, and kind to those who forget the quotation marks.
        return tags in (b"*", known.etag) or any(same_weak(tag, known.etag) for tag in _entity_tag.findall(tags))
    if method == "QUERY":
        return False
    since = _date(conditions, b"if-modified-since", arrived)
    if since is None:
        return False
    # RFC 9111 §4.3.2: without Last-Modified, the date of the response stands in.
    return (known.dated if known.modified is None else known.modified) <= since


def _date(conditions: Sequence[Header], name: bytes, arrived: float) -> float | None:
    """Several, or one that is no date: the condition is ignored."""
    given = lines(conditions, name)
    return parse_date(given[0], now=arrived) if len(given) == 1 else None
