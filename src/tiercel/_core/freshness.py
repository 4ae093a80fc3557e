"""Freshness lifetime, age, and how long a stored response may be of use (RFC 9111 §4.2)."""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

from tiercel._core.dates import parse_date
from tiercel._core.entry import Entry, Head, Headers
from tiercel._core.headers import INFINITE, Directives, has_any, lines, members

HEURISTIC_FRACTION: Final = 0.1
"""How much of its time since modification a response is taken to be fresh for, RFC 9111 §4.2.2."""

HEURISTIC_LIMIT: Final = 86_400.0
"""Seconds: the longest heuristic freshness lifetime. Beyond a day RFC 7234 §4.2.2 asked for a warning."""

VALIDATION_GRACE: Final = 3_600.0
"""Seconds that a stale response with a validator is kept for, so that a 304 can renew it."""

_HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110 §15.1."""

_VALIDATORS = frozenset({b"etag", b"last-modified"})

Source = Literal["targeted", "s-maxage", "max-age", "expires", "policy", "heuristic", "none"]


class Lifetime(NamedTuple):
    """A freshness lifetime in seconds, and what it was taken from."""

    seconds: float
    source: Source


def lifetime(  # noqa: PLR0913 - every source that RFC 9111 §4.2.1 knows, and ours
    head: Head,
    directives: Directives,
    *,
    answered_at: float,
    policy_ttl: float | None,
    heuristic: bool,
    targeted: Directives | None,
) -> Lifetime:
    """What the endpoint says explicitly, else the policy, else a guess where that is allowed, else none."""
    found = _explicit(head.headers, directives, targeted, answered_at)
    if found is not None:
        return found
    if policy_ttl is not None:
        return Lifetime(seconds=policy_ttl, source="policy")
    if heuristic and (head.status in _HEURISTICALLY_CACHEABLE or "public" in (targeted or directives)):
        guess = _guess(head.headers, answered_at)
        if guess > 0:
            return Lifetime(seconds=guess, source="heuristic")
    return Lifetime(seconds=0.0, source="none")


def initial_age(headers: Headers, *, asked_at: float, answered_at: float) -> float:
    """The corrected initial age, RFC 9111 §4.2.3."""
    apparent_age = answered_at - _dated(headers, answered_at)
    response_delay = max(0.0, answered_at - asked_at)
    return max(0.0, apparent_age, _age_value(headers) + response_delay)


def current_age(entry: Entry, now: float) -> float:
    """RFC 9111 §4.2.3. A clock that steps back makes nothing younger than it was when it arrived."""
    resident = now - entry.answered_at
    return entry.initial_age + resident if resident > 0.0 else entry.initial_age


def seconds_until_stale(entry: Entry, now: float) -> float:
    """How long the response stays fresh; zero or less, and it is stale."""
    return entry.fresh_until - max(now, entry.answered_at)


def usable_stale(entry: Entry, now: float, window: float) -> bool:
    """Whether it may be served without validation, being stale for less than `window` seconds (RFC 5861)."""
    if entry.must_revalidate or entry.must_validate:
        return False
    return max(now, entry.answered_at) < entry.fresh_until + window


def retain_until(entry: Entry, *, max_stale: float = 0.0) -> float:
    """From when on the response is of no use: not fresh, in no window, and too old to be worth a validation.

    `max_stale`: how stale a response requests may ask for.
    """
    grace = VALIDATION_GRACE if has_any(entry.headers, _VALIDATORS) else 0.0
    return entry.fresh_until + max(entry.stale_while_revalidate, entry.stale_if_error, max_stale, grace, 0.0)


def rough(cost: float) -> float:
    """A cost to two digits; equal ones are one object, for a million entries have a few hundred of them."""
    return _one_of_equals(float(f"{max(0.0, cost):.2g}"))


@lru_cache(maxsize=1024)
def _one_of_equals(cost: float) -> float:
    return cost


def _explicit(
    headers: Headers, directives: Directives, targeted: Directives | None, answered_at: float
) -> Lifetime | None:
    if targeted is not None:  # then Cache-Control and Expires are not ours to read: RFC 9213 §2.2
        said = targeted.seconds("s-maxage")
        said = targeted.seconds("max-age") if said is None else said
        return None if said is None else Lifetime(seconds=said, source="targeted")
    if (said := directives.seconds("s-maxage")) is not None:
        return Lifetime(seconds=said, source="s-maxage")
    if (said := directives.seconds("max-age")) is not None:
        return Lifetime(seconds=said, source="max-age")
    if expires := lines(headers, b"expires"):
        return Lifetime(seconds=_until(expires, _dated(headers, answered_at), answered_at), source="expires")
    return None


def _until(expires: list[bytes], dated: float, now: float) -> float:
    """An Expires that cannot be read, 0 above all, is in the past: RFC 9111 §5.3."""
    moments = [parse_date(value, now=now) for value in expires]
    return min(float(INFINITE), max(0.0, min(dated if moment is None else moment for moment in moments) - dated))


def _dated(headers: Headers, answered_at: float) -> float:
    """Date, else when it was received (RFC 9110 §6.6.1); the latest of repeats shortens the lifetime most."""
    given = lines(headers, b"date")
    moments = [parse_date(value, now=answered_at) for value in given] if given else ()
    return max([moment for moment in moments if moment is not None], default=answered_at)


def _age_value(headers: Headers) -> int:
    """The first member counts; what is not a number is ignored: RFC 9111 §5.1."""
    given = members(headers, b"age")
    if not given or not given[0].isdigit():
        return 0
    digits = given[0].lstrip(b"0") or b"0"
    return min(int(digits), INFINITE) if len(digits) <= len(str(INFINITE)) else INFINITE


def _guess(headers: Headers, answered_at: float) -> float:
    moments = [parse_date(value, now=answered_at) for value in lines(headers, b"last-modified")]
    modified = max((moment for moment in moments if moment is not None), default=None)
    if modified is None:
        return 0.0
    return min(HEURISTIC_LIMIT, HEURISTIC_FRACTION * (_dated(headers, answered_at) - modified))
