"""Where requests are answered before uvicorn makes a task of them. One for all connections of a server."""

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tiercel._core.entry import Header, Headers, Request
from tiercel._core.plan import Target
from tiercel._engine.call import Scope
from tiercel._engine.ready import Glance, Ready, count, glance
from tiercel._engine.tiers import Shelf
from tiercel.asgi import FRONT, Front, Gate
from tiercel.errors import ConfigurationError
from tiercel.server._wire import Lines, Wire, lines, wire

HEADS: Final = 4096
"""Heads of requests that are remembered with where they are looked up."""
HEAD_LENGTH: Final = 1024
HEAD_LINES: Final = 32
"""Bytes and fields of such a head; a larger one is read each time, lest hostile clients fill the memory."""
MADE: Final = 6
"""What is kept as bytes beside a stored response: its fields, the plain answer, and some without a body (304, HEAD).

Of fields and plain answers there is one for each content coding; where these alone are as many, one more is kept."""

_PLAIN: Final = b"plain"  # no head begins so
_STORED: Final = b"stored"
_KEPT: Final = (_PLAIN, _STORED)
_FRAMING: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_PROTO: Final = b"x-forwarded-proto"


Forwarding = Callable[[Scope, Any, Any], Coroutine[Any, Any, None]]


class Asked(NamedTuple):
    """A GET or HEAD without a body, as the parser has read it."""

    method: str
    url: bytes
    headers: Headers
    scope: Scope
    """As uvicorn has begun it."""


class Known(NamedTuple):
    """What follows from the head of a request."""

    target: Target
    method: str
    seen: Glance
    request: Request
    lasting: bool
    """It follows from the bytes alone."""
    plain: bytes | None
    """The name of a plain answer: one for each content coding. None where no plain one will do."""


class First(NamedTuple):
    """The answer to a request that was read, and what was found out on the way."""

    wire: Wire
    known: Known
    scope: Scope


class _Made(NamedTuple):
    """Bytes, and while what they are good."""

    wire: Wire
    since: float
    until: float
    defaults: Sequence[Header]
    """The fields that uvicorn adds: new ones every second."""


class Desk:
    """Answers what is fresh, in front, and needs nothing else, by the decisions of the gate.

    Args:
        front: Of the application.
        forwarding: What uvicorn does to a scope for trusted proxies, if anything.
    """

    def __init__(self, front: Front, forwarding: Forwarding | None = None) -> None:
        self._front = front
        self._forwarding = forwarding
        self._known: dict[bytes, Known] = {}
        self._defaults: tuple[Sequence[Header], Lines | None] = ((), lines(()))
        self._version: object = None

    def again(self, data: bytes, defaults: Sequence[Header]) -> Wire | None:
        """The answer to bytes that were a whole request before; None where they were not, or it takes more."""
        known, gate = self._known.get(data), self._front.gate
        if known is None or gate is None or not self._is_current(gate):
            return None
        shelf = gate.engine.tiers.shelf(known.target.primary)
        if shelf is None:
            return None
        made = shelf.made.get(_name(known, data, shelf) or data)
        if made is None or made.defaults is not defaults or not made.since <= gate.engine.clock.time() < made.until:
            return self._answer(gate, known, data, defaults)
        count(gate.engine, known.target)
        found: Wire = made.wire
        return found

    def first(self, asked: Asked, defaults: Sequence[Header]) -> First | None:
        """The answer to a request; None where it takes more."""
        gate, seen = self._front.gate, glance(asked.headers)
        if gate is None or not seen.fit or not self._is_current(gate):
            return None
        scope, forwarded = self._entered(asked)
        target = gate.target(scope, seen.host)
        if target is None:
            return None
        request = gate.request(scope, asked.headers)
        lasting = target.rules.by_url and seen.host is not None and not forwarded
        known = Known(target, asked.method, seen, request, lasting, _plain(gate, asked, seen))
        found = self._answer(gate, known, b"", defaults)
        return None if found is None else First(found, known, scope)

    def remember(self, data: bytes, known: Known) -> None:
        """Bytes that were one whole request, and nothing else, will be so again."""
        if known.lasting and len(data) <= HEAD_LENGTH and len(known.request.headers) <= HEAD_LINES:
            if len(self._known) >= HEADS:
                del self._known[next(iter(self._known))]
            self._known[data] = known

    def _is_current(self, gate: Gate) -> bool:
        """Whether requests still reach the cache first; what is known is forgotten where the routes are others."""
        if not self._front.leads():
            return False
        try:
            version = gate.version()
        except ConfigurationError:
            return False  # the ordinary road says it
        if version != self._version:
            self._known.clear()
            self._version = version
        return True

    def _entered(self, asked: Asked) -> tuple[Scope, bool]:
        """The scope as the application's middleware would get it; whether a proxy may have had a say in it."""
        parsed = httptools.parse_url(asked.url)
        root: str = asked.scope["root_path"]
        path = unquote(parsed.path.decode("ascii"))
        scope = {
            **asked.scope,
            "method": asked.method,
            "path": root + path,
            "raw_path": root.encode("ascii") + parsed.path,
            "query_string": parsed.query or b"",
        }
        forwarding = self._forwarding
        if forwarding is not None:
            _forward(forwarding, scope)
        self._front.enter(scope)
        return scope, forwarding is not None and any(name == _PROTO for name, _ in asked.headers)

    def _answer(self, gate: Gate, known: Known, data: bytes, defaults: Sequence[Header]) -> Wire | None:
        """Have it decided, and keep what can be had again."""
        ready = gate.ready(known.target, known.seen, known.method, known.request.headers, lambda: known.request)
        if ready is None:
            return None
        name, made = _name(known, data, ready.shelf), ready.shelf.made
        plain = name is not None and name is known.plain
        fields = (self._of_uvicorn(defaults), *(_stored(ready, known) if plain else (lines(ready.headers),)))
        written = [one for one in fields if one is not None]
        found = wire(known.method, ready.status, written, ready.body) if len(written) == len(fields) else None
        # Of a part of a body there would be a copy, beside the bound of memory.
        if found is not None and name is not None and (plain or not found.body):
            if name not in made:
                _make_room(made)
            made[name] = _Made(found, ready.since, ready.until, defaults)
        return found

    def _of_uvicorn(self, defaults: Sequence[Header]) -> Lines | None:
        """The lines that uvicorn adds, which change once a second; None where they frame what follows them."""
        if self._defaults[0] is not defaults:
            self._defaults = defaults, None if any(name in _FRAMING for name, _ in defaults) else lines(defaults)
        return self._defaults[1]


def _plain(gate: Gate, asked: Asked, seen: Glance) -> bytes | None:
    if not seen.plain or asked.method != "GET":
        return None
    encoder = gate.engine.encoder
    return _PLAIN + ((encoder and encoder.wanted(asked.headers)) or b"")


def _stored(ready: Ready, known: Known) -> tuple[Lines | None, Lines | None]:
    """The lines of a plain hit: what is stored is written once, and what is said of its use each time."""
    stored, made, name = ready.entry.headers, ready.shelf.made, _STORED + (known.plain or b"")
    if name not in made:
        made[name] = lines(stored)
    return made[name], lines(ready.headers[len(stored) :])


def _make_room(made: dict[bytes, Any]) -> None:
    """For one more answer."""
    other = next((one for one in made if not one.startswith(_KEPT)), None)
    if len(made) >= MADE and other is not None:
        del made[other]


def _name(known: Known, data: bytes, shelf: Shelf) -> bytes | None:
    """Under what name the shelf keeps the bytes of an answer; None where it does not."""
    return known.plain if known.plain and shelf.plain_until > 0.0 else data or None


def desk_of(config: Config) -> Desk | None:
    """The desk of the application that uvicorn serves; None where it has no cache, or stands behind something else."""
    app = cast("Any", config).loaded_app
    forwarding: Forwarding | None = None
    if isinstance(app, ProxyHeadersMiddleware):
        trusting: Any = copy(app)  # as it is set up, before nothing
        trusting.app = _nothing
        app, forwarding = app.app, trusting
    front = getattr(app, FRONT, None)
    return Desk(front, forwarding) if isinstance(front, Front) and front.served else None


def _forward(forwarding: Forwarding, scope: Scope) -> None:
    """Have uvicorn's own middleware change a scope; behind it is nothing that could be waited for."""
    with contextlib.suppress(StopIteration):
        forwarding(scope, _nothing, _nothing).send(None)


async def _nothing(*_: object) -> None: ...
