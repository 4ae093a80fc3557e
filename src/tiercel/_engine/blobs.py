"""Stored responses and values as bytes, and back: for stores that other processes share.

Moments are told as seconds before the blob was made. Whoever reads it adds how long it has been in store, by the
store's clock, and counts back from its own now: no two machines' clocks are compared.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import msgspec

from tiercel._core import codec
from tiercel._core.calls import Value
from tiercel._core.entry import Entry, Partial, Selecting
from tiercel._core.headers import shared
from tiercel._engine.compression import zstd

_Header = tuple[bytes, bytes]


class _Response(msgspec.Struct, array_like=True, frozen=True):
    method: str
    status: int
    headers: list[_Header]
    selecting: Selecting
    tags: tuple[str, ...]
    asked_ago: float
    answered_ago: float
    initial_age: float
    lifetime: float
    stale_while_revalidate: float
    stale_if_error: float
    must_revalidate: bool
    must_validate: bool
    cost: float
    partial: tuple[int, int, int | None] | None


class _Value(msgspec.Struct, array_like=True, frozen=True):
    tags: tuple[str, ...]
    made_ago: float
    fresh_for: float
    stale_while_revalidate: float
    stale_if_error: float
    cost: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Response).decode
_decode_value = msgspec.msgpack.Decoder(_Value).decode


class Blobs:
    """Writes with the first secret, reads with any of them; without secrets nothing is signed.

    Args:
        secrets: What to sign with.
        compress_above: Bodies of more bytes are compressed; None: none. Reading needs no setting, only the package.
    """

    def __init__(self, secrets: Sequence[bytes] = (), *, compress_above: int | None = None) -> None:
        self._secrets = tuple(secrets)
        self._zstd = zstd()
        self._above = inf if compress_above is None else compress_above

    def write(self, entry: Entry, *, key: bytes, now: float) -> bytes:
        """A response as it is now.

        UnicodeEncodeError: a tag has what UTF-8 does not.
        """
        part = entry.partial
        head = _Response(
            method=entry.method,
            status=entry.status,
            headers=[(bytes(name), bytes(value)) for name, value in entry.headers],
            selecting=entry.selecting,
            tags=entry.tags,
            asked_ago=max(0.0, now - entry.asked_at),
            answered_ago=max(0.0, now - entry.answered_at),
            initial_age=entry.initial_age,
            lifetime=entry.lifetime,
            stale_while_revalidate=entry.stale_while_revalidate,
            stale_if_error=entry.stale_if_error,
            must_revalidate=entry.must_revalidate,
            must_validate=entry.must_validate,
            cost=entry.cost,
            partial=None if part is None else (part.first, part.last, part.complete),
        )
        frame = codec.Frame(codec.RESPONSE, _encode(head), entry.body)
        return self._sealed(frame, key)

    def read(self, blob: bytes, *, key: bytes, now: float, age: float, born: int) -> Entry | codec.Unreadable:
        """The response, as it is after so many seconds in store."""
        frame = self._unsealed(blob, codec.RESPONSE, key)
        if isinstance(frame, str):
            return frame
        try:
            head = _decode(frame.head)
        except (msgspec.MsgspecError, UnicodeError):
            return "damaged"
        return _entry(head, frame.body, now - max(0.0, age), born)

    def write_value(self, value: Value, packed: bytes, *, key: bytes, now: float) -> bytes:
        """A value as it is now. Raises as `write` does."""
        head = _Value(
            tags=value.tags,
            made_ago=max(0.0, now - value.made_at),
            fresh_for=value.fresh_until - now,
            stale_while_revalidate=value.stale_while_revalidate,
            stale_if_error=value.stale_if_error,
            cost=value.cost,
        )
        return self._sealed(codec.Frame(codec.VALUE, _encode(head), packed), key)

    def read_value(self, blob: bytes, *, key: bytes, now: float, age: float, born: int) -> Value | codec.Unreadable:
        """The value, as it is after so many seconds in store; its payload is what was packed."""
        frame = self._unsealed(blob, codec.VALUE, key)
        if isinstance(frame, str):
            return frame
        try:
            head = _decode_value(frame.head)
        except (msgspec.MsgspecError, UnicodeError):
            return "damaged"
        put_at = now - max(0.0, age)
        return Value(
            payload=frame.body,
            tags=head.tags,
            born=born,
            made_at=put_at - head.made_ago,
            fresh_until=put_at + head.fresh_for,
            stale_while_revalidate=head.stale_while_revalidate,
            stale_if_error=head.stale_if_error,
            cost=head.cost,
        )

    def _sealed(self, frame: codec.Frame, key: bytes) -> bytes:
        compress = self._zstd.compress if self._zstd and len(frame.body) > self._above else None
        return codec.seal(frame, key=key, secret=self._secrets[0] if self._secrets else b"", compress=compress)

    def _unsealed(self, blob: bytes, kind: int, key: bytes) -> codec.Frame | codec.Unreadable:
        decompress = self._zstd.decompress if self._zstd else None
        return codec.unseal(blob, kind, key=key, secrets=self._secrets, decompress=decompress)


def _entry(head: _Response, body: bytes, put_at: float, born: int) -> Entry:
    given: dict[str, Any] = msgspec.structs.asdict(head)
    partial, asked_ago, answered_ago = given.pop("partial"), given.pop("asked_ago"), given.pop("answered_ago")
    del given["headers"]
    return Entry(
        **given,
        headers=list(shared(head.headers)),
        body=body,
        born=born,
        asked_at=put_at - asked_ago,
        answered_at=put_at - answered_ago,
        partial=None if partial is None else Partial(first=partial[0], last=partial[1], complete=partial[2]),
    )
