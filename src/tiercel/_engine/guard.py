"""Asks the cache for a route whose dependencies run first: they let the caller pass, and say who it is."""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from tiercel._core import keys, rfc9111
from tiercel._core.entry import Entry, Headers
from tiercel._core.plan import Target
from tiercel._core.policy import Policy
from tiercel._engine.call import Scope
from tiercel._engine.depot import Lease
from tiercel._engine.engine import Engine
from tiercel._engine.exchange import Answer, Hit, Pass, Ride, seek
from tiercel._engine.fills import Fill
from tiercel._engine.flights import Flight, Phase
from tiercel._engine.ready import Ready

IDENTIFIED = "tiercel.identified"
"""In the scope where somebody outside of the application may have said in it whose request it is."""
CLIENT = b":client"
"""Stands among the credentials for whoever is at the other end of the connection."""


Blank = Callable[[Entry | None], object]
"""Makes a response for those between the endpoint and the gate to see: as far as it is known, what the caller gets."""


class Guard:
    """Asks the cache once the dependencies of a route have let the caller pass."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is put together from
        self,
        target: Target,
        engine: Engine,
        scope: Scope,
        headers: Headers,
        fill: Callable[[], Fill],
        blank: Blank,
        stored: Callable[[Target], Ready | None] = lambda _: None,
    ) -> None:
        self.ready: Ready | None = None
        """What is stored, and answers at once."""
        self.answer: Answer | None = None
        """Any other answer than the endpoint's."""
        self.decided: Callable[[], None] = lambda: None
        self._key: bytes | None = None
        """None: nobody knows."""
        self._target = target
        self._engine = engine
        self._scope = scope
        self._headers = headers
        self._fill = fill
        self._blank = blank
        self._stored = stored

    def blank(self) -> object:
        """What the endpoint returns when the caller is answered otherwise: it goes no further than to the gate."""
        if self.ready is not None:
            return self._blank(self.ready.entry)
        match self.answer:
            case Hit(entry=entry):
                return self._blank(entry)
            case Ride(flight=flight) if flight.phase is Phase.LANDED:
                return self._blank(flight.entry)
            case _:
                return self._blank(None)

    def hits(self, arguments: Mapping[str, Any]) -> bool:
        """Whether something that is stored answers at once."""
        target = self._target
        try:
            identity = self._identity(target.rules.policy, arguments)
        except Exception as error:  # noqa: BLE001 - of a property or a lazy attribute of the user's
            # Nobody knows whose response it will be: it is for this caller, and not kept.
            self._engine.misled(f"the identity of {target.rules.label}", error)
            self._fill().decline("identity-unknown")
            return False
        self._key = key = keys.primary(target.primary, *identity) if identity else _for_all(target.primary)
        self.ready = self._stored(Target(target.rules, key))
        return self.ready is not None

    async def ask(self) -> bool:
        """Whether the endpoint is to run then: for everyone who asks for this key, or for this caller only."""
        fill, key = self._fill(), self._key
        if key is None:
            return True
        started = refreshes = False

        def take_off(
            plan: rfc9111.Fill, /, *, alone: bool = False, behind: bool = False, lease: Lease | None = None
        ) -> Flight:
            nonlocal started, refreshes
            started, refreshes = True, behind
            fill.flight.has_caller = not behind
            return fill.take_off(plan, key, alone=alone, lease=lease)

        answer = await seek(fill.call, key, take_off)
        if refreshes and not await fill.is_ours():
            started = False
        if isinstance(answer, Pass):
            return True
        if not started:
            fill.mute()
        if self.answer is None:
            self.answer = answer
            self.decided()
        return started

    def _identity(self, policy: Policy, arguments: Mapping[str, Any]) -> list[bytes | None]:
        """Whose response it is."""
        if callable(policy.per) or policy.per == "shared":
            return []  # the first is part of the primary key already
        if policy.per != "auto":
            return [_named(policy.per, arguments)]
        parts: list[bytes | None] = []
        for name in sorted(self._target.rules.credentials):
            if name == CLIENT:
                parts += _peer(self._scope)
            else:
                lines = [value for line, value in self._headers if line == name]
                parts += [b"%d" % len(lines), *lines]
        if CLIENT in self._target.rules.credentials and IDENTIFIED in self._scope:
            # Nobody knows from what it was taken: from any of these.
            parts += [digest for _, digest in keys.selecting((keys.EVERY,), self._headers)]
        return parts


_for_all = lru_cache(maxsize=1024)(keys.primary)
"""The key of what all share. Of nobody else's: what names somebody may be a secret, and is not kept."""


def _peer(scope: Scope) -> Iterator[bytes | None]:
    """Who is at the other end, as the server says: the address, and the certificates of mutual TLS."""
    client: tuple[str, int] | None = scope.get("client")
    yield client[0].encode() if client else None
    extensions: dict[str, Any] = scope.get("extensions") or {}
    tls: dict[str, Any] = extensions.get("tls") or {}
    name: str | None = tls.get("client_cert_name")
    chain: list[str] = tls.get("client_cert_chain") or []
    yield None if name is None else name.encode()
    yield from [certificate.encode() for certificate in chain]


def _named(path: str, arguments: Mapping[str, Any]) -> bytes:
    """The value at a dotted path into the arguments, as bytes that no other value of any type shares."""
    first, *rest = path.split(".")
    value: object = arguments[first]
    for name in rest:
        value = cast("Mapping[str, object]", value)[name] if isinstance(value, Mapping) else getattr(value, name)
    if isinstance(value, Enum):
        value = cast("object", value.value)
    if not isinstance(value, str | int | UUID | bytes):
        message = f"per={path!r} is {type(value).__name__}, which names nobody. Give str, int, UUID, bytes or Enum."
        raise TypeError(message)
    return type(value).__name__.encode() + b":" + (value if isinstance(value, bytes) else str(value).encode())
