"""HTTP caching, RFC 9111, as decisions: from a request, what is stored and the time, to what is to be done.

Two rules. Nothing here acts: the engine carries out what is returned. And nothing that a client or an application
sends makes anything here raise: what cannot be read is ignored, or is read as whatever allows the least.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Final, Literal, NamedTuple

from tiercel._core.conditions import CONDITIONS
from tiercel._core.entry import Entry, Head, Header, Headers, Request
from tiercel._core.freshness import current_age, seconds_until_stale, usable_stale
from tiercel._core.headers import NO_DIRECTIVES, Directives, lines, members, without
from tiercel._core.keys import select, selecting, uri_tag
from tiercel._core.policy import Rules
from tiercel._core.ranges import PARTIAL_CONTENT, combine, content_range, covers
from tiercel._core.storing import (
    Asked,
    DiscardReason,
    Said,
    Terms,
    left_out,
    read,
    refusal,
    selecting_names,
    storable,
    terms,
)
from tiercel._core.unsafe import group_tags, on_unsafe
from tiercel._core.validation import conditions_for, confirms, renewed, same_representation

__all__ = [
    "CACHEABLE",
    "PLAIN_STOPS",
    "Asked",
    "Bypass",
    "BypassReason",
    "Discard",
    "DiscardReason",
    "Fill",
    "Forward",
    "Freshen",
    "MissDetail",
    "Refuse",
    "Serve",
    "ServeStale",
    "Store",
    "UseStale",
    "combine",
    "forwarded",
    "group_tags",
    "left_out",
    "on_body",
    "on_failure",
    "on_head",
    "on_request",
    "on_unsafe",
    "plain_until",
    "selecting_names",
    "served_until",
]

CACHEABLE: Final = frozenset({"GET", "HEAD", "QUERY"})
"""Methods whose responses are stored: RFC 9110 §9.2.3, RFC 10008 §2.7."""

PLAIN_STOPS: Final = CONDITIONS | {
    b"cache-control",
    b"content-length",
    b"if-range",
    b"pragma",
    b"range",
    b"transfer-encoding",
}
"""Fields that a request must not have for `plain_until` to speak of it."""

BypassReason = Literal["method", "request-content"]
"""Why a request is not for the cache."""

Forward = Literal["uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a request goes to the application: `fwd` of RFC 9211 §2.2."""

MissDetail = Literal[
    "",  # `fwd` says it all
    "head-only",  # miss: nothing but the response to a HEAD is stored
    "range-not-stored",  # partial: other bytes are stored than those asked for
    "no-cache",  # stale: the response may not be used without validation (§5.2.2.4)
    "must-revalidate",  # stale: nor once it is stale (§5.2.2.2, §5.2.2.8, §5.2.2.10)
    "expired",  # stale: past its lifetime and its window
    "request-no-cache",  # request: Cache-Control or Pragma (§5.2.1.4, §5.4)
    "request-max-age",  # request: §5.2.1.1
    "request-min-fresh",  # request: §5.2.1.3
]
"""More on why: `detail` of RFC 9211 §2.8."""

_NOTED = frozenset({b"cache-control", b"content-length", b"pragma", b"range", b"transfer-encoding"})
_CLIENTS_OWN = CONDITIONS | {b"if-range", b"range"}
_RANGE = frozenset({b"if-range", b"range"})
# RFC 5861 §4: what counts as an error. Never 401, 403, 404: they are answers.
_FAILURES = frozenset({500, 502, 503, 504})
_DIGITS_LIMIT = 18
_NOT_MODIFIED = 304
_NO_CONTENT = 204

LEAST_DRAW: Final = 2.0**-53
"""The least that a draw counts as: what `random()` yields at the least, but 0."""
_EARLIEST = -log(LEAST_DRAW)


class Serve(NamedTuple):
    """Answer with it: it is fresh. `refresh`: and renew it behind, before it expires (XFetch)."""

    entry: Entry
    refresh: bool


class ServeStale(NamedTuple):
    """Answer with it, and renew it behind (RFC 5861 §3)."""

    entry: Entry


class Bypass(NamedTuple):
    """Not for the cache: hand the request to the application, and its answer to the client."""

    reason: str
    fwd: str = "bypass"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer 504: the request wants a stored response, and there is none to use (§5.2.1.7)."""


class Fill(NamedTuple):
    """Ask the application. `entry`: to be validated, and to fall back to."""

    fwd: Forward
    entry: Entry | None
    detail: str = ""


NOTHING_STORED: Final = Fill("uri-miss", None)
"""Of a request under whose key there is nothing."""


class Store(NamedTuple):
    """To be stored once it is complete; the body is still to come."""

    entry: Entry


class Freshen(NamedTuple):
    """The stored response is valid, and renewed (§4.3.4, §4.3.5): it answers, and replaces what is stored."""

    entry: Entry


class UseStale(NamedTuple):
    """The application failed: answer with this instead (RFC 5861 §4)."""

    entry: Entry


class Discard(NamedTuple):
    """Pass the answer on, store nothing. A 304 can answer only whoever sent the condition: ask again without one."""

    reason: str


def on_request(  # noqa: PLR0913 - a pure decision takes all it depends on
    request: Request,
    stored: Sequence[Entry],
    now: float,
    rules: Rules,
    *,
    draw: float = 1.0,
    soft: bool = False,
) -> Serve | ServeStale | Bypass | Refuse | Fill:
    """How to answer a request, given what is stored under its key.

    `draw` is random in (0, 1], and spreads early refreshes: 1.0 has none. `soft`: what is stored has been cut softly.
    """
    method = request.method
    if method not in CACHEABLE:
        return Bypass("method", "method")
    noted = [line for line in request.headers if line[0] in _NOTED]
    if not noted and not soft and len(stored) == 1 and method != "QUERY" and now < plain_until(stored[0]):
        return Serve(stored[0], refresh=False)
    if not noted and not stored:
        return NOTHING_STORED
    if method != "QUERY" and _has_content(noted):
        return Bypass("request-content")
    wishes = _wishes(noted) if rules.obey_requests else NO_DIRECTIVES
    chosen = _chosen(request, stored, now, wishes)
    if isinstance(chosen, Entry) and seconds_until_stale(chosen, now) > 0 and not soft:
        return Serve(chosen, refresh=_early(chosen, now, draw))
    decision = _stale(chosen, now, wishes) if isinstance(chosen, Entry) else chosen
    return Refuse() if isinstance(decision, Fill) and "only-if-cached" in wishes else decision


def plain_until(entry: Entry) -> float:
    """Until when the decision is certain: `Serve(entry, refresh=False)`.

    For a GET or HEAD with none of `PLAIN_STOPS`, where this is all that is stored under the key, and not cut softly.
    0.0 where nothing is certain.
    """
    if entry.selecting or entry.must_validate or entry.partial is not None or entry.method != "GET":
        return 0.0
    return served_until(entry)


def served_until(entry: Entry) -> float:
    """Until when a request that is served with it now is served with it again, and no refresh is due.

    While the same is stored, and unless a Cache-Control of the request's own is obeyed. 0.0: it is never certain.
    """
    until = entry.fresh_until - entry.cost * _EARLIEST
    return until if until > entry.answered_at else 0.0


def forwarded(request: Request, fill: Fill, *, keep_range: bool) -> list[Header]:
    """The request fields for the application: ours are the conditions now, RFC 9111 §4.3.1.

    The client's own hold for what the client is given in the end (`present.reply`).
    """
    headers = without(request.headers, _CLIENTS_OWN - _RANGE if keep_range else _CLIENTS_OWN)
    if fill.entry is not None:
        headers += conditions_for(fill.entry)
    return headers


def on_head(asked: Asked, head: Head, now: float) -> Store | Freshen | UseStale | Discard:
    """What the beginning of the application's answer means for what is stored."""
    entry = asked.entry
    if head.status == _NOT_MODIFIED:
        return _on_not_modified(asked, head, now)
    if head.status in _FAILURES and (stale := on_failure(asked, now)) is not None:
        return stale
    if entry is not None and confirms(asked.request, head, entry):
        return Freshen(renewed(asked, entry, head, now))
    said = read(head, asked.rules)
    reason = refusal(asked, said)
    if reason is not None:
        return Discard(reason)
    found = terms(asked, said, now)
    return Store(_stored(asked, said, found, now)) if isinstance(found, Terms) else Discard(found)


def on_body(entry: Entry, body: bytes) -> Entry | Discard:
    """The complete response: what was announced of its length must be so, RFC 9111 §3.3."""
    if entry.method == "HEAD":
        return entry
    if entry.status == _NO_CONTENT and body:  # RFC 9110 §15.3.5: whoever reads it takes it for the next response
        return Discard("length")
    announced = lines(entry.headers, b"content-length")
    part = entry.partial
    if announced and {_number(value) for value in announced} != {len(body)}:
        return Discard("length")
    if part is not None and part.last - part.first + 1 != len(body):
        return Discard("length")
    return entry if entry.body is body else replace(entry, body=body)


def on_failure(asked: Asked, now: float) -> UseStale | None:
    """What stands in where the application raised, took too long, or said 5xx: RFC 5861 §4."""
    entry = asked.entry
    if entry is None:
        return None
    window = entry.stale_if_error
    if asked.rules.obey_requests:
        window = max(window, Directives.of(asked.request.headers).seconds("stale-if-error") or 0)
    return UseStale(entry) if window > 0 and usable_stale(entry, now, window) else None


def _has_content(noted: Headers) -> bool:
    """RFC 9110 §9.3.1: content in a GET or HEAD has no meaning that a key could hold."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and _number(value) != 0) for name, value in noted
    )


def _number(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) <= _DIGITS_LIMIT else None


def _wishes(noted: Headers) -> Directives:
    """The request's directives; Pragma only where there are none (§5.4)."""
    if any(name == b"cache-control" for name, _ in noted):
        return Directives.of(noted)
    if any(member.lower() == b"no-cache" for member in members(noted, b"pragma")):
        return Directives.of([(b"cache-control", b"no-cache")])
    return NO_DIRECTIVES


def _chosen(request: Request, stored: Sequence[Entry], now: float, wishes: Directives) -> Entry | Fill:
    """The stored response that answers the request, if its age allows; or why none does."""
    entry = select(stored, request)
    if entry is None:
        return _missed(request, stored)
    if not covers(entry, request):
        return Fill("partial", None, "range-not-stored")
    if entry.must_validate:
        return Fill("stale", entry, "no-cache")
    if wishes is not NO_DIRECTIVES and (unmet := _unmet(entry, now, wishes)):
        return Fill("request" if seconds_until_stale(entry, now) > 0 else "stale", entry, unmet)
    return entry


def _stale(entry: Entry, now: float, wishes: Directives) -> ServeStale | Fill:
    window = max(entry.stale_while_revalidate, wishes.seconds("max-stale") or 0)
    if usable_stale(entry, now, window):
        return ServeStale(entry)
    return Fill("stale", entry, "must-revalidate" if entry.must_revalidate else "expired")


def _missed(request: Request, stored: Sequence[Entry]) -> Fill:
    if not stored:
        return NOTHING_STORED
    if request.method == "GET" and all(entry.method == "HEAD" for entry in stored):
        return Fill("miss", None, "head-only")
    return Fill("vary-miss", None)


def _unmet(entry: Entry, now: float, wishes: Directives) -> MissDetail:
    """Which wish of the request the response does not meet: RFC 9111 §5.2.1."""
    if "no-cache" in wishes:
        return "request-no-cache"
    left = seconds_until_stale(entry, now)
    max_age, min_fresh = wishes.seconds("max-age"), wishes.seconds("min-fresh")
    # Who names an age wants nothing stale, unless max-stale is there, too: §5.2.1.1.
    if max_age is not None and (current_age(entry, now) > max_age or (left <= 0 and "max-stale" not in wishes)):
        return "request-max-age"
    return "request-min-fresh" if min_fresh is not None and left < min_fresh else ""


def _early(entry: Entry, now: float, draw: float) -> bool:
    """XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015), β = 1."""
    return draw < 1.0 and now - entry.cost * log(max(draw, LEAST_DRAW)) >= entry.fresh_until


def _on_not_modified(asked: Asked, head: Head, now: float) -> Freshen | Discard:
    """RFC 9111 §4.3.3. Without a condition of ours there was nothing that it could answer."""
    entry = asked.entry
    if entry is None or not conditions_for(entry):
        return Discard("not-modified")
    if not same_representation(head, entry):
        return Discard("other-representation")
    return Freshen(renewed(asked, entry, head, now))


def _stored(asked: Asked, said: Said, found: Terms, now: float) -> Entry:
    request, head = asked.request, said.head
    return Entry(
        method=request.method,
        status=head.status,
        headers=storable(asked, said),
        body=b"",
        selecting=selecting(selecting_names(asked, head.headers), request.headers),
        tags=_places(asked) + (group_tags(request, head.headers) if b"cache-groups" in said.values else ()),
        born=asked.born,
        asked_at=asked.asked_at,
        answered_at=now,
        initial_age=found.initial_age,
        lifetime=found.lifetime,
        stale_while_revalidate=found.stale_while_revalidate,
        stale_if_error=found.stale_if_error,
        must_revalidate=found.must_revalidate,
        must_validate=found.must_validate,
        cost=max(0.0, now - asked.asked_at),
        partial=content_range(head.headers) if head.status == PARTIAL_CONTENT else None,
    )


def _places(asked: Asked) -> tuple[str, ...]:
    """The URI; in declared mode also without its query, of which the key may hold nothing: a write hits both."""
    request = asked.request
    targets = [request.target]
    if asked.declared and b"?" in request.target:
        targets.append(request.target.partition(b"?")[0])
    return tuple([uri_tag(request.scheme, request.authority, target) for target in targets])
