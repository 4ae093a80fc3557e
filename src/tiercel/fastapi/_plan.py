"""How requests to one declared route are keyed: what was declared, and what its tree reads, made one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction, signature
from typing import Any, cast

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.types import Scope

from tiercel._core import keys
from tiercel._core.plan import RouteRules, Target
from tiercel._core.policy import Policy
from tiercel._engine.endpoint import Declaration, yields
from tiercel._engine.guard import CLIENT
from tiercel._engine.observed import plain
from tiercel.asgi import ASKED
from tiercel.errors import ConfigurationError
from tiercel.fastapi._around import Around
from tiercel.fastapi._templates import check_template
from tiercel.fastapi._tree import Reads

CACHEABLE = frozenset({"GET", "HEAD", "QUERY"})

_Parts = list[bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Makes the primary key of requests to one route."""

    rules: RouteRules
    shape: bytes
    """Of what it answers with. Releases that differ in it share nothing."""
    query: tuple[str, ...] = ()
    whole_query: bool = False
    cookies: tuple[str, ...] = ()
    callables: tuple[Callable[[Any], object], ...] = ()

    def target(self, scope: Scope) -> Target:
        """Where the request is looked up.

        Raises:
            Exception: What `key` or `per` of the policy raises, or a TypeError where they return no string.
        """
        method = "QUERY" if scope["method"] == "QUERY" else "GET"  # HEAD shares: RFC 9111 §4
        parts: _Parts = [self.shape, _utf8(method), _utf8(scope.get("scheme", "http")), _host(scope)]
        # As FastAPI routes it: decoded, which is also what the route is given. A middleware may have rewritten it.
        parts += [_utf8(scope.get("root_path", "")), _utf8(scope["path"])]
        query: bytes = scope.get("query_string", b"")
        asked = scope.get(ASKED)
        if asked is not None and asked != (scope["path"], query):
            parts += [_utf8(asked[0]), asked[1]]  # whoever rewrote it may have kept what was taken out of it
        if self.whole_query:
            parts += [scope.get("raw_path"), query]
        elif self.query:
            parts += _values(self.query, query)
        if self.cookies:
            cookies = HTTPConnection({"type": "http", "headers": plain(scope["headers"])}).cookies
            parts += [None if name not in cookies else _utf8(cookies[name]) for name in self.cookies]
        for call in self.callables:
            parts += _said(call({**scope, "headers": plain(scope["headers"])}))
        return Target(self.rules, keys.primary(*parts))


def plan(  # noqa: PLR0913 - all that the key of a route follows from
    declaration: Declaration,
    policy: Policy,
    reads: Reads,
    *,
    label: str,
    shape: bytes,
    by_url: bool,
    around: Around = Around(),  # noqa: B008 - a tuple
) -> Plan:
    """Join a declaration with what the tree of its route reads.

    Raises:
        ConfigurationError: They do not go together.
    """
    where = named(label, declaration)
    _check(declaration, policy, reads, where)
    callables = [_over_request(call) for call in (policy.key, policy.per) if callable(call)]
    guarded = reads.guarded or not (callable(policy.per) or policy.per in {"auto", "shared"})
    selecting = reads.headers.union(name.encode() for name in policy.vary)
    rules = RouteRules(
        label=label,
        policy=policy,
        declared=True,
        guarded=guarded,
        # Caches outside us know neither what a callable finds nor which cookies are read.
        private=guarded or callable(policy.per) or bool(reads.cookies),
        credentials=reads.credentials if policy.per == "auto" else frozenset(),
        keyed=frozenset() if policy.per == "auto" else reads.credentials - selecting - {CLIENT},
        selecting=selecting,
        by_url=by_url and not callables and not reads.cookies,
        handlers=around.handlers,
        shape=shape.hex(),
    )
    return Plan(
        rules=rules,
        shape=shape,
        query=tuple(sorted(reads.query)),
        whole_query=reads.whole_query or around.strangers,
        cookies=tuple(sorted(reads.cookies)),
        callables=tuple(callables),
    )


def named(label: str, declaration: Declaration) -> str:
    """A route in an error message, with the function to look for."""
    endpoint = declaration.endpoint
    module, name = (getattr(endpoint, key, "") for key in ("__module__", "__qualname__"))
    return f"{label} ({module}.{name or endpoint!r})"


def arguments(declaration: Declaration) -> frozenset[str]:
    """The names that an endpoint is called with."""
    return frozenset(signature(declaration.endpoint).parameters)


def _check(declaration: Declaration, policy: Policy, reads: Reads, where: str) -> None:
    known = arguments(declaration)
    if not callable(policy.tags):
        for template in policy.tags:
            check_template(template, known, where)
    owner = policy.per
    if isinstance(owner, str) and owner not in {"auto", "shared"} and owner.partition(".")[0] not in known:
        raise ConfigurationError(
            f"per={owner!r} of {where} starts at {owner.partition('.')[0]!r}, which is no argument of the endpoint. "
            "Take what names the user as an argument (a dependency will do), or give `per` a callable over the request."
        )
    for name, call in (("per", owner), ("key", policy.key)):
        if iscoroutinefunction(call):
            raise ConfigurationError(
                f"`{name}` of {where} is `async def`, but a key is made before anything is awaited. Make it `def`; "
                "what has to be awaited belongs in a dependency, and `per` can name its value."
            )
    if reads.guarded and yields(declaration.endpoint):
        raise ConfigurationError(
            f"{where} yields its response, and its dependencies have to run before the cache is asked: that cannot be "
            "done around a generator. Return a StreamingResponse over the generator instead."
        )


def _over_request(call: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda scope: call(Request(scope))


def _said(value: object) -> Iterator[bytes]:
    given = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    yield b"%d" % len(given)
    for one in given:
        if not isinstance(one, str):
            raise TypeError(f"a key part is a string, not {type(one).__name__}: {one!r}")
        yield _utf8(one)


def _host(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"host":
            return bytes(value).lower()
    return b""


def _values(names: tuple[str, ...], query: bytes) -> Iterator[bytes]:
    """Each parameter with all its values, and how many: none is not one that is empty."""
    given: dict[str, list[str]] = {}
    for name, value in QueryParams(query).multi_items() if query else ():
        given.setdefault(name, []).append(value)
    for name in names:
        values = given.get(name, [])
        yield _utf8(name)
        yield b"%d" % len(values)
        yield from map(_utf8, values)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
