"""What would be done with a request, and why; nothing is changed by asking."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, assert_never, cast

from tiercel._core import coding, keys, rfc9111
from tiercel._core.entry import Entry, Request
from tiercel._core.freshness import seconds_until_stale
from tiercel._core.plan import Target
from tiercel._core.policy import Rules
from tiercel._engine.call import Scope, request_of
from tiercel._engine.engine import Engine
from tiercel._engine.observed import plain
from tiercel._engine.stamps import Verdict
from tiercel._engine.tiers import Shelf, key_tag
from tiercel.errors import ConfigurationError

Answer = rfc9111.Serve | rfc9111.ServeStale | rfc9111.Bypass | rfc9111.Refuse | rfc9111.Fill
Decision = Literal["hit", "stale", "miss", "bypass", "refuse", "unknown", "untouched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a cache would do with a request now, and why.

    Args:
        route: The route it falls under; None where it is not for the cache.
        position: `front`, or `guarded` where the dependencies run before the cache is asked.
        shape: A digest of what the route declares of its answer, hexadecimal: part of the key. Where it differs between
            two releases of a program, neither serves what the other has stored.
        key: The primary key, hexadecimal; of a guarded route, that to which the identity is still to be added.
        decision: `hit`, `stale`, `miss`, `bypass`, `refuse` (504), `untouched` where it is not for the cache, or
            `unknown` where more is needed than there is: whom the dependencies let pass, or the content of a QUERY.
        detail: The reason, in the words of Cache-Status (RFC 9211): why it goes forward, and more on that.
        ttl: Seconds that the stored response is still fresh, not positive where it is stale.
        tags: What an invalidation of the stored response can name.

    Example:
        >>> from tiercel import Cache
        >>> scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        >>> Cache().explain(scope).decision
        'untouched'
    """

    route: str | None = None
    position: Literal["front", "guarded"] | None = None
    shape: str = ""
    key: str = ""
    decision: Decision
    detail: str = ""
    ttl: float | None = None
    tags: tuple[str, ...] = ()


class Surface(NamedTuple):
    """A place where requests reach a cache."""

    app: object
    resolve: Callable[[Scope], Target | None]
    rules: Callable[[], Rules]


def explain(engine: Engine, surfaces: Iterable[Surface], given: Any) -> Explanation:  # noqa: ANN401 - a request or a scope
    """What would be done with a request, or a scope, of an application in which the cache is installed."""
    scope = _as_received(_scope(given))
    if scope["type"] == "http":
        for surface in _of_its_app(surfaces, scope):
            target = surface.resolve(scope)
            if target is not None:
                headers = scope["headers"] if engine.encoder is None else coding.canonical(scope["headers"])
                return _explained(engine, target, surface.rules(), request_of(scope, headers, b""))
    return Explanation(decision="untouched")


def _scope(given: Any) -> Scope:  # noqa: ANN401 - whatever was given
    scope: object = getattr(given, "scope", given)
    if isinstance(scope, Mapping) and "type" in scope and "headers" in scope:
        return cast("Scope", scope)
    message = f"cache.explain({given!r}): it takes a request, of Starlette or FastAPI, or an ASGI scope of one."
    raise ConfigurationError(message)


def _as_received(scope: Scope) -> Scope:
    """Without what routing has done to it, and without a watch on its fields."""
    root = scope.get("app_root_path", scope.get("root_path", ""))
    return {**scope, "root_path": root, "headers": plain(scope["headers"])}


def _of_its_app(surfaces: Iterable[Surface], scope: Scope) -> list[Surface]:
    """The surface of the application that a scope names; all of them where it names none that is known."""
    found = list(surfaces)
    own = [surface for surface in found if surface.app is scope.get("app")]
    return own or found


def _explained(engine: Engine, target: Target, rules: Rules, request: Request) -> Explanation:
    route, now = target.rules, engine.clock.time()
    stored, soft = _stored(engine, target.primary, request)
    decision, detail, entry = _said(rfc9111.on_request(request, stored, now, rules, soft=soft))
    if decision != "bypass" and (route.guarded or request.method == "QUERY"):
        decision, detail, entry = "unknown", "identity" if route.guarded else "request-content", None
    ttl = None if entry is None else seconds_until_stale(entry, now)
    return Explanation(
        route=route.label,
        position="guarded" if route.guarded else "front",
        shape=route.shape,
        key=target.primary.hex(),
        decision=decision,
        detail=detail,
        ttl=min(0.0, ttl) if ttl is not None and decision == "stale" else ttl,
        tags=() if entry is None else entry.tags,
    )


def _said(answer: Answer) -> tuple[Decision, str, Entry | None]:
    match answer:
        case rfc9111.Serve(entry=entry):
            return "hit", "", entry
        case rfc9111.ServeStale(entry=entry):
            return "stale", "", entry
        case rfc9111.Bypass(reason=reason):
            return "bypass", reason, None
        case rfc9111.Refuse():
            return "refuse", "only-if-cached", None
        case rfc9111.Fill(fwd=fwd, entry=entry, detail=detail):
            return "miss", f"{fwd}; {detail}" if detail else fwd, entry
        case _:
            assert_never(answer)


def _stored(engine: Engine, key: bytes, request: Request) -> tuple[Sequence[Entry], bool]:
    """What is stored and has not been cut, and whether what answers the request was cut softly; uncounted."""
    shelf = engine.tiers.memory.peek(key)
    entries = shelf.entries if isinstance(shelf, Shelf) else ()
    verdicts = [(entry, engine.stamps.verdict((*entry.tags, key_tag(key)), entry.born)) for entry in entries]
    usable = [entry for entry, verdict in verdicts if verdict is not Verdict.CUT]
    chosen = keys.select(usable, request)
    soft = any(entry is chosen and verdict is Verdict.SOFT for entry, verdict in verdicts)
    return usable, soft
