"""What stands around the whole application, its cache included: so none of this is ever stored with a response.

Plain ASGI, and around FastAPI rather than in its list of middleware: there even the answer 500 would go without it, and
the cache would have to suppose that it hands something on from the query string.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from storefront.problems import Problem
from storefront.settings import Settings
from storefront.throttle import Throttle, Throttled

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")
"""The request that is being answered, for the log."""

SENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
ACCEPTED = ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "If-Range", "Range", "X-Request-ID"]
SEEN = ["Age", "Cache-Status", "Content-Disposition", "Content-Range", "ETag"]
EXPOSED = [*SEEN, "Idempotent-Replayed", "Location", "Retry-After", "X-Request-ID"]
UPLOADS = re.compile(r"/api/v\d+/products/\d+/files(/[0-9a-f]{24})?")

_log = logging.getLogger("storefront.requests")


def around(app: ASGIApp, settings: Settings, throttle: Throttle) -> ASGIApp:
    """Put everything around an application; what is named last is outermost."""
    app = BodyLimited(app, limit=settings.body_limit, larger={UPLOADS: settings.upload_limit})
    app = Throttled(app, throttle, settings)
    app = CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=ACCEPTED,
        expose_headers=EXPOSED,
    )
    app = TrustedHostMiddleware(app, allowed_hosts=settings.allowed_hosts, www_redirect=False)
    app = Secured(app, https=settings.environment == "production")
    return Identified(app)


class Identified:
    """Gives each request an id, the client's own if it has sent one; logs it with the time that it took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if SENT_ID.fullmatch(sent) else secrets.token_hex(8)
        known = REQUEST_ID.set(request_id)
        began, status = perf_counter(), 500

        def told(start: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = start["status"]
            headers = MutableHeaders(scope=start)
            headers["X-Request-ID"] = request_id
            headers["Server-Timing"] = f"app;dur={(perf_counter() - began) * 1000:.1f}"

        try:
            await self._app(scope, receive, _at_start(send, told))
        finally:
            _log.info(
                "%s %s %s in %.1f ms",
                scope["method"],
                scope["path"],
                status,
                (perf_counter() - began) * 1000,
            )
            REQUEST_ID.reset(known)


class Secured:
    """Tells browsers to be careful with what they get."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._fields = {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-site",
            **({"Strict-Transport-Security": "max-age=31536000; includeSubDomains"} if https else {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        def told(start: MutableMapping[str, Any]) -> None:
            headers = MutableHeaders(scope=start)
            for name, value in self._fields.items():
                headers.setdefault(name, value)
            if scope["path"].startswith(("/api/", "/graphql")):
                # What is no page has nothing to load, wherever it is shown.
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

        await self._app(scope, receive, _at_start(send, told))


class BodyLimited:
    """Answers 413 to a request whose body is larger than `limit` bytes, whether or not it says so.

    For some paths it may be larger.
    """

    def __init__(self, app: ASGIApp, *, limit: int, larger: Mapping[re.Pattern[str], int] | None = None) -> None:
        self._app = app
        self._limit = limit
        self._larger = tuple((larger or {}).items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((most for paths, most in self._larger if paths.fullmatch(scope["path"])), self._limit)
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            await _refused(limit)(scope, receive, send)
            return
        body = _Body(limit, receive, send)
        with suppress(_TooLarge):
            await self._app(scope, body.receive, body.send)
        if body.too_large and not body.answered:
            await _refused(limit)(scope, receive, send)


def _refused(limit: int) -> Problem:
    return Problem(413, f"a body has at most {limit:,} bytes", headers={"Connection": "close"})


class _Body:
    """The body of one request, as it comes in."""

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self.answered = False
        self._left = limit
        self._receive = receive
        self._send = send

    @property
    def too_large(self) -> bool:
        return self._left < 0

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self.too_large:
            raise _TooLarge
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        # The application may have caught what was raised, and made an answer of its own of it.
        if self.answered or not self.too_large:
            self.answered = True
            await self._send(message)


class _TooLarge(Exception):  # noqa: N818 - never seen outside
    """More has come than is taken."""


def _at_start(
    send: Send, told: Callable[[MutableMapping[str, Any]], None]
) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    """Have `told` change the start of a response; it may be called for each start that there is."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            told(message)
        await send(message)

    return sending
