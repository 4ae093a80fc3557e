"""Whether a response may be stored, and on what terms it may be used again: RFC 9111 §3, §4.2, §5.2.2."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tiercel._core import freshness, ranges
from tiercel._core.conditions import SUCCESSFUL
from tiercel._core.entry import Entry, Head, Header, Headers, Request
from tiercel._core.headers import NO_DIRECTIVES, Directives, combined, encoded, end_to_end, gathered, has_any
from tiercel._core.keys import vary_names
from tiercel._core.policy import Policy, Rules

UNDERSTOOD: Final = frozenset(
    {*range(200, 207), *range(300, 309), *range(400, 418), 421, 422, 426, *range(500, 506)} - {304, 306, 412, 416}
)
"""Final status codes of RFC 9110 §15 whose caching requirements are met here: what must-understand asks for."""

DiscardReason = Literal[
    "request-no-store",  # the request forbids it, where requests are obeyed (§5.2.1.5)
    "status",  # interim, or an answer to a condition or a range: no response for others
    "must-understand",  # with a status code that is not understood (§5.2.2.3)
    "no-store",  # §5.2.2.5
    "private",  # for one user, without saying which fields are (§5.2.2.7)
    "authorization",  # answers credentials that are not in the key, without permission (§3.5)
    "set-cookie",  # never stored
    "vary-any",  # Vary: *, matches nothing (§4.1)
    "partial-content",  # a 206 in declared mode, or one that does not say which bytes it holds
    "event-stream",  # has no end
    "error-without-freshness",  # 4xx, 5xx without explicit freshness
    "no-freshness",  # nothing says for how long it may be used
    "not-reusable",  # stale on arrival, with nothing to validate it by
    "length",  # the body is not as long as announced (§3.3)
    "not-modified",  # a 304 that nobody here asked for
    "other-representation",  # a 304, but not for what is stored (§4.3.4)
]
"""Why an answer was not stored: the `detail` of its Cache-Status."""

_CREDENTIALS = frozenset({b"authorization"})
_TELLING = _CREDENTIALS | {b"cookie"}
_ERRORS_FROM = 400
_FINAL_FROM = 200
_VALIDATORS = frozenset({b"etag", b"last-modified"})
_HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
_ANSWERS_TO_ONE = frozenset({304, 412, 416})
_EXPLICIT = frozenset({"targeted", "s-maxage", "max-age", "expires"})
_NOT_KEPT = frozenset({b"age", b"cache-status"})
# §3.5, of responses to Authorization.
_PERMITTING = frozenset({"must-revalidate", "public", "s-maxage"})
# §5.2.2.10: s-maxage implies what proxy-revalidate says.
_REVALIDATING = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of the application, and how the answer is to be treated."""

    request: Request
    entry: Entry | None
    """The candidate: it is validated, and stands in where the application fails."""
    born: int
    asked_at: float
    policy: Policy
    rules: Rules
    declared: bool
    """A route with its own policy; else a shared cache by RFC 9111 alone."""
    guarded: bool
    """The key holds the identity of whoever asks."""
    observed: frozenset[bytes] = frozenset()
    """Request fields that the application was seen to look up: they select."""
    keyed: frozenset[bytes] = frozenset()
    """Request fields that the primary key or the declaration accounts for: they select nothing by being read."""


class Terms(NamedTuple):
    """On what terms a response may be used again."""

    lifetime: float
    initial_age: float
    stale_while_revalidate: float
    stale_if_error: float
    must_revalidate: bool
    must_validate: bool


class Said(NamedTuple):
    """The head of an answer, read once for all who decide by it."""

    head: Head
    values: Mapping[bytes, Sequence[bytes]]
    """Of each field that is there, all lines."""
    own: Directives
    """Those of Cache-Control."""
    targeted: Directives | None
    """Those of a field that is for caches like us."""
    directives: Directives
    """Those that mean us: RFC 9213 §2.2."""


def read(head: Head, rules: Rules) -> Said:
    """Read a head."""
    values = gathered(head.headers)
    given = values.get(b"cache-control")
    own = NO_DIRECTIVES if given is None else Directives.of_lines(given)
    targeted = Directives.targeted(head.headers, rules.targets) if rules.targets else None
    return Said(head, values, own, targeted, own if targeted is None else targeted)


def refusal(asked: Asked, said: Said) -> DiscardReason | None:
    """Why the response may not be stored; None where it may."""
    for refused in _REFUSALS:
        if (reason := refused(asked, said)) is not None:
            return reason
    return None


def terms(asked: Asked, said: Said, now: float) -> Terms | DiscardReason:
    """The terms of a response that may be stored; why it is of no use to store it."""
    head, directives, policy = said.head, said.directives, asked.policy
    found = freshness.lifetime(
        head,
        said.own,
        answered_at=now,
        policy_ttl=_policy_ttl(asked, head),
        heuristic=asked.rules.heuristic,
        targeted=said.targeted,
    )
    must_validate = "no-cache" in directives and directives.fields("no-cache") is None
    if head.status >= _ERRORS_FROM and found.source not in _EXPLICIT:
        return "error-without-freshness"
    if found.source == "none" and not must_validate:
        return "no-freshness"
    # RFC 9111 §4.2.3 counts the wait for an answer as age, for a cache cannot know when in it the answer was made.
    # A declared endpoint is our own: its answer is made when it is given, however long that took.
    asked_at = now if asked.declared else asked.asked_at
    offered = Terms(
        lifetime=found.seconds,
        initial_age=freshness.initial_age(head.headers, asked_at=asked_at, answered_at=now),
        stale_while_revalidate=_window(directives, "stale-while-revalidate", policy.stale_while_revalidate),
        stale_if_error=_window(directives, "stale-if-error", policy.stale_if_error),
        must_revalidate=must_validate or not _REVALIDATING.isdisjoint(directives.found),
        must_validate=must_validate,
    )
    return offered if _reusable(offered, said) else "not-reusable"


def storable(asked: Asked, said: Said) -> list[Header]:
    """The fields that are stored: end to end (§3.1), but those that private or no-cache name (§5.2.2.4, §5.2.2.7).

    Age is counted anew for every use; a Cache-Status tells of one use only.
    """
    directives = said.directives
    others = _NOT_KEPT | left_out(asked.rules)
    for name in ("private", "no-cache"):
        if name in directives:
            others |= directives.fields(name) or frozenset()
    return end_to_end(said.head.headers, others)


def left_out(rules: Rules) -> frozenset[bytes]:
    """The fields that are not stored because they tell of one response only."""
    return encoded(rules.left_out)


def own_lines(policy: Policy, *, guarded: bool) -> dict[bytes, bytes]:
    """What clients and CDNs are told for an endpoint that tells them nothing (`present.dress`)."""
    windows = _said_windows(policy)
    private = b"private, " if guarded else b""
    revalidate = b", must-revalidate" if policy.browser_ttl < 1 else windows
    lines = {b"cache-control": private + b"max-age=%d" % policy.browser_ttl + revalidate}
    if policy.cdn_ttl is not None and not guarded:
        lines[b"cdn-cache-control"] = b"max-age=%d" % policy.cdn_ttl + windows
    return lines


def undressed(asked: Asked, entry: Entry) -> list[Header]:
    """The stored fields without what `present.dress` added: what the endpoint itself has said.

    An endpoint's own `private` is never stored, and no entry takes its terms from ours: so either is told apart.
    """
    if not asked.declared:
        return list(entry.headers)
    # Either may have been added: what is read of a request makes a response private, too.
    own = () if entry.must_revalidate else [own_lines(asked.policy, guarded=guarded) for guarded in (True, False)]
    found = [(name, value) for name, value in entry.headers if all(lines.get(name) != value for lines in own)]
    if not asked.guarded:
        return found
    return [(name, _not_private(value) if name == b"cache-control" else value) for name, value in found]


def selecting_names(asked: Asked, headers: Headers) -> frozenset[bytes]:
    """What selects the response: what is declared to, and what was seen to be read, but for what is accounted for.

    And whatever its Vary names: the application's own word, which no declaration takes back (RFC 9111 §4.1).
    """
    declared = encoded(asked.policy.vary)
    varying = vary_names(headers) or frozenset[bytes]()
    return (declared | asked.observed) - asked.keyed | varying


def _said_windows(policy: Policy) -> bytes:
    said = b""
    if policy.stale_while_revalidate >= 1:
        said += b", stale-while-revalidate=%d" % policy.stale_while_revalidate
    if policy.stale_if_error >= 1:
        said += b", stale-if-error=%d" % policy.stale_if_error
    return said


def _not_private(value: bytes) -> bytes:
    return b"" if value == b"private" else value.removeprefix(b"private, ")


def _by_request(asked: Asked, _: Said) -> DiscardReason | None:
    forbids = asked.rules.obey_requests and "no-store" in Directives.of(asked.request.headers)
    return "request-no-store" if forbids else None


def _by_status(_: Asked, said: Said) -> DiscardReason | None:
    status = said.head.status
    return "status" if status < _FINAL_FROM or status in _ANSWERS_TO_ONE else None


def _by_directives(_: Asked, said: Said) -> DiscardReason | None:
    directives = said.directives
    must_understand = "must-understand" in directives
    if must_understand and said.head.status not in UNDERSTOOD:
        return "must-understand"
    if "no-store" in directives and not must_understand:  # §5.2.2.3: who meets the one ignores the other
        return "no-store"
    # Said by the endpoint, private keeps a response even out of an entry that is keyed by identity.
    return "private" if "private" in directives and directives.fields("private") is None else None


def _by_credentials(asked: Asked, said: Said) -> DiscardReason | None:
    if asked.guarded or b"authorization" in asked.keyed or not has_any(asked.request.headers, _CREDENTIALS):
        return None
    return "authorization" if _PERMITTING.isdisjoint(said.directives.found) else None


def _by_fields(_: Asked, said: Said) -> DiscardReason | None:
    if b"set-cookie" in said.values:
        return "set-cookie"
    return "vary-any" if b"vary" in said.values and vary_names(said.head.headers) is None else None


def _by_kind(asked: Asked, said: Said) -> DiscardReason | None:
    """A part of little use, or what has no end."""
    if said.head.status == ranges.PARTIAL_CONTENT:
        wanted = asked.request.method == "GET" and combined(asked.request.headers, b"range") is not None
        if asked.declared or not wanted or ranges.content_range(said.head.headers) is None:
            return "partial-content"
    kind = said.values.get(b"content-type")
    return "event-stream" if kind is not None and kind[0].lower().startswith(b"text/event-stream") else None


_REFUSALS: tuple[Callable[[Asked, Said], DiscardReason | None], ...] = (
    _by_request,
    _by_status,
    _by_directives,
    _by_credentials,
    _by_fields,
    _by_kind,
)


def _policy_ttl(asked: Asked, head: Head) -> float | None:
    """§3: without a word of the origin, only what is heuristically cacheable. A declared policy is such a word.

    A default for whatever says nothing is not: where a request tells who asks, the answer may be for nobody else.
    """
    if asked.declared:
        return asked.policy.ttl
    if asked.policy.ttl is None or head.status not in _HEURISTICALLY_CACHEABLE:
        return None
    return None if has_any(asked.request.headers, _TELLING) else asked.policy.ttl


def _window(directives: Directives, name: str, policy: float) -> float:
    seconds = directives.seconds(name)
    return policy if seconds is None else float(seconds)


def _reusable(offered: Terms, said: Said) -> bool:
    if said.head.status in SUCCESSFUL and not _VALIDATORS.isdisjoint(said.values):
        return True
    if offered.must_validate:
        return False
    stale = 0.0 if offered.must_revalidate else max(offered.stale_while_revalidate, offered.stale_if_error)
    return offered.lifetime + stale > offered.initial_age
