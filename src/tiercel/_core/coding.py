"""Content codings: which one a client gets, what may be encoded, and what is sent then (RFC 9110 §8.4, §12.5.3)."""

import re
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from tiercel._core.entry import Coded, Entry, Head, Header, Headers
from tiercel._core.headers import Directives, combined, lines, members
from tiercel._core.keys import HARMLESS
from tiercel._core.present import varying

ACCEPT_ENCODING: Final = b"accept-encoding"
CODINGS: Final = (b"zstd", b"br", b"gzip")
"""The content codings that are negotiated, the best first."""
LEAST: Final = 1024
"""Bytes of the smallest body that is encoded: a shorter one fits into the packets that are sent anyway."""

_IDENTITY: Final = b"identity"
_ANY: Final = b"*"
_OK = 200
_DIGITS_LIMIT = 18
# Longer values are read each time, lest a hostile client fills memory with them.
_REMEMBERED_BYTES = 512

_weighted = re.compile(rb"([!#$%&'*+\-.^_`|~0-9a-z]+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]*")

# What describes the very bytes, or says that they are encoded already: encoded anew, the response would lie.
_OF_THESE_BYTES = frozenset({
    b"content-digest", b"content-encoding", b"content-md5", b"content-range", b"digest", b"repr-digest", b"signature",
    b"signature-input",
})  # fmt: skip
_COMPRESSIBLE = frozenset({
    b"application/ecmascript", b"application/graphql", b"application/javascript",
    b"application/json", b"application/json-seq", b"application/jsonl", b"application/manifest+json",
    b"application/msgpack", b"application/ndjson", b"application/rtf", b"application/sql", b"application/toml",
    b"application/vnd.apple.mpegurl", b"application/vnd.ms-fontobject", b"application/wasm",
    b"application/x-javascript", b"application/x-ndjson", b"application/x-sh", b"application/x-yaml",
    b"application/xml", b"application/xml-dtd", b"application/yaml", b"font/collection", b"font/otf", b"font/ttf",
    b"image/bmp", b"image/vnd.microsoft.icon", b"image/x-icon", b"model/obj", b"model/stl",
})  # fmt: skip
_SUFFIXES = (b"+json", b"+xml", b"+yaml", b"+json-seq")
_ENDLESS = b"text/event-stream"
# What every browser sends of itself: a response selected by nothing else is nobody's own.
_OPEN = HARMLESS | {
    b"accept", b"accept-charset", ACCEPT_ENCODING, b"accept-language", b"access-control-request-headers",
    b"access-control-request-method", b"dnt", b"origin", b"prefer", b"save-data", b"user-agent", b"x-requested-with",
}  # fmt: skip


def preferred(headers: Headers) -> tuple[bytes, ...]:
    """The codings that a request would rather have than the identity, the best first."""
    value = combined(headers, ACCEPT_ENCODING)
    # §12.5.3: without the field anything goes. Who does not ask for a coding may not know any.
    return () if value is None else weighed(value)


def weighed(value: bytes) -> tuple[bytes, ...]:
    """The same, of the value of the field."""
    return _remembered(value) if len(value) <= _REMEMBERED_BYTES else _preferred(value)


def canonical(headers: Headers) -> Headers:
    """The fields of a request with one of few values of Accept-Encoding; it asks for nothing that the client does not.

    Where it is there at all: who sends none has said nothing.
    """
    if all(name != ACCEPT_ENCODING for name, _ in headers):
        return headers
    one = _spelled(preferred(headers))
    kept: list[Header] = []
    for name, value in headers:
        if name != ACCEPT_ENCODING:
            kept.append((name, value))
        elif one:
            kept.append((name, one))
            one = b""
    return kept


def encodable(head: Head, *, private: bool) -> bool:
    """Whether an answer may be sent encoded, as far as its head tells. `private`: also where it may be one user's.

    Compressed, what an attacker makes a page say beside a secret tells by its length what the secret is (BREACH).
    """
    kinds = lines(head.headers, b"content-type")
    if head.status != _OK or len(kinds) != 1 or not _is_compressible(kinds[0]):
        return False
    if any(name in _OF_THESE_BYTES for name, _ in head.headers) or not _is_long(head.headers):
        return False
    said = Directives.of(head.headers)
    if "no-transform" in said:  # RFC 9111 §5.2.2.6
        return False
    return private or not _may_be_private(head.headers, said)


def offered(headers: Headers) -> list[Header]:
    """The fields of a response that may be sent encoded: whoever caches it keeps the encodings apart."""
    return varying(list(headers), (ACCEPT_ENCODING,))


def untagged(headers: Headers) -> list[Header]:
    """The fields of a request that is to change something: the application knows its entity tags without a coding.

    RFC 9110 §13.1.1: whoever has seen the representation in any coding may change the resource.
    """
    return [(name, _TAG.sub(b"", value) if name == b"if-match" else value) for name, value in headers]


def is_whole(entry: Entry) -> bool:
    """Whether a stored response has a body that is worth encoding."""
    return entry.method != "HEAD" and entry.partial is None and len(entry.body) >= LEAST


def coded(coding: bytes, body: bytes, made: bytes | None) -> Coded:
    """What has become of a body; it is kept only where it is smaller.

    The tag is of the bytes: another release of a compressor makes others, of which no part fits to these.
    """
    if made is None or len(made) >= len(body):
        return Coded(coding, None, b"")
    return Coded(coding, made, b";" + coding + b"-" + blake2b(made, digest_size=8).hexdigest().encode())


def found(entry: Entry, coding: bytes) -> Coded | None:
    """What was made of its body before."""
    return next((one for one in entry.coded if one.coding == coding), None)


def encoded(entry: Entry, form: Coded) -> Entry:
    """The stored response as it is sent in a coding: a representation of its own, by an entity tag of its own."""
    if form.body is None:
        return entry
    headers = [(name, _tagged(value, form.tag) if name == b"etag" else value) for name, value in entry.headers]
    replaced = [line for line in offered(headers) if line[0] != b"content-length"]
    told = [(b"content-encoding", form.coding), (b"content-length", b"%d" % len(form.body))]
    return replace(entry, headers=[*replaced, *told], body=form.body, coded=())


def _preferred(value: bytes) -> tuple[bytes, ...]:
    weights: dict[bytes, int] = {}
    for member in value.lower().split(b","):
        coding, weight = _read(member.strip(b" \t"))
        weights[coding] = min(weight, weights.get(coding, weight))
    other = weights.get(_ANY, 0)
    least = max(1, weights.get(_IDENTITY, other))
    wanted = [(weights.get(coding, other), coding) for coding in CODINGS]
    return tuple([coding for weight, coding in sorted(wanted, key=lambda one: -one[0]) if weight >= least])


_remembered = lru_cache(maxsize=1024)(_preferred)


def _read(member: bytes) -> tuple[bytes, int]:
    """A coding, and its weight in thousandths. One that cannot be read is not wanted."""
    read = _weighted.fullmatch(member)
    if read is None:
        start = _name.match(member)
        return _plain(start[0] if start else b""), 0
    return _plain(read[1]), 1000 if read[2] is None else round(float(read[2]) * 1000)


def _plain(coding: bytes) -> bytes:
    return b"gzip" if coding == b"x-gzip" else coding  # RFC 9110 §8.4.1.3


def _spelled(codings: tuple[bytes, ...]) -> bytes:
    """As few values as there are answers: 16. What is read of one is what it was made of."""
    if not codings:
        return _IDENTITY
    if codings == tuple([coding for coding in CODINGS if coding in codings]):
        return b", ".join(codings)
    first, *rest = codings
    return b", ".join([first, *[b"%b;q=0.%d" % (coding, 9 - at) for at, coding in enumerate(rest)]])


def _is_compressible(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if kind.startswith(b"text/"):
        return kind != _ENDLESS
    return kind in _COMPRESSIBLE or kind.endswith(_SUFFIXES)


def _is_long(headers: Headers) -> bool:
    """A length that is not announced may be any."""
    given = lines(headers, b"content-length")
    return all(value.isdigit() and len(value) <= _DIGITS_LIMIT and int(value) >= LEAST for value in given)


def _may_be_private(headers: Headers, said: Directives) -> bool:
    if "private" in said and said.fields("private") is None:
        return True
    names = [name.lower() for name in members(headers, b"vary")]
    return any(name not in _OPEN and not name.startswith(b"sec-") for name in names)


_TAG = re.compile(rb';(?:zstd|br|gzip)-[0-9a-f]{16}(?=")')


def _tagged(etag: bytes, tag: bytes) -> bytes:
    """Inside the quotation marks; what is weak stays so."""
    return etag[:-1] + tag + b'"' if etag.endswith(b'"') else etag + tag
