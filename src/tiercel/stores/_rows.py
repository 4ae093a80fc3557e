"""How a local store writes things down: keys and rows as bytes, in an order in which LMDB finds them."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from struct import error as unpacking_error
from typing import Any, Final, NamedTuple

import msgspec

from tiercel._core.entry import Selecting
from tiercel.spi import Cut, Parcel

UNREADABLE: Final = (ValueError, unpacking_error, msgspec.MsgspecError)
"""What is raised where something cannot be read."""

_HEAD: Final = Struct(">QQdddd II")
_NUMBER: Final = Struct(">Q")
_PAIR: Final = Struct(">QQ")
_MILLISECONDS: Final = 1000
_DIGEST: Final = 16
_HOLDS: Final = "holds"
_FAR: Final = 1e12

Key = bytes
"""Namespace, primary key and variant."""


class Row(NamedTuple):
    """A parcel in its place."""

    seq: int
    """How many had been stored before it."""
    put_at: float
    parcel: Parcel

    def age(self, now: float) -> float:
        """Seconds since it was put."""
        return max(0.0, now - self.put_at)

    def is_usable(self, now: float) -> bool:
        """Whether it is not past all use."""
        return self.age(now) < self.parcel.retain_for


def number(value: int) -> bytes:
    """In an order in which bytes compare as numbers do."""
    return _NUMBER.pack(value)


def to_number(row: bytes) -> int:
    return int(_NUMBER.unpack(row)[0])


def pair(first: int, second: int) -> bytes:
    return _PAIR.pack(first, second)


def to_pair(row: bytes) -> tuple[int, int]:
    first, second = _PAIR.unpack(row)
    return first, second


def moment(seconds: float) -> bytes:
    """In order, too; what is further off than anybody waits is equally far."""
    return number(min(max(0, int(min(seconds, _FAR) * _MILLISECONDS)), 2**63))


def to_moment(row: bytes) -> float:
    """What a row that begins with one is sorted by; one that is too short comes early."""
    return to_number(row[:8].ljust(8, b"\0")) / _MILLISECONDS


def space_of(namespace: str) -> bytes:
    """Keeps the keys of one service apart from another's: of one length, so that none begins another."""
    return blake2b(namespace.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def tag_key(space: bytes, tag: str) -> bytes:
    """The key of a tag's cuts; tags may be longer than a key of LMDB."""
    return space + blake2b(tag.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def lane_key(space: bytes, key: bytes, lane: bytes) -> bytes:
    """The key of a lease."""
    return space + blake2b(key + b"|" + lane, digest_size=_DIGEST).digest()


def shelf_key(space: bytes, key: bytes) -> bytes:
    """What the keys of all variants of a primary key begin with."""
    return space + blake2b(key, digest_size=_DIGEST).digest()


def variant_of(selecting: Selecting) -> bytes:
    """Which of the variants it is."""
    return blake2b(_selecting(selecting), digest_size=_DIGEST).digest()


def expiry_key(row: Row) -> bytes:
    """What ends first comes first; of what ends together, what was first stored."""
    return moment(row.put_at + row.parcel.retain_for) + number(row.seq)


def to_row(row: Row) -> bytes:
    parcel = row.parcel
    selecting, tags = _selecting(parcel.selecting), json.dumps(parcel.tags).encode()
    head = _HEAD.pack(
        row.seq,
        parcel.born,
        row.put_at,
        parcel.fresh_for,
        parcel.retain_for,
        parcel.cost,
        len(selecting),
        len(tags),
    )
    return b"".join((head, selecting, tags, parcel.blob))


def of_row(data: bytes) -> Row:
    """Raises one of `UNREADABLE` where it is none."""
    seq, born, put_at, fresh_for, retain_for, cost, size, tags_size = _HEAD.unpack_from(data)
    tags_at = _HEAD.size + size
    blob_at = tags_at + tags_size
    parcel = Parcel(
        selecting=_to_selecting(data[_HEAD.size : tags_at]),
        born=born,
        tags=_texts(json.loads(data[tags_at:blob_at])),
        fresh_for=fresh_for,
        retain_for=retain_for,
        cost=cost,
        blob=data[blob_at:],
    )
    return Row(seq, put_at, parcel)


def to_record(
    space: bytes, tags: Sequence[str], *, soft: bool = False, holds: bool = False, releases: int = 0
) -> bytes:
    kind = _HOLDS if holds else releases or soft
    return space + json.dumps([kind, *tags]).encode()


def cuts_of(data: bytes) -> list[bytes]:
    """The names of the cuts that a record made, whatever its namespace; not that of everything, which stays.

    Raises one of `UNREADABLE` where it is none.
    """
    return [tag_key(data[:_DIGEST], tag) for tag in _record(data[_DIGEST:])[1]] if data else []


def of_record(space: bytes, cut: int, data: bytes) -> Cut | None:
    """None where it is another namespace's. Raises one of `UNREADABLE` where it is none."""
    if not data.startswith(space):
        return None
    kind, tags = _record(data[_DIGEST:])
    releases = 0 if isinstance(kind, bool | str) else kind
    return Cut(id=cut, tags=tags, soft=kind is True, holds=kind == _HOLDS, releases=releases)


def _record(data: bytes) -> tuple[bool | int | str, tuple[str, ...]]:
    """Whether it cuts softly, or holds, or the id of the cut whose hold it ends; and the tags."""
    match json.loads(data):
        case [(bool() | int() | "holds") as kind, *tags]:
            return kind, _texts(tags)
        case _:
            raise ValueError("it is no record")


def _texts(found: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever there is
    return msgspec.convert(found, tuple[str, ...])


_selecting = msgspec.msgpack.Encoder().encode
_to_selecting = msgspec.msgpack.Decoder(Selecting).decode
