"""Where requests are answered before uvicorn makes a task of them. One for all connections of a server."""

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tiercel._core.entry import Header, Headers
from tiercel._engine.call import Scope
from tiercel._engine.ready import Ready, glance
from tiercel._engine.tiers import Shelf
from tiercel.asgi import FRONT, Front, Gate
from tiercel.errors import ConfigurationError
from tiercel.server._answers import Answers, Kept
from tiercel.server._wire import Pieces, Wire, joined, wire

_PROTO: Final = b"x-forwarded-proto"

Forwarding = Callable[[Scope, Any, Any], Coroutine[Any, Any, None]]


class Asked(NamedTuple):
    """A GET or HEAD without a body, as the parser has read it."""

    method: str
    url: bytes
    headers: Headers
    scope: Scope
    """As uvicorn has begun it."""


class First(NamedTuple):
    """The answer to a request that was read, and what was found out on the way."""

    status: int
    pieces: Pieces
    scope: Scope
    kept: Kept | None
    """What the same bytes would be answered with again, if that follows from them alone."""
    shelf: Shelf


class Desk:
    """Answers what is fresh, in front, and needs nothing else, by the decisions of the gate.

    Args:
        front: Of the application.
        forwarding: What uvicorn does to a scope for trusted proxies, if anything.
    """

    def __init__(self, front: Front, forwarding: Forwarding | None = None) -> None:
        self._front = front
        self._forwarding = forwarding
        self.answers = Answers(front.engine, front.lent, self._current_gate)
        """To bytes that were a whole request before."""
        self._version: object = None

    def first(self, asked: Asked, defaults: Sequence[Header]) -> First | None:
        """The answer to a request; None where it takes more."""
        gate, seen = self._current_gate(), glance(asked.headers)
        if gate is None or not seen.fit:
            return None
        try:
            scope, forwarded = self._entered(asked)
        except httptools.HttpParserInvalidURLError:
            return None  # as above: uvicorn refuses it
        target = gate.target(scope, seen.host)
        if target is None:
            return None
        ready = gate.ready(target, seen, asked.method, asked.headers, lambda: gate.request(scope, asked.headers))
        answer = None if ready is None else wire(asked.method, ready.status, ready.headers, ready.body)
        opening = None if answer is None else self.answers.opening(answer.status, defaults)
        if ready is None or answer is None or opening is None:
            return None
        lasting = target.rules.by_url and seen.host is not None and not forwarded and _is_lasting(ready, answer)
        kept = Kept(target, ready, answer) if lasting else None
        pieces = joined(opening, answer.fields + answer.end, answer.body, answer.tail)
        return First(answer.status, pieces, scope, kept, ready.shelf)

    def remember(self, data: bytes, first: First) -> None:
        """Bytes that were one whole request, and nothing else, will be so again."""
        if first.kept is not None:
            self.answers.keep(data, first.kept, first.shelf)

    def _current_gate(self) -> Gate | None:
        """The gate, if requests reach it first; what is known is forgotten where the routes are others."""
        gate = self._front.gate
        if gate is None or not self._front.leads():
            return None
        try:
            version = gate.version()
        except ConfigurationError:
            return None  # the ordinary road says it
        if version != self._version:
            self.answers.clear()
            self._version = version
        return gate

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


def _is_lasting(ready: Ready, answer: Wire) -> bool:
    """Whether it is the same again; and no copy of a part of a body."""
    return ready.until > 0.0 and (not answer.body or answer.body is ready.entry.body)


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
