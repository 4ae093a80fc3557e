"""The cache as ASGI middleware: from a scope to a request, and from a stored response to messages."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import unquote

from tiercel._core import coding, keys, rfc9111
from tiercel._core.entry import Head, Headers, Request
from tiercel._core.plan import RouteRules, Target
from tiercel._core.policy import Policy, Rules
from tiercel._core.status import CacheStatus
from tiercel._core.unsafe import SAFE
from tiercel._engine import observed
from tiercel._engine.approach import Approach
from tiercel._engine.call import CREDENTIALS, Application, Call, Receive, Scope, Send, request_of, server_of
from tiercel._engine.depot import Lease
from tiercel._engine.endpoint import Visit, current
from tiercel._engine.engine import Engine
from tiercel._engine.everywhere import Everywhere
from tiercel._engine.exchange import Pass, exchange, reply, seek
from tiercel._engine.explain import Surface
from tiercel._engine.fills import Fill
from tiercel._engine.fitting import plain
from tiercel._engine.flights import Flight, Message
from tiercel._engine.guard import Blank, Guard
from tiercel._engine.observed import Watch
from tiercel._engine.ready import METHODS, Glance, Ready, decided, glance, plainly
from tiercel._engine.shadow import shadow

if TYPE_CHECKING:
    from tiercel.cache import Cache

PLACES = 8192
"""Places (method, host, URL) whose target is remembered."""
PLACE_LENGTH = 1024
"""Bytes of a place; a longer one is worked out each time, lest hostile URLs fill the memory."""
CONTENT = 1 << 20
"""Bytes of QUERY content that are read for the key; a longer request is passed on."""
SERVED_SHARE = 16
"""1/16 of the bound of memory is for what a server keeps to answer in front."""
WATCH = "tiercel.watch"
"""Where in the scope the watch is of somebody who stands outside of us, and may have read fields already."""

ASKED = "tiercel.asked"
"""Where in the scope path and query stand as the client sent them, before middleware outside of us has seen them."""

_UNKNOWN = object()
_UNDECIDED = rfc9111.Fill(fwd="miss", entry=None)
"""What a request to a guarded route is until the cache is asked."""


class Resolver(Protocol):
    """Says where a request is looked up, if it is for the cache at all."""

    by_url: bool
    """Whether it follows from method and URL alone that a request is not for the cache."""

    def __call__(self, scope: Scope) -> Target | None:
        """Rules and primary key; None where it is not."""
        ...

    def may_store(self, scope: Scope) -> bool:
        """Whether any response to a request for this place can be for the cache."""
        ...

    def version(self) -> object:
        """Changes whenever the same scope may get another answer."""
        ...


FRONT = "__tiercel_front__"
"""The attribute of an application that says where a server may answer in front of it: a `Front`."""


class Front:
    """What a server has to know to answer in front of an application, and what it decides about the cache there."""

    def __init__(self, engine: Engine, rules: Rules, enter: Callable[[Scope], None] = lambda _: None) -> None:
        self.engine = engine
        self.rules = rules
        self.enter = enter
        """Does to a scope what the application does to it before its middleware."""
        self.gate: Gate | None = None
        """Once the application has started."""
        self.served = False
        """Whether a server answers here, which wants the cache to stand outside of all middleware."""
        self.always = False
        """Also of middleware that may have to run for every request."""
        self.leads: Callable[[], bool] = lambda: True
        """Whether requests reach the cache before anything else of the application."""
        self.lent = 0
        """Bytes of the bound of memory for what the server keeps."""
        self._mark: tuple[bytes, ...] = ()

    def serve(self, left_out: Iterable[str], *, always: bool = False) -> None:
        """Have the cache stand where the server answers; before the application starts.

        Args:
            left_out: Names of response fields that are not stored, because they tell of one response only.
            always: Also where middleware of the program's own stands outside of the cache.

        Raises:
            ConfigurationError: A field cannot be left out.
        """
        self.rules = replace(self.rules, left_out=tuple(left_out))
        if not self.served:
            self.lent = self.engine.tiers.lend(SERVED_SHARE)
        self.served, self.always = True, always
        self._mark = (b"served", *[name.encode() for name in self.rules.left_out])

    def placed(self, target: Target | None) -> Target | None:
        """Where it is looked up: what is stored here has other fields than what is stored behind the middleware."""
        if target is None or not self._mark:
            return target
        return target._replace(primary=keys.primary(target.primary, *self._mark))

    def resolving(self, resolve: "Resolver") -> Callable[[Scope], Target | None]:
        """What a resolver says, as it is looked up here."""

        def placed(scope: Scope) -> Target | None:
            return self.placed(resolve(scope))

        return placed


class Gate:
    """Answers from the cache what it can, and runs the application behind it for the rest."""

    def __init__(  # noqa: PLR0913 - what it is put together from
        self,
        app: Application,
        *,
        engine: Engine,
        resolve: Resolver,
        front: Front,
        watch: Callable[[Headers], Watch] | None = None,
        blank: Blank = lambda _: None,
        shadow: bool = False,
    ) -> None:
        self.app = app
        self.engine = engine
        engine.installed = True
        self._resolve = resolve
        self.version = resolve.version
        """Changes whenever the same request may be looked up elsewhere; raises ConfigurationError as the resolver."""
        self._front = front
        self._watch = watch
        self._blank = blank
        self._shadow = shadow
        self._places: dict[tuple[object, ...], Target | None] = {}
        self._version: object = None
        front.gate = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request, or whatever else a server asks of an application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = observed.plain(scope["headers"]) if WATCH in scope else scope["headers"]
        seen = glance(headers)
        target = self.target(scope, seen.host)
        if WATCH in scope:
            target = _told_apart(target, scope)
        if target is not None and seen.fit and scope["method"] in METHODS:
            if seen.plain and target.rules.guarded and not self._shadow:
                await self._guarded(target, scope, receive, send, seen, lambda: self.request(scope, headers))
                return
            ready = self.ready(target, seen, scope["method"], headers, lambda: self.request(scope, headers))
            if ready is not None:
                await send({"type": "http.response.start", "status": ready.status, "headers": ready.headers})
                await send({"type": "http.response.body", "body": ready.body})
                return
        await self._whole(target, scope, receive, send)

    def request(self, scope: Scope, headers: Headers, content: bytes = b"") -> Request:
        """What decisions, and the application behind, may know of a request."""
        return request_of(scope, self._negotiated(scope, headers), content)

    def _negotiated(self, scope: Scope, headers: Headers) -> Headers:
        """The fields with one spelling of all that accept the same content codings."""
        if self.engine.encoder is None or self._shadow or _has_shown_codings(scope):
            return headers
        return coding.canonical(headers)

    def ready(
        self, target: Target, seen: Glance, method: str, headers: Headers, request: Callable[[], Request]
    ) -> Ready | None:
        """The answer to a fit GET or HEAD, counted, where there is one that nothing has to be waited for."""
        if target.rules.guarded or self._shadow:
            return None
        return self._stored(target, seen, method, headers, request)

    def _stored(  # noqa: PLR0913, PLR0917 - all that the decision follows from
        self,
        target: Target,
        seen: Glance,
        method: str,
        headers: Headers,
        request: Callable[[], Request],
        began: float | None = None,
    ) -> Ready | None:
        engine, shelf = self.engine, self.engine.tiers.shelf(target.primary)
        if shelf is None:
            return None
        if seen.plain and method == "GET" and (ready := plainly(engine, target, shelf, headers, began)) is not None:
            return ready
        return decided(engine, target, shelf, request, self._front.rules, wishes=seen.wishes, began=began)

    async def _whole(self, target: Target | None, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole way, for all that is not answered on the shortest."""
        if target is None:
            await self._through(scope, receive, send)
        elif scope["method"] in rfc9111.CACHEABLE:
            await self._exchange(target, scope, receive, send)
        else:
            await self._through(scope, receive, send, CacheStatus(fwd="method"))

    def target(self, scope: Scope, host: bytes | None) -> Target | None:
        """Where a request is looked up; remembered where that follows from the place it asks for.

        Raises:
            ConfigurationError: The routes are declared in a way that cannot work.
        """
        resolve = self._resolve
        version = self.version()
        if version != self._version:
            self._places.clear()
            self._version = version
        raw, query = scope.get("raw_path"), scope.get("query_string", b"")
        # A middleware outside of us may have rewritten one of `path` and `raw_path`, and not the other.
        place = (
            scope["method"],
            scope.get("scheme"),
            host if host is not None else server_of(scope),
            scope.get("root_path"),
            scope["path"],
            raw,
            query,
            scope.get(ASKED),
        )
        found = self._places.get(place, _UNKNOWN)
        if found is not _UNKNOWN:
            return cast("Target | None", found)
        target = self._front.placed(resolve(scope))
        by_url = resolve.by_url if target is None else target.rules.by_url
        known = by_url and scope["method"] in {"GET", "HEAD"}  # of a QUERY fields and content are part of the key
        if known and len(raw or b"") + len(scope["path"]) + len(query) + len(host or b"") <= PLACE_LENGTH:
            if len(self._places) >= PLACES:
                del self._places[next(iter(self._places))]
            self._places[place] = target
        return target

    async def _exchange(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Look up, decide, carry it out."""
        headers = observed.plain(scope["headers"])
        content: bytes | None = b""
        if scope["method"] == "QUERY":
            content, receive = await _content(receive)
        request = self.request(scope, headers, content or b"")
        if content:  # RFC 10008 §2.7: the content, and what the request says of it, are part of the key
            target = target._replace(primary=keys.primary(target.primary, keys.of_request(request)))
        barred = _unfit(headers, content) or self._barred(request, target.rules)
        if target.rules.guarded and barred is None and not self._shadow:
            await self._guarded(target, scope, receive, send, glance(headers), lambda: request)
            return
        visit = Visit(self.engine, target.rules.policy)
        call = self._call(target, scope, receive, send, request=request, visit=visit, watch=self._watching(scope))
        token = current.set(visit)
        try:
            if barred is not None:
                await reply(call, Pass(reason=barred.reason, fwd=barred.fwd))
            elif self._shadow:
                await self._shadowed(call, target, visit)
            else:
                await exchange(call, target.primary)
            await visit.outlasted()
        finally:
            current.reset(token)

    def _call(  # noqa: PLR0913 - all that is known of it
        self,
        target: Target,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request: Request,
        visit: Visit,
        watch: Watch | None,
        since: float | None = None,
    ) -> Call:
        route, names = target.rules, [name for name, _ in request.headers]
        return Call(
            engine=self.engine,
            app=self.app,
            scope=scope,
            receive=receive,
            send=send,
            request=request,
            route=route,
            rules=self._front.rules,
            # A lifetime that the response does not give itself is no word on who may share it.
            watch=watch if route.declared or route.policy.ttl is not None else None,
            since=self.engine.clock.monotonic() if since is None else since,
            credentials=CREDENTIALS in names,
            keeps_range=not route.declared and b"range" in names,
            shadow=self._shadow,
            visitor=visit,
        )

    def _barred(self, request: Request, route: RouteRules) -> rfc9111.Bypass | None:
        """Why a request is not for the cache, where the application is to be run before the cache is asked."""
        if not route.guarded and not self._shadow:
            return None
        decision = rfc9111.on_request(request, (), 0.0, self._front.rules)
        return decision if isinstance(decision, rfc9111.Bypass) else None

    async def _guarded(  # noqa: PLR0913, PLR0917 - all that is known of it
        self,
        target: Target,
        scope: Scope,
        receive: Receive,
        send: Send,
        seen: Glance,
        request: Callable[[], Request],
    ) -> None:
        """Run the application up to the endpoint, which asks the cache; see `approach.Approach`."""
        engine, since = self.engine, self.engine.clock.monotonic()
        visit, watch = Visit(engine, target.rules.policy), self._watching(scope)
        headers = self._negotiated(scope, observed.plain(scope["headers"]))
        sent = headers if seen.plain else rfc9111.forwarded(request(), _UNDECIDED, keep_range=False)

        def call() -> Call:
            return self._call(target, scope, receive, send, request=request(), visit=visit, watch=watch, since=since)

        def look(found: Target) -> Ready | None:
            return self._stored(found, seen, scope["method"], headers, request, since)

        shown = {**scope, "headers": sent if watch is None else watch.headers(sent)}
        approach = Approach(self.app, shown, send, visit, call, look, target.primary)
        guard = Guard(target, engine, scope, headers, approach.fill, self._blank, approach.stored)
        await approach.answer(guard)

    async def _shadowed(self, call: Call, target: Target, visit: Visit) -> None:
        fill = Fill(call, key=target.primary, caller=False)

        def take_off(
            plan: rfc9111.Fill, /, *, alone: bool = False, behind: bool = False, lease: Lease | None = None
        ) -> Flight:
            del behind
            return fill.take_off(plan, target.primary, alone=alone, lease=lease)

        if target.rules.guarded:
            visit.guard = Guard(target, self.engine, call.scope, call.request.headers, lambda: fill, self._blank)
        else:
            await seek(call, target.primary, take_off)
        await shadow(call, fill)

    async def _through(self, scope: Scope, receive: Receive, send: Send, status: CacheStatus | None = None) -> None:
        """Not for the cache. But what it does may make stored responses invalid."""
        visit = Visit(self.engine)
        if self.engine.encoder is not None and any(name == b"if-match" for name, _ in scope["headers"]):
            scope = {**scope, "headers": coding.untagged(scope["headers"])}
        request = None if scope["method"] in SAFE else request_of(scope, observed.plain(scope["headers"]), b"")

        async def seeing(message: Message) -> None:
            if message["type"] == "http.response.start":
                if request is not None:
                    # RFC 9111 §4.4, before the client can know that it was done.
                    head = Head(status=message["status"], headers=plain(message.get("headers", ())))
                    visit.change(rfc9111.on_unsafe(request, head, partial(self._may_store, scope)))
                await visit.answered()
                if status is not None:
                    line = (b"cache-status", status.render())
                    message = {**message, "headers": [*message.get("headers", ()), line]}
            await send(message)

        token = current.set(visit)
        if status is not None:
            self.engine.counts.bypassed += 1
        try:
            await self.app(scope, receive, seeing)
        finally:
            current.reset(token)
            await visit.ended()

    def _may_store(self, scope: Scope, target: bytes) -> bool:
        path, _, query = target.partition(b"?")
        return self._resolve.may_store(
            {**scope, "path": unquote(path.decode("latin-1")), "raw_path": path, "query_string": query}
        )

    def _watching(self, scope: Scope) -> Watch | None:
        """The watch of whoever stands outside of us and may have read fields already, or our own."""
        outer = scope.get(WATCH)
        if isinstance(outer, Watch):
            return outer
        return self._watch(scope["headers"]) if self._watch is not None else None


def _told_apart(target: Target | None, scope: Scope) -> Target | None:
    """With what middleware outside of us has taken out of the request: it may have kept what was in it."""
    missing = () if target is None else scope[WATCH].missing(observed.plain(scope["headers"]))
    return target._replace(primary=keys.primary(target.primary, *missing)) if target is not None and missing else target


def _has_shown_codings(scope: Scope) -> bool:
    """Whether somebody outside of us has read Accept-Encoding as it was: what followed may depend on all of it."""
    watch = scope.get(WATCH)
    return isinstance(watch, Watch) and (watch.everything or b"accept-encoding" in watch.names)


def _unfit(headers: Headers, content: bytes | None) -> rfc9111.Bypass | None:
    """Requests that no key can hold."""
    if content is None:
        return rfc9111.Bypass("content-too-long")
    # RFC 9112 §3.2 forbids it. Whoever reads the last of them would answer for another host than the first.
    if [name for name, _ in headers].count(b"host") > 1:
        return rfc9111.Bypass("several-hosts")
    return None


async def _content(receive: Receive) -> tuple[bytes | None, Receive]:
    """The content of a request, None where it is too long to be a key, or breaks off; and where to receive it again."""
    content = bytearray()
    last: Message = {"more_body": True}
    while last.get("more_body") and len(content) <= CONTENT:
        last = await receive()
        content += last.get("body", b"")
    left = last["type"] == "http.disconnect"
    incomplete = left or last.get("more_body", False)
    read = {"type": "http.request", "body": bytes(content), "more_body": incomplete}
    waiting: list[Message] = [last, read] if left else [read]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return (None if incomplete or len(content) > CONTENT else bytes(content)), again


class CacheMiddleware:
    """A shared HTTP cache by RFC 9111 around any ASGI application: whatever its responses permit is stored.

    Args:
        app: The application.
        cache: Where responses are stored.
        default: For responses that say nothing of their freshness: a `ttl`, and windows for stale responses.
        obey_requests: Whether a request's own Cache-Control may ask the application for work (RFC 9111 §5.2.1).
            Off, because whoever can force misses can overload the application.
        heuristic: Whether a response with Last-Modified and no lifetime is given a tenth of its age (§4.2.2).
        targets: The targeted fields that mean this cache, such as `CDN-Cache-Control`; the most specific first (RFC
            9213).

    Raises:
        ConfigurationError: A policy or a target cannot work.

    Source:
        RFC 9111, RFC 5861, RFC 9211, RFC 9213, RFC 9875.

    Example:
        >>> from tiercel import Cache, CacheMiddleware
        >>> async def hello(scope, receive, send):
        ...     headers = [(b"cache-control", b"max-age=60")]
        ...     await send({"type": "http.response.start", "status": 200, "headers": headers})
        ...     await send({"type": "http.response.body", "body": b"hello"})
        >>> app = CacheMiddleware(hello, cache=Cache())
    """

    def __init__(  # noqa: PLR0913 - each is one decision of RFC 9111 that an operator may take otherwise
        self,
        app: Application,
        *,
        cache: "Cache",
        default: Policy | None = None,
        obey_requests: bool = False,
        heuristic: bool = False,
        targets: Iterable[str] = (),
    ) -> None:
        rules = Rules(obey_requests=obey_requests, heuristic=heuristic, targets=tuple(targets))
        resolve = Everywhere(default or Policy(), len(cache.surfaces))
        front = Front(cache.engine, rules)
        cache.surfaces.append(Surface(app, front.resolving(resolve), lambda: front.rules))
        if type(self).__call__ is CacheMiddleware.__call__:  # else nobody knows what it does before
            setattr(self, FRONT, front)
        self._gate = Gate(app, engine=cache.engine, resolve=resolve, front=front)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from the cache, or through the application."""
        await self._gate(scope, receive, send)
