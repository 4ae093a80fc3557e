"""All that is used of FastAPI and Starlette without being documented by them, in one place.

`check` tries every piece of it on a route of its own, so that a release that moves one says so at start-up.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Annotated, Any

import fastapi
import starlette
from fastapi import APIRouter, Depends, Header, routing
from pydantic.fields import FieldInfo
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from tiercel.errors import ConfigurationError

_ADVICE = (
    f"FastAPI {fastapi.__version__} with Starlette {starlette.__version__} is not built as Tiercel expects: {{}}. "
    "Install a release of Tiercel that is made for it, or the FastAPI that your Tiercel was released with."
)

try:
    from fastapi.dependencies.models import Dependant
    from fastapi.dependencies.utils import get_dependant, solve_dependencies
    from starlette._utils import get_route_path
except ImportError as error:  # pragma: no cover - not with the FastAPI that this was tested with
    raise ConfigurationError(_ADVICE.format(error)) from error

__all__ = ["Dependant", "Sight", "check", "cookie_lookup", "get_route_path", "overridden", "params", "sights"]

_CONTEXT = "effective_route_context"


@dataclass(frozen=True, slots=True)
class Sight:
    """A route as the application sees it: with the prefixes and dependencies of the routers that include it."""

    original: BaseRoute
    effective: Any
    """Has the attributes of a route. Where the route was included it is not the original, nor of its class."""
    context: object | None = None
    """What FastAPI wants to find in the scope when the original is to match as it was included."""

    def matches(self, scope: Scope) -> bool:
        """Whether it would handle the request, whoever wrote its `matches`."""
        scope = dict(scope)
        if self.context is not None:
            scope["fastapi"] = {_CONTEXT: self.context}
        match, _ = self.original.matches(scope)
        return match is Match.FULL


def sights(routes: Sequence[BaseRoute]) -> Iterator[Sight]:
    """The routes in the order in which they are tried, included ones in their place.

    FastAPI before `iter_route_contexts` copied the routes of an included router: there the plain list is enough.
    """
    contexts = getattr(routing, "iter_route_contexts", None)
    if contexts is None:  # pragma: no cover - see above
        yield from (Sight(route, route) for route in routes)
        return
    for seen in contexts(routes):
        context = seen._route_context  # noqa: SLF001 - nothing public tells whether a route was included
        if context is None:
            yield Sight(seen.route, seen.route)
        elif context.starlette_route is not None:
            yield Sight(context.starlette_route, context.starlette_route)
        else:
            yield Sight(context.original_route, context, context)


def overridden(dependant: Dependant, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Dependant:
    """What takes the place of a dependency, as `solve_dependencies` decides it."""
    call = overrides.get(dependant.call, dependant.call) if dependant.call is not None else None
    if call is None or call is dependant.call:
        return dependant
    return get_dependant(path=dependant.path or "", call=call, name=dependant.name, scope=dependant.scope)


def params(dependant: Dependant, where: str) -> list[tuple[str, FieldInfo]]:
    """Names and declarations of the `path`, `query`, `header` or `cookie` parameters of a dependant itself."""
    return [(field.name, field.field_info) for field in getattr(dependant, f"{where}_params")]


def cookie_lookup() -> tuple[frozenset[CodeType], frozenset[CodeType]]:
    """The code that looks the cookies up for every route, and the code which that goes through."""
    cookies: Any = HTTPConnection.cookies
    through = [getattr(Headers, name) for name in ("get", "getlist", "__getitem__", "__contains__")]
    return _codes([solve_dependencies.__code__]), _codes([one.__code__ for one in (cookies.fget, *through)])


def check() -> None:
    """Try it all.

    Raises:
        ConfigurationError: This FastAPI lacks something.
    """
    try:
        wrong = _tried()
    except Exception as error:
        raise ConfigurationError(_ADVICE.format(repr(error))) from error
    if wrong:
        raise ConfigurationError(_ADVICE.format(wrong))


def _codes(codes: Iterable[CodeType]) -> frozenset[CodeType]:
    """With those of the functions and comprehensions inside."""
    found: set[CodeType] = set()
    for code in codes:
        found |= {code, *_codes(inner for inner in code.co_consts if isinstance(inner, CodeType))}
    return frozenset(found)


def _inner(x_probe: Annotated[str | None, Header()] = None) -> str | None:
    return x_probe


def _other(request: Request) -> Request:
    return request


async def _probe(one: int, inner: Annotated[str, Depends(_inner)]) -> None: ...


def _tried() -> str:
    router = APIRouter()
    router.add_api_route("/probe/{one}", _probe)
    outer = APIRouter()
    outer.include_router(router, prefix="/outer")
    seen = list(sights(outer.routes))
    if [sight.effective.path_format for sight in seen] != ["/outer/probe/{one}"]:
        return "an included route is not found under its prefix"
    sight = seen[0]
    scope: Scope = {"type": "http", "method": "GET", "path": "/outer/probe/1", "headers": []}
    if not sight.matches(scope) or sight.effective.path_regex.match(get_route_path(scope)) is None:
        return "an included route does not match"
    tree = sight.effective.dependant
    if params(tree, "path")[0][0] != "one" or params(tree.dependencies[0], "header")[0][1].alias != "x-probe":
        return "a dependant does not list its parameters"
    if overridden(tree.dependencies[0], {_inner: _other}).request_param_name != "request":
        return "a dependency is not overridden"
    return ""
