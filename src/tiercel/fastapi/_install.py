"""Puts a cache into an application."""

import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, cast

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from tiercel._core.entry import Entry
from tiercel._core.policy import Policy, Rules
from tiercel._engine.explain import Surface
from tiercel._engine.guard import IDENTIFIED
from tiercel._engine.observed import Watch, plain
from tiercel.asgi import ASKED, FRONT, WATCH, Front, Gate
from tiercel.cache import Cache
from tiercel.errors import ConfigurationError, StoreError
from tiercel.fastapi._around import around, is_strange
from tiercel.fastapi._framework import check, cookie_lookup
from tiercel.fastapi._inject import CACHE
from tiercel.fastapi._openapi import describe
from tiercel.fastapi._plan import CACHEABLE
from tiercel.fastapi._routes import RouteTable
from tiercel.fastapi._walk import INSTALLED

_log = logging.getLogger("tiercel")
_IDENTITIES = frozenset({"auth", "session", "user"})
"""Where in a scope the middleware of Starlette says whose request it is."""


def install(  # noqa: PLR0913 - each is one decision of the operator's
    cache: Cache,
    app: FastAPI,
    *,
    mode: Literal["declared", "headers"] = "declared",
    default: Policy | None = None,
    obey_requests: bool = False,
    heuristic: bool = False,
    targets: Iterable[str] = (),
    shadow: bool = False,
) -> None:
    """Install a cache on an application; `Cache.install` says what the arguments mean.

    Raises:
        ConfigurationError: The application is none of FastAPI's, or has a cache or has started already; or an argument
            cannot work.
    """
    _check(cache, app, mode, default)
    check()
    table = RouteTable(
        app,
        engine=cache.engine,
        declarations=cache.declarations,
        default=(default or Policy()) if mode == "headers" else None,
        place=len(cache.surfaces),
        built=partial(_describe_all, app),
    )
    own, through = cookie_lookup()
    watch = partial(Watch, own=own, through=through)
    rules = Rules(obey_requests=obey_requests, heuristic=heuristic, targets=tuple(targets))
    front = Front(cache.engine, rules, partial(_enter, app, cache))
    app.add_middleware(Gate, engine=cache.engine, resolve=table, front=front, watch=watch, blank=_blank, shadow=shadow)
    setattr(app, INSTALLED, cache)
    if _is_plain(app):  # else nobody knows what it does before its middleware
        setattr(app, FRONT, front)
    cache.surfaces.append(Surface(app, front.resolving(table), lambda: front.rules))
    describe(app, table.cached)
    states: set[str] = set()
    _close_with(app, cache, table, states)
    _observe_outside(
        app, cache, table, front, watch, states, everything=default is not None and default.ttl is not None
    )


def _check(cache: Cache, app: object, mode: str, default: Policy | None) -> None:
    if not isinstance(app, FastAPI):
        raise ConfigurationError(
            f"cache.install takes a FastAPI application, not {type(app).__name__}. "
            "Any other ASGI application can be wrapped: CacheMiddleware(app, cache=cache)."
        )
    installed = getattr(app, INSTALLED, None)
    if installed is cache:
        raise ConfigurationError(f"The cache is installed on {app.title!r} already. Call cache.install(app) once.")
    if installed is not None:
        raise ConfigurationError(
            f"{app.title!r} has another cache already. Install one on an application; declare everything with that."
        )
    if app.middleware_stack is not None:
        raise ConfigurationError(
            f"{app.title!r} has started already. Call cache.install(app) where the application is made."
        )
    if mode not in {"declared", "headers"}:
        raise ConfigurationError(f"cache.install(mode={mode!r}) is unknown. Give 'declared' or 'headers'.")
    if mode == "declared" and default is not None:
        raise ConfigurationError(
            "cache.install(default=...) is for responses of routes without a declaration, which are stored only with "
            "mode='headers'. Add that, or leave `default` out."
        )


def _close_with(app: FastAPI, cache: Cache, table: RouteTable, states: set[str]) -> None:
    """Check what is declared before the first request, and close the cache after the last.

    `states` learns the names in the state that the application's own lifespan gives to every request.
    """
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncGenerator[Mapping[str, Any] | None]:
        table.version()
        try:
            await cache.open()
        except StoreError as error:
            cache.engine.misled("The application starts without its shared store", error, "It is tried again.")
        try:
            async with inner(started) as state:
                states.update(state or ())
                try:
                    yield state
                finally:
                    # What still runs behind its callers ends before the resources that it works with are closed.
                    await cache.aclose()
        finally:
            await cache.aclose()  # also where the application's own start has failed

    app.router.lifespan_context = cast("Lifespan[FastAPI]", lifespan)


def _describe_all(app: FastAPI, table: RouteTable) -> None:
    """Mounted applications, too; and again where the user has put a function of his own in the place of ours."""
    for described in [app, *(route.app for route in table.cached())]:
        if described is not None:
            describe(described, table.cached)


def _observe_outside(  # noqa: PLR0913, PLR0917 - what it is put together from
    app: FastAPI,
    cache: Cache,
    table: RouteTable,
    front: Front,
    watch: partial[Watch],
    states: set[str],
    *,
    everything: bool,
) -> None:
    """Stand outside of all middleware: what one reads there may decide what the application behind the gate answers."""
    build = app.build_middleware_stack
    built: list[ASGIApp] = []

    def build_observed() -> ASGIApp:
        if front.served:
            _lead(app, always=front.always)
        classes: list[object] = [middleware.cls for middleware in app.user_middleware]
        outside = classes[: classes.index(Gate)]
        first = not outside
        if outside and _unwatched not in outside:
            app.user_middleware.insert(len(outside), Middleware(_unwatched))
        stack = build()
        strange = around(app).strangers  # one may rewrite the path, and so decide which route it is

        async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CACHE] = cache
            if not _IDENTITIES.isdisjoint(scope) or not states.issuperset(scope.get("state") or ()):
                scope[IDENTIFIED] = True
            cacheable = outside and scope["type"] == "http" and scope["method"] in CACHEABLE
            if cacheable and (strange or everything or table.is_declared(scope)):
                scope[ASKED] = (scope["path"], scope.get("query_string", b""))
                scope[WATCH] = watch(scope["headers"])
                scope["headers"] = scope[WATCH].headers()
            await stack(scope, receive, send)

        built[:] = [outermost] if first else []
        return outermost

    front.leads = lambda: bool(built) and app.middleware_stack is built[0]
    app.__dict__["build_middleware_stack"] = build_observed


def _lead(app: FastAPI, *, always: bool) -> None:
    """Put the cache outside of all middleware, unless some of it may have to run for every request."""
    classes: list[object] = [middleware.cls for middleware in app.user_middleware]
    strangers = [one for one in classes[: classes.index(Gate)] if is_strange(one)]
    if strangers and not always:
        names = ", ".join([getattr(one, "__qualname__", repr(one)) for one in strangers])
        _log.warning(
            "%s stands outside of the cache, and may have to run for every request: hits are answered by the cache as "
            "ASGI middleware. If hits may pass it over, serve with --outermost. (Added before cache.install(app) it is "
            "passed over, too; but what it sets is then stored, and replayed by any other server.)",
            names,
        )
        return
    gate = app.user_middleware.pop(classes.index(Gate))
    app.user_middleware.insert(0, gate)


def _is_plain(app: FastAPI) -> bool:
    own = type(app).__call__ is FastAPI.__call__ and type(app).build_middleware_stack is FastAPI.build_middleware_stack
    return own and "build_middleware_stack" not in app.__dict__


def _enter(app: FastAPI, cache: Cache, scope: Scope) -> None:
    """As `FastAPI.__call__` does, and what stands outermost."""
    if app.root_path:
        scope["root_path"] = app.root_path
    scope["app"] = app
    scope[CACHE] = cache


def _blank(entry: Entry | None) -> Response:
    """A response for middleware and route classes inside, where a guarded route is answered from the cache."""
    if entry is None:
        return Response()
    response = Response(entry.body, entry.status)
    response.raw_headers = list(entry.headers)
    return response


def _unwatched(gate: ASGIApp) -> ASGIApp:
    """What the gate itself looks up decides nothing."""

    async def unwatched(scope: Scope, receive: Receive, send: Send) -> None:
        if WATCH in scope:
            scope["headers"] = plain(scope["headers"])
        await gate(scope, receive, send)

    return unwatched
