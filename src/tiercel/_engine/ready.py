"""What is answered at once: a stored response that is fresh, in front, with nothing to wait for.

The shortest way of `exchange`. The decisions are the same; what is not decided here takes the whole way.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, cast

from tiercel._core import present, rfc9111
from tiercel._core.entry import Entry, Header, Headers, Request
from tiercel._core.freshness import seconds_until_stale
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
    """An answer, and what may be kept of it."""

    status: int
    headers: list[Header]
    """The receiver's to change."""
    body: bytes
    shelf: Shelf
    stored: Entry
    entry: Entry
    """What is shown of it."""
    until: float
    """While the shelf holds the same, the same request has the same answer until then, but for `present.moment`, the
    last two of its fields. 0.0: nobody knows."""


def plainly(engine: Engine, target: Target, shelf: Shelf, headers: Headers, began: float | None = None) -> Ready | None:
    """The answer to a plain GET, asked for when it began; `plain_until` is the decision, made ahead."""
    if (now := engine.clock.time()) >= shelf.plain_until:
        return None
    face = shelf if engine.encoder is None else engine.encoder.face(target.primary, shelf, headers)
    if face is None:
        return None
    stored = shelf.entries[0]  # only now: what was made of it has changed it
    entry = stored if face is shelf else cast("Face", face).entry
    if not face.rendered_at <= now < face.rendered_until:
        face.rendered = [*entry.headers, *present.moment(entry, now)]
        face.rendered_at, face.rendered_until = now, present.moment_until(entry, now)
    count(engine, target, began)
    return Ready(entry.status, face.rendered.copy(), entry.body, shelf, stored, entry, shelf.plain_until)


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
            shown = entry if engine.encoder is None else engine.encoder.at_hand(target.primary, entry, asked.headers)
            if shown is None:
                return None
            count(engine, target, began)
            reply = present.reply(shown, asked, now, _hit(entry, now))
            heard = wishes and rules.obey_requests  # what it wishes for may depend on the age
            timeless = heard or reply.headers[-2:] != present.moment(entry, now)
            return Ready(*reply, shelf, entry, shown, 0.0 if timeless else rfc9111.served_until(entry))
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
