"""What is declared for a route: `Policy`; and for a whole cache in front of an app: `Rules`."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Any, cast

from tiercel.errors import ConfigurationError

Duration = float | timedelta | str
"""Seconds, a `timedelta`, or a number with a unit: "90s", "5m", "2h", "1d"."""

Tags = Callable[[Any, Any], Iterable[str]]
"""Over the arguments of the call and what it returned: the tags."""

Per = Callable[[Any], str]
"""Over the request: whose response it is."""

Key = Callable[[Any], str | tuple[str, ...]]
"""Over the request: further parts of the cache key."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_with_unit = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_path = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_field_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def seconds(value: Duration, *, where: str = "a duration") -> float:
    """A duration in seconds. `where` names the setting in the error."""
    try:
        found = _seconds(value)
    except OverflowError:
        found = inf
    if found is None or not 0.0 <= found < inf:
        message = (
            f"{where} cannot be {value!r}. Give seconds, not negative (90), a timedelta, "
            'or a number with a unit ("90s", "5m", "2h", "1d").'
        )
        raise ConfigurationError(message)
    return found


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Policy:
    """How responses of a route are cached, by us and by the tiers outside us.

    Durations are given as seconds, `datetime.timedelta`, or a number with a unit (`"90s"`, `"5m"`, `"2h"`, `"1d"`),
    and are kept as float seconds.

    Args:
        ttl: Freshness lifetime of a stored response, for us. None: only what the endpoint itself says in
            `Cache-Control` or `Expires`.
        stale_while_revalidate: How long past `ttl` a stored response is served while one request renews it.
        stale_if_error: How long past `ttl` a stored response is served where the endpoint fails.
        browser_ttl: The `max-age` that browsers are told. 0: they keep a response, and validate it before each use.
        cdn_ttl: The `max-age` of `CDN-Cache-Control`; None: the field is not sent.
        tags: What an invalidation can name: templates over the route's arguments, one or several, or a callable over
            the arguments and the returned value.
        per: Whose response it is: `"auto"` (by the credentials that the route reads), `"shared"` (all who pass its
            dependencies get the same), a dotted path into the endpoint's arguments, or a callable over the request.
        vary: Names of further request header fields that select a response, one or several.
        key: A callable over the request: further parts of the cache key.

    Raises:
        ConfigurationError: A value that cannot work; the message says which, and what to give instead.

    Source:
        Freshness lifetime: RFC 9111 §4.2. Stale responses: RFC 5861. `CDN-Cache-Control`: RFC 9213. Selecting
        header fields: RFC 9111 §4.1.

    Example:
        >>> policy = Policy(ttl="5m", stale_while_revalidate=30, tags="product:{product_id}")
        >>> policy.ttl, policy.stale_while_revalidate, policy.tags
        (300.0, 30.0, ('product:{product_id}',))
    """

    ttl: float | None
    stale_while_revalidate: float
    stale_if_error: float
    browser_ttl: float
    cdn_ttl: float | None
    tags: tuple[str, ...] | Tags
    per: str | Per
    vary: tuple[str, ...]
    key: Key | None

    def __init__(  # noqa: PLR0913 - the nine fields; written out because each takes more than it keeps
        self,
        *,
        ttl: Duration | None = None,
        stale_while_revalidate: Duration = 0.0,
        stale_if_error: Duration = 0.0,
        browser_ttl: Duration = 0.0,
        cdn_ttl: Duration | None = None,
        tags: str | Iterable[str] | Tags = (),
        per: str | Per = "auto",
        vary: str | Iterable[str] = (),
        key: Key | None = None,
    ) -> None:
        keep = object.__setattr__
        keep(self, "ttl", None if ttl is None else seconds(ttl, where="Policy.ttl"))
        keep(self, "cdn_ttl", None if cdn_ttl is None else seconds(cdn_ttl, where="Policy.cdn_ttl"))
        keep(self, "browser_ttl", seconds(browser_ttl, where="Policy.browser_ttl"))
        keep(self, "stale_if_error", seconds(stale_if_error, where="Policy.stale_if_error"))
        keep(
            self,
            "stale_while_revalidate",
            seconds(stale_while_revalidate, where="Policy.stale_while_revalidate"),
        )
        keep(self, "tags", tags if callable(tags) else _texts(tags, "Policy.tags"))
        keep(self, "per", _owner(per))
        keep(self, "vary", _field_names(vary, "Policy.vary"))
        keep(self, "key", _callable_or_none(key))


_NEEDED = frozenset(
    {
        "age",
        "cache-control",
        "cache-status",
        "cdn-cache-control",
        "date",
        "etag",
        "expires",
        "last-modified",
        "location",
        "set-cookie",
        "vary",
        "www-authenticate",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a cache treats every request and response, whatever their policy."""

    obey_requests: bool = False
    """Whether a request's own Cache-Control may ask the application for work."""
    heuristic: bool = False
    """Whether a response without explicit freshness may be given some, RFC 9111 §4.2.2."""
    targets: tuple[str, ...] = ()
    """The targeted fields that mean us, lower-case, the most specific first: RFC 9213 §2.2."""
    left_out: tuple[str, ...] = ()
    """Response fields that tell of one response only, lower-case: they go to who asked, and are not stored."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _field_names(self.targets, "targets"))
        object.__setattr__(self, "left_out", _field_names(self.left_out, "left_out"))
        for name in self.left_out:
            if name in _NEEDED or name.startswith("content-"):
                message = f"left_out cannot have {name!r}: a stored response is nothing without it."
                raise ConfigurationError(message)


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        read = _with_unit.fullmatch(value)
        return float(read[1]) * _UNITS[read[2]] if read else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def _texts(value: object, where: str) -> tuple[str, ...]:
    given: list[object] = [value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        given = list(cast("Iterable[object]", value))
    found = [one for one in given if isinstance(one, str) and one]
    if len(found) == len(given):
        return tuple(dict.fromkeys(found))
    message = f"{where} cannot be {value!r}. Give a string that is not empty, or several of them in a tuple."
    raise ConfigurationError(message)


def _field_names(value: object, where: str) -> tuple[str, ...]:
    found = _texts(value, where)
    for name in found:
        if name == "*" or not _field_name.fullmatch(name):
            message = f'{where} cannot have {name!r}. Give names of header fields, such as "accept-language".'
            raise ConfigurationError(message)
    return tuple(dict.fromkeys(name.lower() for name in found))


def _owner(value: object) -> object:
    if callable(value) or (isinstance(value, str) and _path.fullmatch(value)):
        return value
    message = (
        f'Policy.per cannot be {value!r}. Give "auto", "shared", a path into the arguments such as "user.id", '
        "or a callable over the request."
    )
    raise ConfigurationError(message)


def _callable_or_none(value: object) -> object:
    if value is None or callable(value):
        return value
    message = f"Policy.key cannot be {value!r}. Give a callable over the request that returns strings, or None."
    raise ConfigurationError(message)
