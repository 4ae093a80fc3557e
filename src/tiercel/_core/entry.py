"""The data that decisions are made of: requests, responses, stored responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Header = tuple[bytes, bytes]
"""A field line: lower-case name, value without surrounding white space."""

Headers = Sequence[Header]
"""Field lines in the order received, repeats kept."""


class Request(NamedTuple):
    """What a decision may know of a request. A tuple, because one is made for every request.

    `target` is the path and query as received. `content` is the whole request content for QUERY, else empty.
    """

    method: str
    scheme: str
    authority: bytes
    target: bytes
    headers: Headers
    content: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Status and fields of a response, as the application sent them."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """Which bytes of a representation a stored 206 holds: `[first, last]` inclusive, and the complete length."""

    first: int
    last: int
    complete: int | None


Selecting = tuple[tuple[bytes, bytes | None], ...]
"""Selecting header fields, sorted by name: (name, digest of the normalised value, or None where it was absent)."""


class Coded(NamedTuple):
    """The body of a stored response in a content coding."""

    coding: bytes
    body: bytes | None
    """None: it is no smaller than the body itself, or there was no room for it."""
    tag: bytes
    """What tells its entity tag from that of the stored response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored response. All times are seconds: moments since the Unix epoch, durations as they are.

    `headers` are those sent to the client that caused the fill, hop-by-hop fields and Cache-Status left out:
    a hit is those, and Age, and Cache-Status.
    """

    method: str
    status: int
    headers: Headers
    body: bytes
    selecting: Selecting = ()
    tags: tuple[str, ...] = ()
    born: int
    """Id of the last invalidation that was applied before the fill began."""
    asked_at: float
    answered_at: float
    initial_age: float = 0.0
    """Corrected initial age, RFC 9111 §4.2.3."""
    lifetime: float
    """Freshness lifetime, RFC 9111 §4.2.1, jitter already taken off."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    must_revalidate: bool = False
    """Never served stale: must-revalidate, proxy-revalidate, s-maxage, or no-cache."""
    must_validate: bool = False
    """Never served without successful validation: unqualified no-cache."""
    cost: float = 0.0
    """Seconds that producing it took; weighs early refresh."""
    partial: Partial | None = None
    coded: tuple[Coded, ...] = ()
    """What was made of the body so far: it lives and falls with it."""

    @property
    def fresh_until(self) -> float:
        return self.answered_at - self.initial_age + self.lifetime
