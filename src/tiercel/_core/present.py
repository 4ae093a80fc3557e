"""How a stored response leaves us: conditions, ranges, Age, and what the tiers outside us are told."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from tiercel._core import ranges, structured
from tiercel._core.conditions import CONDITIONS, verdict
from tiercel._core.entry import Entry, Head, Header, Headers, Request
from tiercel._core.freshness import current_age, seconds_until_stale
from tiercel._core.headers import NO_DIRECTIVES, Directives, has_any, lines, members, without
from tiercel._core.keys import EVERY
from tiercel._core.policy import Policy
from tiercel._core.status import CacheStatus, hit_status
from tiercel._core.storing import own_lines

GROUPS_SENT: Final = 32
"""Groups that a response names, and characters of one: all that RFC 9875 §2 asks of every recipient."""

_DIGITS_LIMIT = 18
_ASKING = CONDITIONS | {b"range"}
_ERRORS_FROM = 400
_OK = 200
_NOT_MODIFIED = 304
_UNSATISFIABLE = 416
# RFC 9110 §15.4.5: a 304 describes no content of its own.
_CONTENT_FIELDS = frozenset(
    {
        b"accept-ranges",
        b"content-digest",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-range",
        b"content-type",
    }
)
# ... and its Last-Modified is of use only where there is no entity tag.
_UNTAGGED_FIELDS = _CONTENT_FIELDS | {b"last-modified"}
# A 412 or 416 is about this request only: nobody may keep it in place of the representation.
_REUSE_FIELDS = frozenset({b"age", b"cache-control", b"cache-groups", b"cdn-cache-control", b"expires"})
_OWN_WORD = frozenset({"no-store", "private", "public", "s-maxage"})


class Reply(NamedTuple):
    """A response, ready to be sent."""

    status: int
    headers: list[Header]
    body: bytes


def reply(entry: Entry, request: Request, now: float, cache_status: CacheStatus, *, aged: bool = True) -> Reply:
    """The answer to a request from a stored response, by RFC 9110 §13.2.2. `aged`: with its Age."""
    headers = hit_headers(entry, now, cache_status, aged=aged)
    if has_any(request.headers, _ASKING):
        decided = verdict(request, entry.status, entry.headers, entry.answered_at)
        if decided != _OK:
            return Reply(decided, _without_content(decided, headers), b"")
        if entry.status in {_OK, ranges.PARTIAL_CONTENT}:
            return _ranged(entry, request, headers)
    return Reply(entry.status, headers, b"" if request.method == "HEAD" else entry.body)


def hit_headers(entry: Entry, now: float, cache_status: CacheStatus, *, aged: bool = True) -> list[Header]:
    """The stored fields, Age, and our Cache-Status after those of caches nearer to the origin (RFC 9211 §2).

    No Date is added: the server does that, and there must not be two.
    """
    age = [(b"age", b"%d" % current_age(entry, now))] if aged else []
    return [*entry.headers, *age, (b"cache-status", cache_status.render())]


def moment(entry: Entry, now: float) -> list[Header]:
    """What changes with time in `hit_headers` of what is fresh, where nothing else is to be said of it."""
    ttl = int(seconds_until_stale(entry, now))
    return [(b"age", b"%d" % current_age(entry, now)), (b"cache-status", hit_status(ttl))]


def moment_until(entry: Entry, now: float) -> float:
    """When that is another."""
    return now + min(1.0 - current_age(entry, now) % 1.0, seconds_until_stale(entry, now) % 1.0)


def conditional(head: Head, request: Request, now: float) -> Head | None:
    """What the client's conditions make of a response whose body is still to come: a 304 or 412. None: send it."""
    decided = verdict(request, head.status, head.headers, now)
    return None if decided == _OK else Head(status=decided, headers=_without_content(decided, head.headers))


def slice_of(head: Head, request: Request, now: float) -> tuple[Head, int, int] | None:
    """The same for Range: a 206, and which bytes of the body it takes, `body[start:stop]`. None: send it whole.

    One satisfiable range of a 200 whose length is announced. Conditions come first.
    """
    length = _announced(head)
    spans = None if length is None else ranges.wanted(request, head.headers, now, length)
    if spans is None or len(spans) != 1:
        return None
    fields = ranges.part_headers(head.headers, spans[0], length)
    return Head(status=ranges.PARTIAL_CONTENT, headers=fields), spans[0].first, spans[0].last + 1


def strong_etag(body: bytes, content_encoding: bytes) -> bytes:
    """An entity tag by content: each encoding of a representation has its own (RFC 9110 §8.8.3.3)."""
    digest = blake2b(b"%d:%b" % (len(content_encoding), content_encoding), digest_size=16)
    digest.update(body)
    return b'"' + digest.hexdigest().encode() + b'"'


def dress(  # noqa: PLR0913 - all that the outside is told of
    head: Head,
    policy: Policy,
    *,
    declared: bool,
    guarded: bool,
    tags: Sequence[str],
    selecting_names: Iterable[bytes],
) -> Head:
    """The head with what clients and CDNs are told beyond what the endpoint says itself. Its own words stay."""
    headers = _told(head, policy, guarded=guarded) if declared else list(head.headers)
    groups = [tag for tag in tags if _is_group(tag)][:GROUPS_SENT]
    if groups:
        headers.append((b"cache-groups", b", ".join([structured.string(tag) for tag in groups])))
    return Head(status=head.status, headers=varying(headers, selecting_names))


def varying(headers: list[Header], names: Iterable[bytes]) -> list[Header]:
    """The fields of a response with more names in Vary."""
    given = members(headers, b"vary")
    known = [name.lower() for name in given]
    new = [name for name in dict.fromkeys(names) if name not in known and name != EVERY]
    if not new or b"*" in known:
        return headers
    return [*without(headers, {b"vary"}), (b"vary", b", ".join([*given, *new]))]


def _announced(head: Head) -> int | None:
    """The length of a complete representation, where it is known before its body."""
    given = lines(head.headers, b"content-length")
    if head.status != _OK or len(given) != 1 or not given[0].isdigit() or len(given[0]) > _DIGITS_LIMIT:
        return None
    return int(given[0])


def _unsatisfied(headers: Headers, complete: int | None) -> list[Header]:
    length = b"*" if complete is None else b"%d" % complete
    return [*_without_content(_UNSATISFIABLE, headers), (b"content-range", b"bytes */" + length)]


def _without_content(status: int, headers: Headers) -> list[Header]:
    if status == _NOT_MODIFIED:
        tagged = any(name == b"etag" for name, _ in headers)
        return without(headers, _UNTAGGED_FIELDS if tagged else _CONTENT_FIELDS)
    return [*without(headers, _CONTENT_FIELDS | _REUSE_FIELDS), (b"content-length", b"0")]


def _ranged(entry: Entry, request: Request, headers: list[Header]) -> Reply:
    held, part = entry.body, entry.partial
    offset, complete = (0, len(held)) if part is None else (part.first, part.complete)
    spans = ranges.wanted(request, entry.headers, entry.answered_at, complete)
    if spans is None or not ranges.covers(entry, request):
        return Reply(entry.status, headers, b"" if request.method == "HEAD" else held)
    if not spans:
        return Reply(_UNSATISFIABLE, _unsatisfied(headers, complete), b"")
    parts = [(span, held[span.first - offset : span.last + 1 - offset]) for span in spans]
    if len(parts) == 1:
        return Reply(ranges.PARTIAL_CONTENT, ranges.part_headers(headers, spans[0], complete), parts[0][1])
    return Reply(ranges.PARTIAL_CONTENT, *ranges.multipart(headers, parts, complete))


def _told(head: Head, policy: Policy, *, guarded: bool) -> list[Header]:
    """RFC 9111 §5.2.2 for browsers, RFC 9213 for CDNs. A response with Set-Cookie is for one user on any route."""
    headers = list(head.headers)
    names = {name for name, _ in headers}
    guarded = guarded or b"set-cookie" in names
    said = Directives.of(headers)
    if said is NO_DIRECTIVES and b"expires" not in names:
        if head.status < _ERRORS_FROM:
            own = own_lines(policy, guarded=guarded)
            return [*headers, *[line for line in own.items() if line[0] not in names]]
        return [*headers, (b"cache-control", b"private")] if guarded else headers
    if guarded and _OWN_WORD.isdisjoint(said.found):
        rest = [value for value in lines(headers, b"cache-control") if value]
        return [*without(headers, {b"cache-control"}), (b"cache-control", b", ".join([b"private", *rest]))]
    return headers


def _is_group(tag: str) -> bool:
    """Tags of our own making (`keys.uri_tag`) are longer than that, and are told nobody."""
    return 0 < len(tag) <= GROUPS_SENT and tag.isascii() and tag.isprintable()
