"""Asks the cache for a route whose dependencies run first: they let the caller pass, and say who it is."""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, cast
from uuid import UUID

from tiercel._core import keys, rfc9111
from tiercel._core.entry import Entry
from tiercel._core.plan import Target
from tiercel._core.policy import Policy
from tiercel._engine.call import Scope
from tiercel._engine.depot import Lease
from tiercel._engine.exchange import Answer, Hit, Pass, Ride, seek
from tiercel._engine.fills import Fill
from tiercel._engine.flights import Flight, Phase

IDENTIFIED = "tiercel.identified"
"""In the scope where somebody outside of the application may have said in it whose request it is."""
CLIENT = b":client"
"""Stands among the credentials for whoever is at the other end of the connection."""


Blank = Callable[[Entry | None], object]
"""Makes a response for those between the endpoint and the gate to see: as far as it is known, what the caller gets."""


class Guard:
    """Asks the cache once the dependencies of a route have let the caller pass."""

    def __init__(self, target: Target, blank: Blank) -> None:
        self._blank = blank
        self.answer: Answer | None = None
        self.decided: Callable[[], None] = lambda: None
        self._target = target

    def blank(self) -> object:
        """What the endpoint returns when the caller is answered otherwise: it goes no further than to the gate."""
        match self.answer:
            case Hit(entry=entry):
                return self._blank(entry)
            case Ride(flight=flight) if flight.phase is Phase.LANDED:
                return self._blank(flight.entry)
            case _:
                return self._blank(None)

    def settle(self, answer: Answer) -> None:
        if self.answer is None:
            self.answer = answer
            self.decided()

    async def ask(self, fill: Fill, policy: Policy, arguments: Mapping[str, Any]) -> bool:
        """Whether the endpoint is to run: for everyone who asks for this key, or for this caller only."""
        try:
            identity = self._identity(fill, policy, arguments)
        except Exception as error:  # noqa: BLE001 - of a property or a lazy attribute of the user's
            # Nobody knows whose response it will be: it is for this caller, and not kept.
            fill.call.engine.misled(f"the identity of {self._target.rules.label}", error)
            fill.decline("identity-unknown")
            return True
        key = keys.primary(self._target.primary, *identity)
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
        self.settle(answer)
        return started

    def _identity(self, fill: Fill, policy: Policy, arguments: Mapping[str, Any]) -> list[bytes | None]:
        """Whose response it is."""
        if callable(policy.per) or policy.per == "shared":
            return []  # the first is part of the primary key already
        if policy.per != "auto":
            return [_named(policy.per, arguments)]
        call = fill.call
        parts: list[bytes | None] = []
        for name in sorted(self._target.rules.credentials):
            if name == CLIENT:
                parts += _peer(call.scope)
            else:
                lines = [value for line, value in call.request.headers if line == name]
                parts.append(keys.primary(*lines) if lines else None)
        if CLIENT in self._target.rules.credentials and IDENTIFIED in call.scope:
            # Nobody knows from what it was taken: from any of these.
            parts += [digest for _, digest in keys.selecting((keys.EVERY,), call.request.headers)]
        return parts


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
