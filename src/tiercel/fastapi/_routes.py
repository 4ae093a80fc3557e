"""The routes of an application, and the one that a request falls under."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import Scope

from tiercel._core import keys
from tiercel._core.plan import Target
from tiercel._core.policy import Policy
from tiercel._engine.endpoint import Declaration
from tiercel._engine.engine import Engine
from tiercel._engine.everywhere import Everywhere, placed
from tiercel.fastapi._around import around
from tiercel.fastapi._matching import Candidates, find
from tiercel.fastapi._plan import CACHEABLE, Plan
from tiercel.fastapi._walk import Cached, Walk


class RouteTable:
    """Says where requests to an application are looked up.

    Args:
        app: The application.
        engine: Of the cache that is installed on it.
        declarations: All that was declared with that cache, also after the table was made.
        default: The policy of responses without a declaration, in `headers` mode; None in `declared` mode.
        place: The how manieth application it is that the cache is installed on.
        built: Told whenever the routes have been read.
    """

    def __init__(  # noqa: PLR0913 - what it is put together from
        self,
        app: FastAPI,
        *,
        engine: Engine,
        declarations: Iterable[Declaration],
        default: Policy | None = None,
        place: int = 0,
        built: "Callable[[RouteTable], None]" = lambda _: None,
    ) -> None:
        self.by_url = True
        """Whether it follows from its URL alone that a request is not for the cache."""
        self._app = app
        self._engine = engine
        self._declarations = declarations
        self._everywhere = None if default is None else Everywhere(default, place)
        self._place = place
        self._built = built
        self._cached: tuple[Cached, ...] = ()
        self._candidates: Candidates = ()
        self._lists: list[tuple[list[BaseRoute], int]] = []
        self._overrides: list[tuple[Any, dict[Any, Any]]] = []
        self._overridden = False
        self._version = 0

    def __call__(self, scope: Scope) -> Target | None:
        """Where the request is looked up; None where it is not for the cache.

        Raises:
            ConfigurationError: The routes have changed, and one of them is declared in a way that cannot work.
        """
        if scope["type"] != "http" or scope["method"] not in CACHEABLE:
            return None
        self.version()
        taken = find(self._candidates, scope)
        if taken is not None and taken.plan is not None:
            return self._target(taken.plan, scope)
        return None if self._everywhere is None else self._everywhere(scope)

    def may_store(self, scope: Scope) -> bool:
        """Whether a response to any method may be stored for this place. Errors as for the call."""
        return self._everywhere is not None or any(self.is_declared({**scope, "method": one}) for one in CACHEABLE)

    def is_declared(self, scope: Scope) -> bool:
        """Whether the request falls under a route with `@cache.response`. Errors as for the call."""
        if scope["type"] != "http" or scope["method"] not in CACHEABLE:
            return False
        self.version()
        taken = find(self._candidates, scope)
        return taken is not None and taken.plan is not None

    def cached(self) -> tuple[Cached, ...]:
        """The routes with `@cache.response`, in the order in which they are tried. Errors as for the call."""
        self.version()
        return self._cached

    def version(self) -> int:
        """Another number whenever routes were added, or dependencies overridden, since the last time.

        Raises:
            ConfigurationError: As for the call.
        """
        if self._changed():
            self._build()
        return self._version

    def _changed(self) -> bool:
        for routes, count in self._lists:
            if len(routes) != count:
                return True
        for provider, overrides in self._overrides:
            if provider.dependency_overrides != overrides:
                return True
        return not self._lists

    def _build(self) -> None:
        self._lists = []  # not built, should this fail
        walk = Walk(self._engine)
        routes = walk.candidates(self._app.router.routes, app=self._app, around=around(self._app))
        self._candidates = tuple(routes)
        walk.check_order(self._declarations)
        self._cached, self.by_url = tuple(walk.cached), walk.by_url
        self._overrides = [(provider, dict(provider.dependency_overrides)) for provider in walk.providers.values()]
        self._overridden = any(overrides for _, overrides in self._overrides)
        self._lists = [(routes, len(routes)) for routes in walk.lists]
        self._version += 1
        self._built(self)

    def _target(self, plan: Plan, scope: Scope) -> Target | None:
        try:
            target = placed(plan.target(scope), self._place)
        except Exception as error:  # noqa: BLE001 - of a callable of the user's; the request is answered all the same
            self._engine.misled(f"the key of {plan.rules.label}", error)
            return None
        if self._overridden:  # what was made with other dependencies in place is not what these would make
            return target._replace(primary=keys.primary(target.primary, b"overrides", b"%d" % self._version))
        return target
