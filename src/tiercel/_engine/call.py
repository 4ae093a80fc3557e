"""One request on its way through the cache, and the application that can answer it."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from tiercel._core import keys, rfc9111
from tiercel._core.entry import Entry, Head, Header, Headers, Request
from tiercel._core.headers import encoded
from tiercel._core.plan import RouteRules
from tiercel._core.policy import Rules
from tiercel._core.status import CacheStatus
from tiercel._engine import fitting
from tiercel._engine.engine import Engine
from tiercel._engine.flights import Message
from tiercel._engine.observed import Watch

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CREDENTIALS = b"authorization"


class Visitor(Protocol):
    """Who wants to know what becomes of a call."""

    def begun(self, fill: Any) -> None:  # noqa: ANN401 - a `Fill`, which knows of calls
        """The application is asked, for the first time or once more."""
        ...

    async def answered(self) -> None:
        """The application has given the head of its answer. Nobody has seen it yet."""
        ...

    async def ended(self) -> None:
        """The application has returned."""
        ...

    def forget(self) -> None:
        """Nothing more is to be expected of it."""
        ...


class Call(NamedTuple):
    """What is known of it. A tuple, because one is made for every request that is not answered at once."""

    engine: Engine
    app: Application
    scope: Scope
    receive: Receive
    send: Send
    request: Request
    route: RouteRules
    rules: Rules
    visitor: Visitor
    watch: Watch | None
    """Records which request fields the application looks up; None where only Vary counts."""
    credentials: bool = False
    """Whether the request has an Authorization field."""
    since: float = 0.0
    """When it came, by the monotonic clock."""
    keeps_range: bool = False
    """Whether the application is asked for the range that the client asked for, rather than for everything."""
    shadow: bool = False
    """Whether the application always answers, and the cache only says what it would have done."""

    def forwarded(self, fill: rfc9111.Fill) -> list[Header]:
        """The request fields that the application sees."""
        sent = rfc9111.forwarded(self.request, fill, keep_range=self.keeps_range)
        return sent if self.watch is None else self.watch.headers(sent)

    def asked(self, fill: rfc9111.Fill, *, born: int, at: float) -> rfc9111.Asked:
        """What the application is asked, as its answer is judged by it."""
        route = self.route
        return rfc9111.Asked(
            request=self.request,
            entry=fill.entry,
            born=born,
            asked_at=at,
            policy=route.policy,
            rules=self.rules,
            declared=route.declared,
            guarded=route.private,
            keyed=route.keyed | route.credentials,  # of these the key holds every line: `Guard`
            observed=route.selecting,
        )

    @property
    def selecting(self) -> frozenset[bytes]:
        """The request fields that are declared to select."""
        return (self.route.selecting | encoded(self.route.policy.vary)) - self.route.keyed

    def names(self, stored: Sequence[Entry]) -> frozenset[bytes]:
        """The request fields that select, as far as is known."""
        return self.selecting.union([name for entry in stored for name, _ in entry.selecting])

    def lane(self, key: bytes) -> bytes:
        """Where fills for this request are found. What answers credentials is seldom for others: it is kept apart."""
        if not self.credentials or self.route.private or CREDENTIALS in self.route.keyed:
            return key
        return key + CREDENTIALS

    def marked(self, message: Message, status: CacheStatus, asked: rfc9111.Asked | None = None) -> Message:
        """The start of a response that is not for the cache, with all that the outside has to know of it."""
        line = (b"cache-status", status.render())
        if not self.route.declared:
            return {**message, "headers": [*message.get("headers", ()), line]}
        head = Head(status=message["status"], headers=fitting.plain(message.get("headers", ())))
        names = rfc9111.selecting_names(asked, head.headers) - keys.NEVER_SELECTING if asked else ()
        blind = self.watch is not None and self.watch.blind
        worn = fitting.worn(head, self.route, names=sorted(names), private=blind)
        return {**message, "headers": [*worn.headers, line]}


async def after_request(receive: Receive) -> Message:
    """What the server says once it has handed over the request: that the client has gone."""
    message = await receive()
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
    return await receive() if message["type"] == "http.request" else message


def request_of(scope: Scope, headers: Headers, content: bytes) -> Request:
    """What decisions may know of a request."""
    path = scope.get("raw_path") or quote(scope["path"], errors="surrogatepass").encode()
    query = scope.get("query_string", b"")
    hosts = [value for name, value in headers if name == b"host"]
    authority = hosts[0] if hosts else server_of(scope)
    target = path + b"?" + query if query else path
    return Request(scope["method"], scope.get("scheme", "http"), authority, target, headers, content)


def server_of(scope: Scope) -> bytes:
    """Who was asked, where the request does not say: HTTP/1.0."""
    server = scope.get("server")
    return b"" if server is None else b"%b:%d" % (str(server[0]).encode("utf-8", "replace"), server[1] or 0)
