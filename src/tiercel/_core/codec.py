"""The frame of what a shared store keeps: bytes that say what they are, so that nothing else is ever taken for them.

    magic 3 │ version 1 │ kind 1 │ flags 1 │ size of the head 4 │ size of the body 4 │ MAC 0 or 32 │ head │ body

Nothing stored is code. What cannot be read is a reason, never an exception, and costs no more memory than it has bytes,
or than `LARGEST` where it is compressed.
"""

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from struct import Struct
from typing import Final, Literal, NamedTuple

VERSION: Final = 1
RESPONSE: Final = 1
VALUE: Final = 2

LARGEST: Final = 1 << 30
"""Bytes of a body, once it is no longer compressed."""

Compress = Callable[[bytes], bytes]
Decompress = Callable[[bytes, int], bytes]
"""Over what is compressed, and the number of bytes that it was. Raises ValueError where it is not so."""

Unreadable = Literal[
    "truncated",
    "foreign",  # another program's, or garbage
    "version",  # another release's
    "kind",  # a value where a response is wanted
    "unsigned",  # there are secrets, and it has no MAC
    "forged",  # or signed with a secret that is not ours, or moved from another key
    "damaged",
    "compressed",  # and nobody here can read that
    "too-large",
]
"""Why something cannot be read."""

_MAGIC: Final = b"\xf7tl"
_HEAD: Final = Struct(">3sBBBII")
_SIZE: Final = Struct(">I")
_COMPRESSED: Final = 1
_SIGNED: Final = 2
_MAC: Final = 32


class Frame(NamedTuple):
    """What is in it: two pieces, of which the second is the large one."""

    kind: int
    head: bytes
    body: bytes


def seal(frame: Frame, *, key: bytes, secret: bytes = b"", compress: Compress | None = None) -> bytes:
    """The bytes to store under a key. Signed where there is a secret; compressed where that makes it smaller."""
    body, flags = frame.body, 0
    if compress is not None:
        smaller = _SIZE.pack(len(body)) + compress(body)
        if len(smaller) < len(body):
            body, flags = smaller, _COMPRESSED
    if secret:
        flags |= _SIGNED
    start = _HEAD.pack(_MAGIC, VERSION, frame.kind, flags, len(frame.head), len(body))
    rest = frame.head + body
    return b"".join((start, _mac(secret, key, start + rest) if secret else b"", rest))


def unseal(
    blob: bytes, kind: int, *, key: bytes, secrets: Sequence[bytes] = (), decompress: Decompress | None = None
) -> Frame | Unreadable:
    """What was sealed under this key; or why it cannot be read. Any of the secrets may have signed it."""
    if len(blob) < _HEAD.size:
        return "truncated"
    magic, version, found, flags, head_size, body_size = _HEAD.unpack_from(blob)
    if magic != _MAGIC:
        return "foreign"
    if version != VERSION or flags > _COMPRESSED | _SIGNED:
        return "version"
    at = _HEAD.size + (_MAC if flags & _SIGNED else 0)
    refusal = _refused(blob, at, head_size + body_size, key, secrets)
    if refusal is not None or found != kind:
        return refusal or "kind"
    body = blob[at + head_size :]
    whole = _whole(body, decompress) if flags & _COMPRESSED else body
    return whole if isinstance(whole, str) else Frame(kind, blob[at : at + head_size], whole)


def _refused(blob: bytes, at: int, size: int, key: bytes, secrets: Sequence[bytes]) -> Unreadable | None:
    if len(blob) != at + size:
        return "truncated"
    if not secrets:
        return None
    mac = blob[_HEAD.size : at]
    if not mac:
        return "unsigned"
    told = [hmac.compare_digest(mac, _mac(secret, key, blob[: _HEAD.size] + blob[at:])) for secret in secrets]
    return None if any(told) else "forged"


def _whole(body: bytes, decompress: Decompress | None) -> bytes | Unreadable:
    if decompress is None:
        return "compressed"
    if len(body) < _SIZE.size:
        return "damaged"
    size = int(_SIZE.unpack_from(body)[0])
    if size > LARGEST:
        return "too-large"
    try:
        whole = decompress(body[_SIZE.size :], size)
    except ValueError:
        return "damaged"
    return whole if len(whole) == size else "damaged"


def _mac(secret: bytes, key: bytes, unsigned: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) over key and frame; either says its own size, so neither runs into the other."""
    return hmac.digest(secret, _SIZE.pack(len(key)) + key + unsigned, sha256)
