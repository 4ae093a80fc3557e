"""Cache keys and selecting header fields: RFC 9111 §2 and §4.1, RFC 10008 §2.7."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from tiercel._core.conditions import same_strong
from tiercel._core.dates import parse_date
from tiercel._core.entry import Entry, Headers, Request, Selecting
from tiercel._core.freshness import current_age, retain_until
from tiercel._core.headers import combined, lines, members, split
from tiercel._core.ranges import covers

NEVER_SELECTING: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
        b"transfer-encoding",
    }
)
"""Fields that no response in store can depend on: the host is in every key, framing is the connection's, and the
application never sees a client's own preconditions (`rfc9111.forwarded`). Many a framework looks them up, though."""

HARMLESS: Final = frozenset(
    {
        b"host",  # in the primary key
        b"connection",  # hop by hop, RFC 9110 §7.6.1; so are the next six
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",  # a request with content is not looked up, or is keyed by its content
        b"expect",  # about sending that content
        b"max-forwards",  # for TRACE and OPTIONS
        b"if-match",  # conditions on the stored response, RFC 9110 §13; evaluated by us, for each client
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"range",  # which bytes of it, RFC 9110 §14; cut by us, for each client
        b"cache-control",  # asks caches, does not choose a representation: RFC 9111 §5.2.1
        b"pragma",
        b"priority",  # when, not what: RFC 9218
        b"date",  # these name one request; a response chosen by them could never be used again
        b"traceparent",
        b"tracestate",
        b"b3",
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"x-b3-parentspanid",
        b"x-b3-sampled",
        b"x-amzn-trace-id",
        b"x-cloud-trace-context",
        b"x-request-id",
        b"x-request-start",
        b"x-correlation-id",
        b"cf-ray",
    }
)
"""Fields that select nothing, whoever is seen to read them; Vary may still name them."""

EVERY: Final = b"*"
"""Among selecting names: all fields but the harmless ones. Who copies them into a dict also sees which are absent."""

_SIZE = 16
_DEFAULT_PORTS = {"http": b":80", "https": b":443"}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What a request says of its content, RFC 9110 §8: part of what a QUERY asks.
_CONTENT_FIELDS = (b"content-type", b"content-encoding", b"content-language")
_PREFERENCES = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})

# Longer values are worked out each time, lest a hostile client fills memory with them.
_REMEMBERED_BYTES = 512
_HOST_BYTES = 255  # of a name, RFC 1035 §2.3.4

_percent = re.compile(rb"%([0-9A-Fa-f]{2})")
_weight = re.compile(rb"[01](?:\.[0-9]{0,3})?")


def primary(*parts: bytes | None) -> bytes:
    """A digest of the parts that no other list of parts shares; None is not the empty part."""
    framed = [b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts]
    return blake2b(b"".join(framed), digest_size=_SIZE).digest()


def of_request(request: Request) -> bytes:
    """The primary key of a request by its URI; GET and HEAD share it, RFC 9111 §4."""
    uri = origin(request.scheme, request.authority), request.target
    if request.method != "QUERY":
        return primary(b"GET", *uri)
    # RFC 10008 §2.7: the content and what is said of it are part of the key.
    said = [combined(request.headers, name) for name in _CONTENT_FIELDS]
    return primary(b"QUERY", *uri, request.content, *said)


def origin(scheme: str, authority: bytes) -> bytes:
    """Scheme, host and port in one spelling: RFC 9110 §4.3.1, §4.2.3."""
    return _remembered_origin(scheme, authority) if len(authority) <= _HOST_BYTES else _origin(scheme, authority)


def _origin(scheme: str, authority: bytes) -> bytes:
    scheme = scheme.lower()
    host = authority.lower().removesuffix(_DEFAULT_PORTS.get(scheme, b"")).removesuffix(b":")
    return scheme.encode("utf-8", "replace") + b"://" + host


_remembered_origin = lru_cache(maxsize=256)(_origin)


def uri_tag(scheme: str, authority: bytes, target: bytes) -> str:
    """The synthetic tag of whatever is stored for a URI; equivalent URIs share it (RFC 9110 §4.2.3)."""
    target = target.partition(b"#")[0] or b"/"
    if b"%" in target:
        target = _percent.sub(_normal_octet, target)
    return "u:" + primary(origin(scheme, authority), target).hex()


def group_tag(scheme: str, authority: bytes, group: str) -> str:
    """The synthetic tag of a cache group, which belongs to one origin: RFC 9875 §2.1."""
    return "g:" + primary(origin(scheme, authority), group.encode("utf-8", "replace")).hex()


def selecting(names: Iterable[bytes], headers: Headers) -> Selecting:
    """What of a request selects among stored responses. Digests: the values may be secrets, and long."""
    chosen = sorted(set(names) - NEVER_SELECTING)
    return tuple([(name, _digest(name, headers)) for name in chosen]) if chosen else ()


def offered(headers: Headers) -> dict[bytes, bytes]:
    """All that may select, by name, as digests; what is absent is not there."""
    names = {name for name, _ in headers} - NEVER_SELECTING
    return {name: digest for name, digest in selecting({*names, EVERY}, headers) if digest is not None}


def vary_names(headers: Headers) -> frozenset[bytes] | None:
    """The field names that Vary lists; None where `*` is among them."""
    found = members(headers, b"vary")
    names = frozenset([name.lower() for name in found]) if found else frozenset[bytes]()
    return None if b"*" in names else names


def matches(entry: Entry, headers: Headers) -> bool:
    """Whether a request's selecting fields are those that the response was stored for."""
    return all(_digest(name, headers) == digest for name, digest in entry.selecting)


def select(stored: Sequence[Entry], request: Request) -> Entry | None:
    """The stored response to use: RFC 9111 §4.1."""
    matching = [entry for entry in _matching(stored, request.headers) if _answers(entry, request.method)]
    if len(matching) <= 1:
        return matching[0] if matching else None
    return max(matching, key=lambda entry: (entry.partial is None, covers(entry, request), _dated(entry)))


def admit(stored: Sequence[Entry], entry: Entry, now: float, limit: int) -> tuple[Entry, ...] | None:
    """What is stored under a key with one more response; None where the variants in use leave it no room.

    It replaces its own older self, and what is past all use. Nothing else is lost to a newcomer.
    """
    kept = [old for old in stored if retain_until(old) > now and not _supersedes(entry, old, now)]
    if len(kept) >= limit:
        return None
    if entry.method == "HEAD":
        kept = [_outdated(old, now) if _same_variant(entry, old) else old for old in kept]
    return (entry, *kept)


def _normal_octet(found: re.Match[bytes]) -> bytes:
    octet = int(found[1], 16)
    return bytes((octet,)) if octet in _UNRESERVED else found[0].upper()


def _digest(name: bytes, headers: Headers) -> bytes | None:
    if name == EVERY:
        rest = sorted([line for line in headers if line[0] not in HARMLESS], key=lambda line: line[0])
        return primary(*[part for line in rest for part in line])
    values = [value for field, value in headers if field == name]
    if not values:
        return None
    # RFC 9113 §8.2.3: cookies are split into lines, too.
    value = (b"; " if name == b"cookie" else b", ").join(values)
    if name in _PREFERENCES:
        short = len(value) <= _REMEMBERED_BYTES
        return _remembered(name, value) if short else _digest_of_preferences(name, value)
    return blake2b(value, digest_size=_SIZE).digest()


def _digest_of_preferences(name: bytes, value: bytes) -> bytes:
    """What RFC 9110 §12.5 calls insignificant, made the same.

    The order of equally weighted languages and types decides in many an application, so it stays (§12.5.4).
    """
    found = [_preference(member) for member in split(value)]
    value = b",".join(sorted(set(found)) if name == b"accept-encoding" else found)
    return blake2b(value, digest_size=_SIZE).digest()


_remembered = lru_cache(maxsize=1024)(_digest_of_preferences)


def _preference(member: bytes) -> bytes:
    if b'"' in member:
        return member
    value, *parameters = [part.strip(b" \t") for part in member.split(b";")]
    kept = [value.lower()]
    for parameter in parameters:
        name, _, given = parameter.partition(b"=")
        if name.lower() == b"q" and _weight.fullmatch(given):
            given = given.rstrip(b"0").rstrip(b".") if b"." in given else given
            if given == b"1":  # the default
                continue
        kept.append(name.lower() + b"=" + given)
    return b";".join(kept)


def _matching(stored: Sequence[Entry], headers: Headers) -> Iterator[Entry]:
    """Those whose selecting fields match. Each field is read once, however many variants there are."""
    digests: dict[bytes, bytes | None] = {}
    for entry in stored:
        for name, digest in entry.selecting:
            if name not in digests:
                digests[name] = _digest(name, headers)
            if digests[name] != digest:
                break
        else:
            yield entry


def _answers(entry: Entry, method: str) -> bool:
    """RFC 9111 §4: a stored GET, if complete, answers HEAD; else the methods are the same."""
    if method == "HEAD" and entry.method == "GET":
        return entry.partial is None
    return entry.method == method


def _dated(entry: Entry) -> float:
    dates = [parse_date(value, now=entry.answered_at) for value in lines(entry.headers, b"date")]
    return max((date for date in dates if date is not None), default=entry.answered_at)


def _same_variant(entry: Entry, old: Entry) -> bool:
    return entry.selecting == old.selecting


def _supersedes(entry: Entry, old: Entry, now: float) -> bool:
    if not _same_variant(entry, old):
        return False
    if entry.method == "HEAD":
        return old.method == "HEAD"
    if entry.partial is None:
        return True
    if old.method == "HEAD":
        return False
    if old.partial is None:  # whoever asks for one byte must not end what may still stand in for an error
        return retain_until(old) <= now
    held = entry.partial.first <= old.partial.first and old.partial.last <= entry.partial.last
    return held or not same_strong(combined(entry.headers, b"etag"), combined(old.headers, b"etag"))


def _outdated(old: Entry, now: float) -> Entry:
    """RFC 9111 §4.3.5: a HEAD that did not confirm a stored GET makes it stale."""
    return replace(old, lifetime=min(old.lifetime, current_age(old, now)))
