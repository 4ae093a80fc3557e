"""Which route takes a request: decided without running any, in the order and by the rules of Starlette and FastAPI."""

from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.routing import Host, Match
from starlette.types import Scope

from tiercel.fastapi._framework import Sight, get_route_path
from tiercel.fastapi._plan import Plan


class Taken(NamedTuple):
    """A route takes the request; without a plan the cache has nothing to do with it."""

    plan: Plan | None


class Leaf(NamedTuple):
    """A route that answers."""

    methods: frozenset[str] | None
    plan: Plan | None

    def take(self, scope: Scope) -> Taken | None:
        if self.methods is None or scope["method"] in self.methods:
            return Taken(self.plan)
        return None


class Mounted(NamedTuple):
    """An application below a path. Once a request is in, no route outside is tried."""

    match: Callable[[str], object]
    root_path: str
    """Where the application says that it is mounted; empty when it does not."""
    children: "Candidates"

    def take(self, scope: Scope) -> Taken | None:
        route_path = get_route_path(scope)
        found: Any = self.match(route_path)
        root_path = scope.get("root_path", "") + route_path[: len(route_path) - len("/" + found["path"])]
        return find(self.children, {**scope, "root_path": self.root_path or root_path}) or Taken(None)


class Hosted(NamedTuple):
    """An application at a host name."""

    host: Host
    root_path: str
    children: "Candidates"

    def take(self, scope: Scope) -> Taken | None:
        match, _ = self.host.matches({"type": "http", "headers": scope["headers"]})
        if match is not Match.FULL:
            return None
        return find(self.children, {**scope, "root_path": self.root_path or scope.get("root_path", "")}) or Taken(None)


class Foreign(NamedTuple):
    """A route that decides in a way of its own what it takes, perhaps by header fields."""

    sight: Sight
    plan: Plan | None

    def take(self, scope: Scope) -> Taken | None:
        return Taken(self.plan) if self.sight.matches(scope) else None


Candidate = Leaf | Mounted | Hosted | Foreign
Candidates = tuple[tuple[Callable[[str], object], Candidate], ...]
"""What a path has to match, each, and what decides then. The first is most of the work."""


def any_path(path: str) -> object:
    """Match: what decides is not about the path."""
    return path


def find(candidates: Candidates, scope: Scope) -> Taken | None:
    """The first route that takes the request, as it stands in `scope`; None where none does."""
    route_path = get_route_path(scope)
    for match, candidate in candidates:
        if match(route_path) is not None:
            taken = candidate.take(scope)
            if taken is not None:
                return taken
    return None
