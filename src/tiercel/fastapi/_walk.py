"""Reads the routes of an application: what each matches, and what is declared about it. Mistakes are found here."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Host, Mount, Route, WebSocketRoute

from tiercel._engine.endpoint import Declaration, declaration_of
from tiercel._engine.engine import Engine
from tiercel.errors import ConfigurationError
from tiercel.fastapi._around import Around
from tiercel.fastapi._framework import Sight, sights
from tiercel.fastapi._inject import installed_cache
from tiercel.fastapi._matching import Candidate, Candidates, Foreign, Hosted, Leaf, Mounted, any_path
from tiercel.fastapi._plan import CACHEABLE, Plan, arguments, named, plan
from tiercel.fastapi._shapes import shape_of
from tiercel.fastapi._templates import check_template
from tiercel.fastapi._tree import Reads, reads

INSTALLED = "__tiercel__"
"""The attribute of an application that has a cache of its own."""

_DEEP = 32


class Cached(NamedTuple):
    """A route with `@cache.response`."""

    app: FastAPI | None
    """The application whose OpenAPI document describes it."""
    path: str
    """As it stands there."""
    methods: frozenset[str]
    status_code: int | None
    plan: Plan


class Walk:
    """One reading of an application and of those mounted in it."""

    def __init__(self, engine: Engine) -> None:
        self.cached: list[Cached] = []
        self.lists: list[list[BaseRoute]] = []
        """What will be longer when a route has been added."""
        self.providers: dict[int, Any] = {}
        """Whose `dependency_overrides` were applied."""
        self.by_url = True
        """Whether all that was seen so far goes by the URL alone."""
        self._engine = engine
        self._matches_by_url = True
        self._bare: dict[int, str] = {}
        self._carried: set[int] = set()

    def candidates(
        self, routes: list[BaseRoute], *, app: FastAPI | None, around: Around, prefix: str = "", depth: int = 0
    ) -> Iterator[tuple[Callable[[str], object], Candidate]]:
        """Read routes in their order.

        Raises:
            ConfigurationError: What is declared for one cannot work.
        """
        self._watch(routes)
        for sight in sights(routes):
            matching = type(sight.original).matches
            if matching is Mount.matches or matching is Host.matches:
                candidate = self._application(sight, around=around, prefix=prefix, depth=depth + 1)
            elif not isinstance(sight.original, WebSocketRoute):
                candidate = self._route(sight, app=app, around=around, prefix=prefix)
            else:
                self._check_websocket(sight, prefix=prefix)
                continue
            by_path = isinstance(candidate, Leaf | Mounted)
            yield sight.effective.path_regex.match if by_path else any_path, candidate

    def check_order(self, declarations: Iterable[Declaration]) -> None:
        """See that what FastAPI calls is what was declared, not the function under it.

        Raises:
            ConfigurationError: A decorator of ours stands above the one of the route.
        """
        for declaration in declarations:
            label = self._bare.get(id(declaration.endpoint))
            if label is not None and id(declaration.endpoint) not in self._carried:
                ours = "@cache.response" if declaration.policy is not None else "@cache.invalidates"
                raise ConfigurationError(
                    f"{ours} stands above the decorator that makes {named(label, declaration)} a route: FastAPI never "
                    f"sees it there. Write it below: first @app.get(...) or the like, under it {ours}(...)."
                )

    # -- what is mounted ---------------------------------------------------------------------------------------------

    def _application(self, sight: Sight, *, around: Around, prefix: str, depth: int) -> Candidate:
        effective: Any = sight.effective
        inner = _routed(effective.app)
        hosted = isinstance(sight.original, Host)
        prefix = effective.host if hosted else prefix + effective.path
        children: Candidates = ()
        # One with a cache of its own is left to that.
        if inner is not None and depth < _DEEP and getattr(inner, INSTALLED, None) is None:
            shown = inner if isinstance(inner, FastAPI) else None
            inside = around.within(effective.app, inner)
            children = tuple(self.candidates(inner.routes, app=shown, around=inside, prefix=prefix, depth=depth))
        root_path = inner.root_path if isinstance(inner, FastAPI) else ""
        if hosted:
            return Hosted(effective, root_path, children)
        return Mounted(effective.path_regex.match, root_path, children)

    # -- a route -----------------------------------------------------------------------------------------------------

    def _route(self, sight: Sight, *, app: FastAPI | None, around: Around, prefix: str) -> Candidate:
        foreign = type(sight.original).matches not in {Route.matches, APIRoute.matches}
        if foreign:
            self.by_url = self._matches_by_url = False
        plain = not isinstance(sight.original, Route)
        planned = None if plain else self._plan(sight, app=app, around=around, prefix=prefix)
        if foreign:
            return Foreign(sight, planned)
        methods = sight.effective.methods
        return Leaf(None if methods is None else frozenset(methods), planned)

    def _plan(self, sight: Sight, *, app: FastAPI | None, around: Around, prefix: str) -> Plan | None:
        effective = sight.effective
        methods = frozenset[str](effective.methods or ())
        label = f"{'GET' if 'GET' in methods else min(methods, default='*')} {prefix}{effective.path_format}"
        declaration = declaration_of(effective.endpoint)
        if declaration is None:
            self._bare[id(effective.endpoint)] = label
            return None
        self._carried.add(id(declaration.endpoint))
        where = named(label, declaration)
        self._check(declaration, where, sight)
        if declaration.policy is None:
            return None
        if not methods & CACHEABLE:
            raise ConfigurationError(
                f"@cache.response on {where}: a response to {', '.join(sorted(methods))} cannot be stored. "
                "Cache a GET route; one that changes something can say what it changes, with @cache.invalidates(...)."
            )
        found = plan(
            declaration,
            declaration.policy,
            self._reads(sight),
            label=label,
            shape=self._shape(sight, declaration, where),
            by_url=self._matches_by_url,
            around=around,
        )
        self.by_url = self.by_url and not found.callables
        self.cached.append(Cached(app, effective.path_format, methods, effective.status_code, found))
        return found

    def _check(self, declaration: Declaration, where: str, sight: Sight) -> None:
        if declaration.engine is not self._engine:
            raise ConfigurationError(
                f"{where} is declared with another Cache than the one that is installed. Declare and install with one "
                "object: make it in a module of its own, and import it from there."
            )
        if not isinstance(sight.original, APIRoute):
            raise ConfigurationError(
                f"{where} is a route of Starlette, which does not say what it reads. Register it with @app.get, "
                "or install the cache with mode='headers' and let the response say that it may be stored."
            )
        for template in declaration.invalidates:
            check_template(template, arguments(declaration), where)

    def _check_websocket(self, sight: Sight, *, prefix: str) -> None:
        declaration = declaration_of(sight.effective.endpoint)
        if declaration is not None and declaration.policy is not None:
            raise ConfigurationError(
                f"@cache.response on {named(prefix + sight.effective.path, declaration)}: a WebSocket has no response "
                "that could be stored. Memoize what it sends, with @cache.memoize(...) on the function that makes it."
            )

    def _shape(self, sight: Sight, declaration: Declaration, where: str) -> bytes:
        def misled(error: Exception) -> None:
            self._engine.misled(f"the schema of what {where} answers with", error, "The class is known by its name.")

        return shape_of(sight.effective, declaration.endpoint, misled)

    def _reads(self, sight: Sight) -> Reads:
        provider = sight.effective.dependency_overrides_provider
        overrides = getattr(provider, "dependency_overrides", None)
        if overrides is not None:
            self.providers[id(provider)] = provider
        kind: Any = type(sight.original)
        # A class of the user's that wraps the handler has the request itself.
        wrapped = kind.get_route_handler is not APIRoute.get_route_handler or kind.handle is not APIRoute.handle
        return reads(sight.effective.dependant, overrides or {}, ignored=(installed_cache,), wrapped=wrapped)

    def _watch(self, routes: list[BaseRoute]) -> None:
        self.lists.append(routes)
        for route in routes:
            included: Any = getattr(route, "original_router", None)
            if included is not None:
                self._watch(included.routes)


def _routed(app: object) -> Any:  # noqa: ANN401 - Starlette, Router, or what quacks like them
    """The application with routes that is called in the end, under what is wrapped around it."""
    for _ in range(_DEEP):
        if isinstance(getattr(app, "routes", None), list):
            return app
        app = getattr(app, "app", None)
    return None
