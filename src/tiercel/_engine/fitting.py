"""What is added to an answer before it is stored: tags, an entity tag, what selects it, what the outside is told."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from tiercel._core import freshness, keys, present, rfc9111
from tiercel._core.entry import Entry, Head, Header, Headers, Request
from tiercel._core.freshness import rough
from tiercel._core.headers import shared
from tiercel._core.plan import RouteRules
from tiercel._engine.observed import Watch
from tiercel._engine.reading import Reads

OK = 200
IDENTIFYING = frozenset({b"authorization", b"cookie"})
"""Request fields whose reading makes a response private."""


class Dress(NamedTuple):
    """What is put around a response."""

    headers: Headers
    tags: tuple[str, ...]


def observed(asked: rfc9111.Asked, watch: Watch | None) -> rfc9111.Asked | None:
    """With the request fields that the application was seen to look up; None where that cannot be known."""
    if watch is None:
        return asked
    if watch.blind:
        return None
    seen = watch.observed()
    return asked if seen <= asked.observed else replace(asked, observed=asked.observed | seen)


def narrowed(entry: Entry, asked: rfc9111.Asked | None, request: Request) -> Entry:
    """Selected by what was seen since its head went out, too."""
    if asked is None:
        return entry
    seen = asked.observed - asked.keyed - keys.NEVER_SELECTING
    known = [name for name, _ in entry.selecting]
    if seen.issubset(known):
        return entry
    return replace(entry, selecting=keys.selecting(seen.union(known), request.headers))


def dressed(entry: Entry, route: RouteRules, request: Request, own: tuple[str, ...]) -> Dress:
    """The fields with which the response leaves us, and everything that an invalidation can name."""
    names = [name for name, _ in entry.selecting]
    if not (route.declared or names):
        return Dress(entry.headers, entry.tags)
    head = worn(Head(status=entry.status, headers=entry.headers), route, own, names)
    groups = rfc9111.group_tags(request, head.headers) if own else ()  # else they are among the entry's
    return Dress(head.headers, tuple(dict.fromkeys((*own, *entry.tags, *groups))))


def worn(
    head: Head, route: RouteRules, own: tuple[str, ...] = (), names: Iterable[bytes] = (), *, private: bool = False
) -> Head:
    """A head with what clients and CDNs are told of a route."""
    # The key may hold identity; a browser in which somebody else logs in has nothing but Vary to tell by.
    told = [name for name in sorted(route.credentials | route.keyed) if not name.startswith(b":")]
    names = tuple(dict.fromkeys((*names, *told)))
    # Not every cache outside us heeds Vary, and what depends on these may be one user's.
    guarded = route.private or private or not IDENTIFYING.isdisjoint(names)
    return present.dress(head, route.policy, declared=route.declared, guarded=guarded, tags=own, selecting_names=names)


def tagged(entry: Entry, headers: Headers, seed: bytes) -> Headers:
    """With a strong entity tag, unless the application gave one or the response is no whole representation.

    A HEAD gets none: the tag would be of other bytes than that of the GET.
    """
    if entry.status != OK or entry.method == "HEAD":
        return headers
    encoding = b""
    for name, value in headers:
        if name == b"etag":
            return headers
        if name == b"content-encoding":
            encoding = encoding or value
    return [*headers, (b"etag", present.strong_etag(seed, encoding))]


def complete(  # noqa: PLR0913, PLR0917 - all that is known only now
    entry: Entry, dress: Dress, route: RouteRules, now: float, spread: float, body: bytes | None = None
) -> Entry:
    """The response with what is known of it only now: its body, its cost, and its share of jitter."""
    lifetime, age = entry.lifetime, entry.initial_age
    if route.declared:
        # RFC 9111 §4.2.3 counts the wait for an answer as age, for it cannot know when the answer was made. We can.
        age = max(0.0, age - (entry.answered_at - entry.asked_at))
        if lifetime == route.policy.ttl:
            lifetime *= 1.0 - spread
    return replace(
        entry,
        body=entry.body if body is None else body,
        headers=shared(dress.headers),
        tags=dress.tags,
        lifetime=lifetime,
        initial_age=age,
        cost=rough(now - entry.asked_at),
    )


def built_on(entry: Entry, reads: Reads, now: float) -> tuple[Entry, str]:
    """The response as what was read for it leaves it: no younger, no longer fresh; or why it cannot be stored."""
    if reads.nothing:
        return entry, ""
    tags = tuple(dict.fromkeys((*entry.tags, *reads.tags)))
    # From now on: what was read may have to be waited for, but is not younger for that.
    over = max(0.0, freshness.seconds_until_stale(entry, now) - max(0.0, reads.until - now))
    reason = reads.unknown or ("stale-parts" if reads.until <= now else "")
    born = int(min(entry.born, reads.born))
    return replace(entry, tags=tags, born=born, lifetime=entry.lifetime - over), reason


def announced(entry: Entry) -> int:
    """The length that the body is said to have; 0 where nothing is said, or there will be none."""
    given = [value for name, value in entry.headers if name == b"content-length" and entry.method != "HEAD"]
    return int(given[0]) if len(given) == 1 and given[0].isdigit() and len(given[0]) < 19 else 0  # noqa: PLR2004


def plain(headers: Iterable[tuple[bytes, bytes]]) -> list[Header]:
    """Field lines as decisions want them, whatever sequences of bytes the application gave."""
    return [(bytes(name).lower(), bytes(value).strip(b" \t")) for name, value in headers]
