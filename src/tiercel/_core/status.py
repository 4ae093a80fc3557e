"""Cache-Status, RFC 9211: what a cache did with a request, for whoever reads the response."""

from collections.abc import Mapping
from dataclasses import dataclass

from tiercel._core.headers import split
from tiercel._core.structured import Bare, item, string, token_or_string

_INTEGER_LIMIT = 999_999_999_999_999
"""RFC 9651 §3.3.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatus:
    """One member of a `Cache-Status` field: how one cache handled the request.

    Args:
        cache: Name of the cache.
        hit: Whether the response came from the cache, without the application being asked.
        fwd: Why the request went on: `bypass`, `method`, `uri-miss`, `vary-miss`, `miss`, `request`, `stale` or
            `partial`; None where it did not.
        fwd_status: Status code of the answer to it, where that differs from the response's own.
        ttl: Seconds that the response stays fresh, negative where it is stale.
        stored: Whether the cache stored the response.
        collapsed: Whether the request joined another one that was on its way.
        key: The cache key.
        detail: Anything else worth saying.

    Raises:
        Nothing. Characters that the field cannot carry are rendered percent-encoded, and `parse` passes over what it
        cannot read.

    Source:
        RFC 9211 §2; syntax by RFC 9651.

    Example:
        >>> CacheStatus(hit=True, ttl=42).render()
        b'tiercel; hit; ttl=42'
        >>> [one.fwd for one in CacheStatus.parse("tiercel; fwd=uri-miss; stored, ExampleCDN; fwd=stale")]
        ['uri-miss', 'stale']
    """

    cache: str = "tiercel"
    hit: bool = False
    fwd: str | None = None
    fwd_status: int | None = None
    ttl: int | None = None
    stored: bool = False
    collapsed: bool = False
    key: str | None = None
    detail: str | None = None

    def render(self) -> bytes:
        """The member as it goes into the field.

        Example:
            >>> CacheStatus(fwd="stale", ttl=-3, stored=True).render()
            b'tiercel; fwd=stale; ttl=-3; stored'
        """
        told = [token_or_string(self.cache), *self._went_on()]
        if self.ttl is not None:
            told.append(b"ttl=" + _integer(self.ttl))
        if self.stored:
            told.append(b"stored")
        if self.collapsed:
            told.append(b"collapsed")
        if self.key is not None:
            told.append(b"key=" + string(self.key))
        if self.detail is not None:
            told.append(b"detail=" + token_or_string(self.detail))
        return b"; ".join(told)

    def _went_on(self) -> list[bytes]:
        """Whether the request did, and why."""
        told = [b"hit"] if self.hit else []
        if self.fwd is not None:
            told.append(b"fwd=" + token_or_string(self.fwd))
        if self.fwd_status is not None:
            told.append(b"fwd-status=" + _integer(self.fwd_status))
        return told

    @classmethod
    def parse(cls, value: bytes | str) -> "tuple[CacheStatus, ...]":
        """The members of a field value, the cache nearest to the origin first; those it cannot read are left out.

        Args:
            value: The field value; of several lines, joined with commas.

        Example:
            >>> CacheStatus.parse("ExampleCDN; hit; ttl=7")[0].ttl
            7
        """
        raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
        read = [item(member) for member in split(raw)]
        return tuple([_status(one[0], one[1]) for one in read if one is not None and isinstance(one[0], str)])


def hit_status(ttl: int) -> bytes:
    """What most responses say, made at once: `CacheStatus(hit=True, ttl=ttl).render()`."""
    return b"tiercel; hit; ttl=" + _integer(ttl)


def _status(cache: str, given: Mapping[str, Bare]) -> CacheStatus:
    return CacheStatus(
        cache=cache,
        hit=given.get("hit") is True,
        fwd=_text(given.get("fwd")),
        fwd_status=_number(given.get("fwd-status")),
        ttl=_number(given.get("ttl")),
        stored=given.get("stored") is True,
        collapsed=given.get("collapsed") is True,
        key=_text(given.get("key")),
        detail=_text(given.get("detail")),
    )


def _integer(value: int) -> bytes:
    return b"%d" % min(max(value, -_INTEGER_LIMIT), _INTEGER_LIMIT)


def _text(value: Bare) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Bare) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
