"""What is answered at once: a stored response that is fresh, in front, with nothing to wait for.

The shortest way of `exchange`. The decisions are the same; what is not decided here takes the whole way.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, cast

from tiercel._core import present, rfc9111
from tiercel._core.entry import Entry, Header, Headers, Request
from tiercel._core.freshness import current_age, seconds_until_stale
from tiercel._core.plan import Target
from tiercel._core.policy import Rules
from tiercel._core.status import CacheStatus
from tiercel._engine.encoder import Face
from tiercel._engine.engine import Engine
from tiercel._engine.tiers import Shelf

METHODS: Final = frozenset({"GET", "HEAD"})
"""Methods that may be answered at once: the key of a QUERY needs its content."""

_CONTENT: Final = frozenset({b"content-length", b"transfer-encoding"})
_WISHES: Final = frozenset({b"cache-control", b"pragma"})
_HOST: Final = b"host"
_LOOKED_AT: Final = rfc9111.PLAIN_STOPS | {_HOST}


class Glance(NamedTuple):
    """What the fields of a request tell at first sight."""

    host: bytes | None
    plain: bool
    """Nothing could ask for another answer than that of a plain request."""
    fit: bool
    """It has one host at most, and no content: else it is not answered at once."""
    wishes: bool
    """It has a Cache-Control or Pragma of its own."""


def glance(headers: Headers) -> Glance:
    """Look at the fields of a request, once."""
    host, plain, fit, wishes = None, True, True, False
    for name, value in headers:
        if name in _LOOKED_AT:
            if host is None and name == _HOST:
                host = value
            else:
                plain = False
                fit = fit and name != _HOST and name not in _CONTENT
                wishes = wishes or name in _WISHES
    return Glance(host, plain, fit, wishes)


class Ready(NamedTuple):
    """An answer; and from when until when the same request has the same one, while the shelf holds the same."""

    status: int
    headers: list[Header]
    """The receiver's to change."""
    body: bytes
    entry: Entry
    """What is shown of the shelf."""
    shelf: Shelf
    since: float
    until: float


def plainly(engine: Engine, target: Target, shelf: Shelf, headers: Headers, began: float | None = None) -> Ready | None:
    """The answer to a plain GET, asked for when it began; `plain_until` is the decision, made ahead."""
    if (now := engine.clock.time()) >= shelf.plain_until:
        return None
    face = shelf if engine.encoder is None else engine.encoder.face(target.primary, shelf, headers)
    if face is None:
        return None
    entry = shelf.entries[0] if face is shelf else cast("Face", face).entry
    if not face.rendered_at <= now < face.rendered_until:
        face.rendered = present.fresh_headers(entry, now)
        face.rendered_at, face.rendered_until = now, _next_second(entry, now)
    count(engine, target, began)
    until = min(face.rendered_until, shelf.plain_until)
    return Ready(entry.status, face.rendered.copy(), entry.body, entry, shelf, face.rendered_at, until)


def decided(  # noqa: PLR0913 - all that the decision follows from
    engine: Engine,
    target: Target,
    shelf: Shelf,
    request: Callable[[], Request],
    rules: Rules,
    *,
    wishes: bool,
    began: float | None = None,
) -> Ready | None:
    """The answer to any other GET or HEAD, where the decision is to serve what is stored and nothing else."""
    now, asked = engine.clock.time(), request()
    match rfc9111.on_request(asked, shelf.entries, now, rules, draw=engine.draw()):
        case rfc9111.Serve(entry=entry, refresh=False):
            if engine.encoder is not None:
                shown = engine.encoder.at_hand(target.primary, entry, asked.headers)
                if shown is None:
                    return None
                entry = shown
            count(engine, target, began)
            heard = wishes and rules.obey_requests  # what it wishes for may depend on the age
            until = 0.0 if heard else min(rfc9111.served_until(entry), _next_second(entry, now))
            return Ready(*present.reply(entry, asked, now, _hit(entry, now)), entry, shelf, now, until)
        case _:
            return None


def count(engine: Engine, target: Target, began: float | None = None) -> None:
    """Count one more answer that is ready: at once, or since its request began."""
    engine.counts.hits += 1
    if engine.observers:
        seconds = 0.0 if began is None else engine.clock.monotonic() - began
        engine.answered(target.rules.label, "hit", seconds=seconds)


def _hit(entry: Entry, now: float) -> CacheStatus:
    return CacheStatus(hit=True, ttl=int(seconds_until_stale(entry, now)))


def _next_second(entry: Entry, now: float) -> float:
    """When Age, or the ttl in Cache-Status, is another."""
    return now + min(1.0 - current_age(entry, now) % 1.0, seconds_until_stale(entry, now) % 1.0)
