"""What is known about a request before it is looked up: which rules it falls under, and its primary key."""

from dataclasses import dataclass
from typing import NamedTuple

from tiercel._core.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRules:
    """What is declared, or read from the dependency tree, about one route. Static for the life of the application."""

    label: str
    """How people name the route: `GET /products/{product_id}`."""
    policy: Policy
    declared: bool
    """A route with `@cache.response`; else a response that RFC 9111 alone decides about."""
    guarded: bool = False
    """The dependencies run before the cache is asked."""
    private: bool = False
    """Keyed by identity: leaves us as `Cache-Control: private`."""
    credentials: frozenset[bytes] = frozenset()
    """Request fields that the tree takes identity from. Part of the key when guarded and `per="auto"`."""
    keyed: frozenset[bytes] = frozenset()
    """Request fields that the declaration accounts for: they select only where the response's own Vary names them."""
    selecting: frozenset[bytes] = frozenset()
    """Request fields that the route declares to read: they select, whether or not it reads them."""
    by_url: bool = True
    """The primary key follows from method, scheme, host, path and query alone, so it may be memoised."""
    handlers: bool = False
    """Code of the program's may answer where the endpoint raises; it has the whole request, and no key holds that."""
    shape: str = ""
    """Of what it answers with, hexadecimal: part of the primary key."""


class Target(NamedTuple):
    """Where a request is looked up."""

    rules: RouteRules
    primary: bytes
