"""What Prometheus is told: requests by route, what the cache did, connections to the database.

Labels are words that we have written: the template of a route and never its path, reasons, classes of errors. So there
are as many time series as the program is large, whoever asks for what.

Each worker counts for itself, and a scrape reaches any one of them. So for several workers of one host the variable
`PROMETHEUS_MULTIPROC_DIR` names a directory, empty at the start, where they count together: each then speaks for all.
"""

import os
from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from hmac import compare_digest
from ipaddress import ip_address
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import iter_route_contexts
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.event import listen
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from storefront.settings import Settings
from tiercel import CacheStatus
from tiercel.spi import Answered, Discarded, Event, Failed, Invalidated, Stored, Unreadable

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds. A hit is in the first ones."""

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Who has sent one of these came through a proxy; that one is near does not mean that the client is."""


class Metrics:
    """The counters of one application; an observer of its cache."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._together = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._requests = self._counter("http_requests", "Requests answered", "method", "route", "status")
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "From the first byte asked to the last byte answered",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._answers = self._counter("cache_answers", "Answers, by what was asked for", "of", "result")
        self._forwarded = self._counter("cache_forwarded", "Why it was no hit: RFC 9211, fwd", "route", "reason")
        self._stored = self._counter("cache_stored", "Responses and values stored")
        self._stored_bytes = self._counter("cache_stored_bytes", "Their size")
        self._discarded = self._counter("cache_discarded", "Answers that were not stored, and why", "reason")
        self._invalidations = self._counter("cache_invalidations", "Invalidations", "kind")
        self._failures = self._counter("cache_failures", "What went wrong and nobody was told of", "error")
        self._unreadable = self._counter("cache_unreadable", "Entries of a store that could not be read")
        self._connections = Gauge(
            "database_connections",
            "Connections to the database",
            ("state",),
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, registry=self._registry)

    # -- what is told ------------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Count what the cache did."""
        match event:
            case Answered(key=of, result=result):
                self._answers.labels(of, result).inc()
            case Stored(weight=weight):
                self._stored.inc()
                self._stored_bytes.inc(weight)
            case Discarded(reason=reason):
                self._discarded.labels(reason).inc()
            case Invalidated(soft=soft):
                self._invalidations.labels("soft" if soft else "hard").inc()
            case Failed(error=error):
                self._failures.labels(type(error).__name__).inc()
            case Unreadable():
                self._unreadable.inc()

    def answered(self, method: str, route: str, status: int, seconds: float, cache_status: str) -> None:
        """Count one request."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
        for one in CacheStatus.parse(cache_status) if cache_status else ():
            if one.cache == "tiercel" and one.fwd is not None:
                self._forwarded.labels(route, one.fwd).inc()

    def watch(self, engine: Engine, *, pool: int) -> None:
        """Count the connections of an engine: open ones, those in use, and how many there may be."""
        opened, used = self._connections.labels("open"), self._connections.labels("in_use")
        self._connections.labels("at_most").set(pool)
        for name, gauge, by in (
            ("connect", opened, 1),
            ("close", opened, -1),
            ("checkout", used, 1),
            ("checkin", used, -1),
        ):
            listen(engine, name, _adding(gauge, by))

    # -- what is asked -----------------------------------------------------------------------------------------------

    def shown(self) -> bytes:
        """Write all of it in the format of Prometheus."""
        registry = self._registry
        if self._together:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    async def aclose(self) -> None:
        """Take the connections of this process out of the sum; what it has counted stays."""
        if self._together:
            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]


class Measured:
    """Counts the requests of an application, refused ones included, and takes their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._metrics = metrics
        # By the path, not by what FastAPI has found: a hit is answered before it looks. Bounded, as paths are not.
        self._template = lru_cache(maxsize=4096)(_templates(routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, cache_status = perf_counter(), 500, ""

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status, cache_status
            if message["type"] == "http.response.start":
                status = message["status"]
                cache_status = Headers(raw=message["headers"]).get("cache-status", "")
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = self._template(scope["path"])
            self._metrics.answered(scope["method"], route, status, perf_counter() - began, cache_status)


def router(metrics: Metrics, settings: Settings) -> APIRouter:
    """Build the route of one application: for who has the token; without one, in `dev`, for this host alone."""
    routes = APIRouter()
    token, may_be_near = settings.metrics_token, settings.environment == "dev"

    @routes.get("/metrics", include_in_schema=False)
    def read_metrics(request: Request) -> Response:
        """Tell Prometheus."""
        _let_in(request, token, may_be_near=may_be_near)
        return Response(metrics.shown(), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})

    return routes


def _let_in(request: Request, token: SecretStr | None, *, may_be_near: bool) -> None:
    if token is not None:
        sent = request.headers.get("authorization", "").encode()
        if not compare_digest(sent, f"Bearer {token.get_secret_value()}".encode()):
            raise HTTPException(401, "this needs the token of the metrics", {"WWW-Authenticate": "Bearer"})
    # A proxy on this host need not say that it is one: where there may be one, who is near is not known.
    elif not (may_be_near and _is_near(request)):
        raise HTTPException(404, "Not Found")


def _is_near(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _templates(routes: Sequence[BaseRoute]) -> Callable[[str], str]:
    def template(path: str) -> str:
        for route in iter_route_contexts(routes):
            if route.path is not None and route.path_regex.match(path):
                return route.path
        return "none"

    return template


def _adding(gauge: Gauge, by: int) -> Callable[..., None]:
    def add(*_told: object) -> None:
        gauge.inc(by)

    return add
