"""What stands between FastAPI and an endpoint: it names the answer, asks the guard, and invalidates after it.

A `Visit` is one request's view of the cache. The endpoint finds it in a context variable, which tasks inherit.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from string import Formatter
from typing import Any

from tiercel._core.policy import Policy, Tags
from tiercel._engine.engine import Engine
from tiercel._engine.fills import Fill
from tiercel._engine.guard import Guard
from tiercel.errors import ConfigurationError, NotAcknowledged

Endpoint = Callable[..., Any]

_ERRORS_FROM = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What was declared about an endpoint."""

    engine: Engine
    """Of the cache that it was declared with."""
    endpoint: Endpoint
    """The function as it was written."""
    policy: Policy | None = None
    """An object of its own in each declaration: by it the endpoint of a route is told from those called on the way."""
    invalidates: tuple[str, ...] = ()


class Visit:
    """One request, as the endpoint under it sees the cache."""

    __slots__ = ("_changes", "_entered", "_open", "engine", "fill", "guard", "policy")

    def __init__(self, engine: Engine, policy: Policy | None = None) -> None:
        self.engine = engine
        self.policy = policy
        """What is declared of the route."""
        self.guard: Guard | None = None
        """Whom the endpoint asks whether it is to run."""
        self.fill: Fill | None = None
        self._entered = False
        self._open = True
        """Whether nothing of the answer has left yet."""
        self._changes: list[str] = []

    def begun(self, fill: Fill) -> None:
        """The application is asked."""
        self.fill, self._entered = fill, False

    def enter(self, policy: Policy | None) -> bool:
        """Whether the endpoint of the route itself is called, and not another one by that or a dependency."""
        if self._entered or policy is None or policy is not self.policy or (self.fill is None and self.guard is None):
            return False
        self._entered = True
        return True

    def change(self, tags: Iterable[str]) -> bool:
        """Invalidate before the answer leaves; whether it is too late for that, and has to be done at once."""
        self._changes.extend(tags)
        return not self._open

    async def answered(self) -> None:
        """The application has given the head of its answer. Nobody has seen it yet."""
        self._open = False
        await self._cut()

    async def ended(self) -> None:
        """The dependencies of the request are closed, which is when many a session commits: once more."""
        self._open = False
        if self._changes:
            await self._cut()

    def forget(self) -> None:
        """Nothing more is to be expected of the application."""
        self.fill = None

    async def outlasted(self) -> None:
        """Wait until the application has done what it still does for this request once its response is complete.

        Without a cache a request takes as long as its background tasks and its dependencies do, and whoever shuts the
        server, or a test's event loop, down relies on that.
        """
        fill = self.fill
        if fill is None or fill.flight.task is None or not (fill.muted or fill.flight.over):
            return
        if fill.flight.task.done():
            await asyncio.sleep(0)  # for what is called when it is done, which is due in this turn of the loop
        else:
            await asyncio.wait([fill.flight.task])

    async def _cut(self) -> None:
        """The answer goes out in any case: what it tells of is done. That it was not acknowledged is an event."""
        if not self._changes:
            return
        try:
            await self.engine.invalidate(dict.fromkeys(self._changes))
        except NotAcknowledged as error:
            self.engine.misled("the invalidation after a request", error, "It is queued.")


current: ContextVar[Visit | None] = ContextVar("tiercel_visit", default=None)


# -- declaring -------------------------------------------------------------------------------------------------------


def declaration_of(endpoint: object) -> Declaration | None:
    """What was declared about what FastAPI calls."""
    found = getattr(endpoint, "__tiercel__", None)
    return found if isinstance(found, Declaration) else None


def declare(
    endpoint: Endpoint, *, engine: Engine, policy: Policy | None = None, invalidates: tuple[str, ...] = ()
) -> tuple[Endpoint, Declaration]:
    """The endpoint to register instead, and what is now known of it.

    Raises:
        ConfigurationError: It does not go together with what was declared before.
    """
    declaration = Declaration(
        engine=engine, endpoint=endpoint, policy=policy and replace(policy), invalidates=invalidates
    )
    earlier = declaration_of(endpoint)
    if earlier is not None:
        _check(earlier, declaration)
        # Where another decorator stands between, it has copied the attribute: it, too, is called.
        if getattr(endpoint, "__wrapped__", None) is earlier.endpoint:
            declaration = replace(
                declaration,
                endpoint=earlier.endpoint,
                policy=declaration.policy or earlier.policy,
                invalidates=(*earlier.invalidates, *invalidates),
            )
    return _stand_in(declaration), declaration


def _check(earlier: Declaration, declaration: Declaration) -> None:
    name = getattr(earlier.endpoint, "__qualname__", repr(earlier.endpoint))
    if earlier.engine is not declaration.engine:
        message = f"{name} is declared with two caches. Declare an endpoint with one Cache object, the installed one."
        raise ConfigurationError(message)
    if earlier.policy is not None and declaration.policy is not None:
        message = f"{name} has @cache.response twice. Keep one of them."
        raise ConfigurationError(message)


def _stand_in(declaration: Declaration) -> Endpoint:
    """What FastAPI is given instead: of the same signature, and run where it would run the endpoint."""
    endpoint = declaration.endpoint
    signature = inspect.signature(endpoint)
    if yields(endpoint):
        made = _yielding(declaration, signature)
    elif _is(inspect.iscoroutinefunction, endpoint):
        made = _awaiting(declaration, signature, endpoint)
    elif declaration.policy is not None:
        # To ask the cache is to await, and a thread that waits is one that the application cannot use.
        made = _awaiting(declaration, signature, functools.partial(_in_thread, endpoint))
    else:
        made = _returning(declaration, signature)
    functools.update_wrapper(made, endpoint)
    made.__dict__["__tiercel__"] = declaration
    return made


def yields(endpoint: Endpoint) -> bool:
    """Whether FastAPI streams what an endpoint yields."""
    return _is(inspect.isgeneratorfunction, endpoint) or _is(inspect.isasyncgenfunction, endpoint)


def _is(kind: Callable[[object], bool], endpoint: Endpoint) -> bool:
    """As FastAPI sees it: through partials and decorators, and into objects that can be called."""
    outer = _without_partials(endpoint)
    faces = (outer, _without_partials(inspect.unwrap(outer)))
    return any(kind(face) or kind(getattr(face, "__call__", None)) for face in faces)  # noqa: B004


def _without_partials(endpoint: Endpoint) -> Endpoint:
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func
    return endpoint


async def _in_thread(endpoint: Endpoint, *args: object, **kwargs: object) -> object:
    # FastAPI's own way, so it is there; without FastAPI it may not be.
    import anyio.to_thread

    return await anyio.to_thread.run_sync(functools.partial(endpoint, *args, **kwargs))


def _awaiting(declaration: Declaration, signature: inspect.Signature, run: Endpoint) -> Endpoint:
    async def stand_in(*args: object, **kwargs: object) -> object:
        calling = _Calling(declaration, _arguments(signature, args, kwargs))
        guard = calling.guard
        if guard is not None and (guard.hits(calling.arguments) or not await calling.is_wanted(guard)):
            return guard.blank()
        calling.name()
        value = await run(*args, **kwargs)
        if changes := calling.returned(value):
            await declaration.engine.invalidate(changes)
        return value

    return stand_in


def _returning(declaration: Declaration, signature: inspect.Signature) -> Endpoint:
    def stand_in(*args: object, **kwargs: object) -> object:
        calling = _Calling(declaration, _arguments(signature, args, kwargs))
        value = declaration.endpoint(*args, **kwargs)
        if changes := calling.returned(value):
            declaration.engine.invalidate_now(changes)
        return value

    return stand_in


def _yielding(declaration: Declaration, signature: inspect.Signature) -> Endpoint:
    """FastAPI streams what it yields. Nothing can be asked around that: such a route is answered in front only."""
    if declaration.policy is not None and callable(declaration.policy.tags):
        name = getattr(declaration.endpoint, "__qualname__", repr(declaration.endpoint))
        message = (
            f"{name} yields, so `tags` cannot be a callable over what it returns. Give templates over its arguments."
        )
        raise ConfigurationError(message)

    def stand_in(*args: object, **kwargs: object) -> object:
        calling = _Calling(declaration, _arguments(signature, args, kwargs))
        calling.name()
        stream = declaration.endpoint(*args, **kwargs)
        if changes := calling.returned(None):
            declaration.engine.invalidate_now(changes)
        return stream

    return stand_in


# -- calling ---------------------------------------------------------------------------------------------------------


class _Calling:
    """One call of a declared endpoint: by FastAPI for a request, or by hand."""

    __slots__ = ("_changes", "_declaration", "_fill", "_visit", "arguments", "guard")

    def __init__(self, declaration: Declaration, arguments: Mapping[str, Any]) -> None:
        visit = current.get()
        if visit is not None and visit.engine is not declaration.engine:
            visit = None
        if visit is None:
            declaration.engine.called_by_hand(getattr(declaration.endpoint, "__qualname__", "an endpoint"))
        self._declaration = declaration
        self._visit = visit
        entered = visit is not None and visit.enter(declaration.policy)
        self._fill = visit.fill if entered and visit is not None else None
        self.guard = visit.guard if entered and visit is not None else None
        """Who knows whether the endpoint is to run, rather than somebody else's answer to be sent."""
        self.arguments = arguments
        # Before anything is changed: a tag that cannot be named must not be found out after that.
        self._changes = rendered(declaration.invalidates, arguments) if declaration.invalidates else ()

    async def is_wanted(self, guard: Guard) -> bool:
        """Whether the endpoint is to run, where nothing that is stored answers at once."""
        wanted = await guard.ask()
        self._fill = None if self._visit is None else self._visit.fill
        return wanted

    def name(self) -> None:
        """Say early what an invalidation can name: whom it does not concern may still join."""
        policy = self._declaration.policy
        if policy is not None and not callable(policy.tags):
            self._tag(functools.partial(rendered, policy.tags, self.arguments))

    def returned(self, value: object) -> tuple[str, ...]:
        """What is to be invalidated at once: the rest is left to the visit."""
        policy = self._declaration.policy
        if policy is not None and callable(policy.tags):
            self._tag(functools.partial(_said, policy.tags, self.arguments, value))
        if self._fill is not None:
            self._fill.made = True
        if not self._changes or _is_error(value):
            return ()
        # By hand, as in a unit test, an invalidation still means what it says.
        return self._changes if self._visit is None or self._visit.change(self._changes) else ()

    def _tag(self, tags: Callable[[], tuple[str, ...]]) -> None:
        if self._fill is None:
            return
        try:
            self._fill.named(tags())
        except Exception as error:  # noqa: BLE001 - of an attribute or a callable of the user's
            # What cannot be named cannot be invalidated.
            call = self._fill.call
            call.engine.misled(f"the tags of {call.route.label}", error)
            self._fill.decline("tags-unknown")


def _is_error(value: object) -> bool:
    """Whether the endpoint itself says that it has failed: with a response."""
    status = getattr(value, "status_code", None)
    return isinstance(status, int) and status >= _ERRORS_FROM and callable(value)


def _arguments(signature: inspect.Signature, args: tuple[object, ...], kwargs: dict[str, object]) -> Mapping[str, Any]:
    if len(kwargs) == len(signature.parameters):  # as FastAPI calls
        return kwargs
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _said(tags: Tags, arguments: Mapping[str, Any], value: object) -> tuple[str, ...]:
    """The tags that a callable names; `Policy` knows what can be one."""
    said = tags(arguments, value)
    named = Policy(tags=said if isinstance(said, str) else list(said)).tags
    return () if callable(named) else named


def rendered(templates: tuple[str, ...], arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Tag templates with the arguments put in."""
    return tuple(dict.fromkeys([_tags.vformat(template, (), arguments) for template in templates]))


class _Tags(Formatter):
    """Shows a member of an enumeration as its value, whatever the enumeration and the release of Python make of it."""

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - whatever an argument is
        shown: str = super().format_field(value.value if isinstance(value, Enum) else value, format_spec)
        return shown


_tags = _Tags()
