"""Between parcels and what the scripts take and give. Durations: microseconds."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

from tiercel.spi import Cut, Found, Kept, Parcel

VARIANTS: Final = 64
"""Usable variants that a key may have."""
_SECOND: Final = 1_000_000


def to_row(parcel: Parcel, retain_for: float) -> list[bytes | str | int]:
    """The arguments of a script that stores a parcel."""
    selecting = [part for name, digest in parcel.selecting for part in (name, digest or b"")]
    times = [int(seconds * _SECOND) for seconds in (min(parcel.fresh_for, retain_for), retain_for, parcel.cost)]
    tags = [tag.encode("utf-8", "surrogatepass") for tag in parcel.tags]
    return [_variant(selecting), parcel.blob, parcel.born, *times, VARIANTS, len(tags), *tags, *selecting]


def to_found(answer: list[Any], token: bytes) -> tuple[Found, int]:
    """What a script has found, and how many rows could not be read."""
    _, head, granted, wait, unreadable, names, rows = answer
    kept = list[Kept]()
    for row in rows:
        try:
            kept.append(_kept(row))
        except ValueError:  # text that is none
            unreadable += 1
    found = Found(
        kept=tuple(kept),
        at=head,
        names=frozenset(names),
        lease=token if granted else None,
        wait=wait / 1_000,
    )
    return found, unreadable


def to_judge(rows: Iterable[tuple[int, list[bytes]]]) -> list[bytes | str | int]:
    """The arguments of a script that judges rows: when each was born, and its tags."""
    given = list[bytes | str | int]()
    for born, tags in rows:
        given += [born, len(tags), *tags]
    return given


def with_verdict(row: list[Any], verdict: bytes) -> list[Any]:
    """A row, as it was judged."""
    return [row[0], int(verdict == b"soft"), *row[2:]]


def is_due(rows: list[Any], early: float) -> bool:
    """Whether there is nothing fresh, or it is to be renewed early."""
    fresh = [(age, until, cost) for age, soft, _, until, _, cost, *_ in rows if not soft and age < until]
    return not any(age + cost * early < until for age, until, cost in fresh)


def of_record(name: bytes, fields: list[bytes]) -> Cut:
    """A record of the log."""
    given = dict(zip(fields[::2], fields[1::2], strict=True))
    return Cut(
        id=int(name.partition(b"-")[0]),
        tags=tuple(_tags(given[b"t"])),
        soft=given[b"s"] == b"1",
        holds=b"h" in given,
        releases=int(given.get(b"r", 0)),
    )


def of_promise(hold: int, tags: list[bytes]) -> Cut:
    """A hold that is not over."""
    return Cut(id=hold, tags=tuple([tag.decode("utf-8", "surrogatepass") for tag in tags]), holds=True)


def _kept(row: list[Any]) -> Kept:
    age, soft, born, fresh, retain, cost, tags, selecting, blob = row
    parcel = Parcel(
        selecting=tuple(zip(selecting[::2], selecting[1::2], strict=True)),
        born=born,
        tags=tuple([tag.decode("utf-8", "surrogatepass") for tag in tags]),
        fresh_for=fresh / _SECOND,
        retain_for=retain / _SECOND,
        cost=cost / _SECOND,
        blob=blob,
    )
    return Kept(parcel, age / _SECOND, bool(soft))


def _tags(packed: bytes) -> Iterator[str]:
    """Each with its length in bytes and a colon in front."""
    while packed:
        size, _, rest = packed.partition(b":")
        yield rest[: int(size)].decode("utf-8", "surrogatepass")
        packed = rest[int(size) :]


def _variant(selecting: list[bytes]) -> bytes:
    parts = [len(part).to_bytes(4, "big") + part for part in selecting]
    return blake2b(b"".join(parts), digest_size=16).digest()
