"""The cache as ASGI middleware."""

import asyncio
import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from drive import FRESH, Client, Message, Origin, Say, Scope, Send, Shop, Visit, turns
from hypothesis import given
from hypothesis import strategies as st
from wire import through

from tiercel._core.entry import Entry, Header
from tiercel._core.plan import RouteRules, Target
from tiercel._core.policy import Policy, Rules
from tiercel._engine import endpoint
from tiercel._engine.endpoint import declare
from tiercel._engine.fills import Fill
from tiercel._engine.flights import Flight
from tiercel._engine.observed import Watch
from tiercel.asgi import CONTENT, PLACE_LENGTH, PLACES, CacheMiddleware, Gate
from tiercel.testing import run_virtual

pytestmark = pytest.mark.usefixtures("road")


def here(_: Scope) -> Say:
    return Say()


# -- what is not HTTP ------------------------------------------------------------------------------------------------


@pytest.mark.called  # of no HTTP request
@pytest.mark.parametrize("kind", ["websocket", "lifespan", "webtransport"])
async def test_whatever_is_no_http_request_passes_untouched(kind: str) -> None:
    seen: list[object] = []

    async def app(*call: object) -> None:
        seen.extend(call)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None: ...

    shop = Shop()
    shop.app.app = app
    scope: Scope = {"type": kind}
    await shop.app(scope, receive, send)
    assert seen == [scope, receive, send]
    assert seen[0] is scope


async def test_what_no_resolver_knows_passes_untouched() -> None:
    shop = Shop()
    shop.app._resolve = Resolver(lambda _: None)
    visit = await shop.get("/", (b"if-none-match", b'"1"'))
    assert visit.headers == [FRESH]
    assert (b"if-none-match", b'"1"') in shop.origin.asked[0]["headers"]


# -- the shortest way ------------------------------------------------------------------------------------------------


async def test_the_shortest_way_and_the_long_one_say_the_same() -> None:
    """A field that changes nothing sends a request the long way round."""
    shop = Shop(Say(headers=[FRESH, (b"x", b"1")]))
    await shop.get()
    for _ in range(5):
        await asyncio.sleep(7.3)
        short, long = await shop.get(), await shop.get("/", (b"cache-control", b"max-stale"))
        assert (short.status, short.headers, short.body) == (long.status, long.headers, long.body)
    assert shop.counts["hits"] == 10


@pytest.mark.called  # it is the server that changes them
async def test_what_a_server_does_to_the_headers_of_a_hit_changes_no_other() -> None:
    shop = Shop()
    await shop.get()
    for _ in range(2):
        visit = await shop.get()
        start = visit.messages[0]
        assert len(start["headers"]) == 4
        start["headers"].append((b"server", b"x"))


async def test_the_shortest_way_ends_with_freshness() -> None:
    shop = Shop()
    await shop.get()
    await asyncio.sleep(59.5)
    assert (await shop.get()).said == "hit"
    await asyncio.sleep(0.5)
    assert (await shop.get()).said == "fwd=stale; stored; detail=expired"


# -- places ----------------------------------------------------------------------------------------------------------


class Resolver:
    """Asked, and counted."""

    def __init__(self, target: Callable[[Scope], Target | None]) -> None:
        self.target = target
        self.by_url = True
        self.asked = 0
        self.state: object = 1

    def __call__(self, scope: Scope) -> Target | None:
        self.asked += 1
        return self.target(scope)

    def may_store(self, scope: Any) -> bool:
        return True

    def version(self) -> object:
        return self.state


def resolving(target: Callable[[Scope], Target | None]) -> tuple[Shop, Resolver]:
    shop, resolver = Shop(), Resolver(target)
    shop.app._resolve, shop.app.version = resolver, resolver.version
    return shop, resolver


RULES = RouteRules(label="*", policy=Policy(), declared=False)


@pytest.mark.called  # scopes that no server makes
@pytest.mark.parametrize("target", [Target(RULES, b"key"), None])
async def test_where_a_request_is_looked_up_is_remembered_by_the_place_it_asks_for(target: Target | None) -> None:
    shop, resolver = resolving(lambda _: target)
    for _ in range(3):
        await bare(shop.app, raw_path=b"/")
    assert resolver.asked == 1
    for different in (
        {"path": "/c"},
        {"raw_path": b"/c"},
        {"query_string": b"c"},
        {"scheme": "https"},
        {"root_path": "/c"},
        {"headers": [(b"host", b"c")]},
        {"server": ("c", 80)},
        {"method": "HEAD"},
    ):
        before = resolver.asked
        await bare(shop.app, **{"raw_path": b"/", **different})
        assert resolver.asked == before + 1, different


@pytest.mark.called  # a server asks first whether it can answer itself: how often is another number
async def test_nothing_is_remembered_that_follows_from_more_than_the_place() -> None:
    by_header = RouteRules(label="*", policy=Policy(), declared=False, by_url=False)
    shop, resolver = resolving(lambda _: Target(by_header, b"key"))
    for _ in range(3):
        await shop.get()
    assert resolver.asked == 3
    shop, resolver = resolving(lambda _: None)
    resolver.by_url = False
    for _ in range(3):
        await shop.get()
    assert resolver.asked == 3


async def test_what_is_remembered_is_forgotten_when_the_routes_change() -> None:
    shop, resolver = resolving(lambda _: Target(RULES, b"key"))
    await shop.get()
    resolver.state = 2
    await shop.get()
    assert resolver.asked == 2
    assert len(shop.app._places) == 1


@pytest.mark.called  # counted without a server
async def test_what_is_remembered_is_bounded_in_number_and_in_length() -> None:
    shop, resolver = resolving(lambda _: None)
    gate: Gate = shop.app
    for number in range(PLACES + 100):
        await shop.get(f"/{number}")
    assert len(gate._places) == PLACES
    before = resolver.asked
    await shop.get(f"/{PLACES + 99}")  # the oldest went, not the newest
    assert resolver.asked == before
    gate._places.clear()
    for long in (
        {"path": "/" * (PLACE_LENGTH + 1)},
        {"raw_path": b"/" * PLACE_LENGTH},
        {"query_string": b"x" * PLACE_LENGTH},
        {"method": "X"},
    ):
        await bare(gate, **long)
    await bare(gate, headers=[(b"host", b"x" * PLACE_LENGTH)])
    assert not gate._places


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.called  # a scope in which `path` is not that of `raw_path`
async def test_what_a_middleware_has_rewritten_is_another_resource() -> None:
    shop = Shop(lambda scope: Say(chunks=[scope["path"].encode()]))
    bodies = [(await shop.get("/page", path=path)).body for path in ("/en/page", "/de/page", "/en/page")]
    assert bodies == [b"/en/page", b"/de/page", b"/en/page"]
    assert shop.calls == 2


@pytest.mark.called  # scopes that no server makes
@pytest.mark.parametrize(
    "other",
    [
        {"headers": [(b"host", b"other")]},
        {"scheme": "https"},
        {"query_string": b"a=1"},
        {"path": "/b", "raw_path": b"/b"},
        {"raw_path": b"/%61"},
    ],
)
async def test_each_resource_has_its_own_responses(other: dict[str, Any]) -> None:
    shop = Shop()
    for scope in ({}, other):
        await bare(shop.app, **{"path": "/a", "raw_path": b"/a", **scope})
    assert shop.calls == 2


@pytest.mark.called  # for one of two servers
async def test_an_http_1_0_request_without_a_host_is_for_the_server_that_it_reached() -> None:
    shop = Shop(lambda scope: Say(chunks=[scope["server"][0].encode()]))
    for host in ("one", "two", "one"):
        assert (await bare(shop.app, server=(host, 80))).body == host.encode()
    assert shop.calls == 2


async def bare(app: Any, **scope: Any) -> Visit:
    """A request with nothing in its scope but what is given, and what ASGI requires."""
    visit = Visit()
    messages = [{"type": "http.request"}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        visit.messages.append(message)

    await through(app)({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send)
    return visit


# -- hostile requests ------------------------------------------------------------------------------------------------


@pytest.mark.called
async def test_a_scope_may_lack_all_that_asgi_leaves_open() -> None:
    shop = Shop()
    assert (await bare(shop.app)).body == b"hello"
    assert (await bare(shop.app)).said == "hit"
    assert (await bare(shop.app, raw_path=None, query_string=b"", root_path="", server=None)).said == "hit"
    assert (await bare(shop.app, server=("/run/socket", None))).body == b"hello"


async def test_two_hosts_are_not_for_the_cache_and_poison_nothing() -> None:
    """RFC 9112 §3.2: whoever reads the one would answer for the other."""
    shop = Shop(lambda scope: Say(chunks=[dict(scope["headers"])[b"host"]]))
    for hosts in ((b"evil", b"shop"), (b"shop", b"evil")):
        visit = await bare(shop.app, headers=[(b"host", host) for host in hosts])
        assert visit.said == "fwd=bypass; detail=several-hosts"
    assert (await bare(shop.app, headers=[(b"host", b"shop")])).body == b"shop"
    assert (await bare(shop.app, headers=[(b"host", b"evil")])).body == b"evil"


lines = st.tuples(
    st.one_of(
        st.sampled_from(
            [
                b"host",
                b"range",
                b"if-range",
                b"if-none-match",
                b"if-match",
                b"if-modified-since",
                b"cache-control",
                b"pragma",
                b"authorization",
                b"accept",
                b"accept-encoding",
                b"cookie",
                b"content-length",
                b"",
                b"transfer-encoding",
                b"connection",
            ]
        ),
        st.binary(max_size=8).map(bytes.lower),
    ),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"bytes=0-", b"bytes=-1", b"bytes=9-1", b"*", b'"', b"max-age=-1", b"\x00\r\n", b"\xff" * 9, b"9" * 99]
        ),
    ),
)


@pytest.mark.called  # what no parser lets through; tests/server has what arrives as bytes
@given(
    st.lists(st.lists(lines, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["GET", "HEAD", "QUERY", "POST", "", "get", "\udcff"]),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.sampled_from(
        [FRESH, (b"vary", b"accept, cookie"), (b"vary", b"*"), (b"etag", b'"1"'), (b"cache-control", b"\xff=\x00,")]
    ),
)
def test_no_request_makes_anything_raise_and_nothing_stored_is_lost(
    requests: list[list[Header]], method: str, path: str, query: bytes, said: Header
) -> None:
    async def play() -> None:
        shop = Shop(Say(headers=[FRESH, said]))
        await shop.get("/kept")
        for headers in requests:
            visit = await bare(shop.app, method=method, path="/" + path, query_string=query, headers=headers)
            assert 200 <= visit.status < 600
            assert visit.ended
        shop.origin.say = Say(status=500, headers=())
        assert (await shop.get("/kept")).said == (
            "fwd=uri-miss; detail=error-without-freshness" if said[1] == b"*" else "hit"
        )

    run_virtual(play())


@pytest.mark.parametrize("size", [100_000, 5_000_000])
async def test_absurd_lengths_get_an_answer(size: int, road: str) -> None:
    shop = Shop(Say(headers=[FRESH, (b"vary", b"accept-language")]))
    for more in (
        {"query_string": b"x" * size},
        {"path": "/" + "x" * size, "raw_path": b"/" + b"x" * size},
        {"headers": [(b"accept-language", b"," * size)]},
        {"headers": [(b"x" * size, b"x" * size)]},
        {"headers": [(b"host", b"x" * size)]},
        {"headers": [(b"x-%d" % number, b"") for number in range(size // 1000)]},
        {"headers": [(b"if-none-match", b'"x",' * (size // 4))]},
        {"headers": [(b"range", b"bytes=" + b"0-0," * (size // 4))]},
    ):
        visit = await bare(shop.app, **more)
        if road == "served" and "headers" not in more:
            assert visit.status == 400, "httptools reads no target of more than 65,535 bytes"
        else:
            assert visit.body in (b"hello", b"")
    assert shop.engine.tiers.memory.weight < 100_000


@pytest.mark.parametrize("headers", [[(b"x", b"\x00\r\nset-cookie: a=b")], [(b"x", b"\xff\xfe")], [(b"x", b"")]])
async def test_what_a_request_holds_never_reaches_a_response(headers: list[Header]) -> None:
    shop = Shop()
    shop.app._shadow = False
    for visit in (await shop.get("/", *headers), await shop.get("/", *headers)):
        assert not [value for _, value in visit.headers if headers[0][1] and headers[0][1] in value]


@pytest.mark.called
async def test_fields_in_lists_are_fields_all_the_same() -> None:
    """As some servers have them."""
    shop = Shop()
    for _ in range(2):
        visit = await bare(shop.app, headers=[[b"host", b"shop"], [b"range", b"bytes=0-1"]])
        assert (visit.status, visit.body) == (206, b"he")


# -- QUERY -----------------------------------------------------------------------------------------------------------


def echoing(content: list[bytes]) -> Any:
    async def app(scope: Scope, receive: Any, send: Send) -> None:
        received, more = b"", True
        while more:
            message = await receive()
            received += message.get("body", b"")
            more = message.get("more_body", False)
        content.append(received)
        await send({"type": "http.response.start", "status": 200, "headers": [FRESH]})
        await send({"type": "http.response.body", "body": received.upper()})

    return app


async def test_a_query_is_keyed_by_its_content() -> None:
    """RFC 10008 §2.7."""
    shop, content = Shop(), list[bytes]()
    shop.app.app = echoing(content)
    bodies = [(await shop.get(method="QUERY", content=asked)).body for asked in (b"a", b"b", b"a", b"")]
    assert bodies == [b"A", b"B", b"A", b""]
    assert content == [b"a", b"b", b""]
    typed = await shop.get("/", (b"content-type", b"x/y"), method="QUERY", content=b"a")
    assert typed.said == "fwd=uri-miss; stored"
    assert (await shop.get()).said == "fwd=uri-miss; stored"


async def test_a_query_that_is_too_long_for_a_key_is_passed_on_whole() -> None:
    shop, content = Shop(), list[bytes]()
    shop.app.app = echoing(content)
    visit = await shop.get(method="QUERY", content=b"a" * (CONTENT + 1))
    assert visit.said == "fwd=bypass; detail=content-too-long"
    assert content == [b"a" * (CONTENT + 1)]


@pytest.mark.called
async def test_a_query_in_pieces_is_put_together() -> None:
    shop, content = Shop(), list[bytes]()
    shop.app.app = echoing(content)
    pieces: list[Message] = [
        {"type": "http.request", "body": b"%d" % number, "more_body": number < 9} for number in range(10)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await shop.app({"type": "http", "method": "QUERY", "path": "/", "headers": []}, receive, send)
    assert content == [b"0123456789"]


@pytest.mark.called
async def test_a_query_that_breaks_off_is_nobodys_key() -> None:
    shop = Shop()
    heard: list[Message] = []
    pieces: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"abc", "more_body": True}]

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        heard.extend([await receive(), await receive()])

    async def receive() -> Message:
        return pieces.pop()

    async def send(_: Message) -> None: ...

    shop.app.app = app
    await shop.app({"type": "http", "method": "QUERY", "path": "/", "headers": []}, receive, send)
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]
    assert heard[0]["body"] == b"abc"
    assert len(shop.engine.tiers.memory) == 0


# -- declared routes -------------------------------------------------------------------------------------------------


def saying(say: Say) -> Callable[[Scope], Say]:
    """The same, whatever is asked."""
    return lambda _: say


def blank(_: Entry | None) -> object:
    """What an endpoint returns whose caller is answered otherwise."""
    return Say()


class Route:
    """An application with one declared route, in the way in which FastAPI has them."""

    def __init__(self, *, guarded: bool, **policy: Any) -> None:
        self.shop = Shop()
        self.calls = 0
        self.wait = 0.0
        self.answer: Callable[[Scope], Say] = here
        self.before: Callable[[Scope], Say | None] = lambda _: None
        self.after = 0.0

        async def endpoint() -> Say:
            self.calls += 1
            await asyncio.sleep(self.wait)
            return self.answer({})

        self.stand_in, declaration = declare(endpoint, engine=self.shop.engine, policy=Policy(ttl=60, **policy))
        assert declaration.policy is not None
        self.rules = RouteRules(
            label="GET /",
            policy=declaration.policy,
            declared=True,
            guarded=guarded,
            private=guarded,
            credentials=frozenset({b"authorization"}) if guarded else frozenset(),
            keyed=frozenset(),
        )
        gate: Gate = self.shop.app
        gate.app = self
        gate._resolve = Resolver(lambda _: Target(self.rules, b"primary"))
        gate._watch = Watch
        gate._blank = blank

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        say = self.before(scope)
        if say is None:
            say = await self.stand_in()
            self.answer(scope)
        await Origin(say)(scope, receive, send)
        await asyncio.sleep(self.after)

    async def get(self, user: bytes = b"ada", **more: Any) -> Visit:
        return await self.ask(user, **more).done()

    def ask(self, user: bytes = b"ada", **more: Any) -> Visit:
        return self.shop.ask(headers=[(b"authorization", user)], **more)


PLAIN = Say(headers=[(b"content-type", b"text/plain")])


async def test_a_guarded_route_is_computed_once_for_each_identity() -> None:
    route = Route(guarded=True)
    route.answer, route.wait = saying(PLAIN), 1.0
    visits = [route.ask(user) for user in (b"ada", b"bob") for _ in range(5)]
    for visit in visits:
        assert (await visit.done()).body == b"hello"
        assert visit.header(b"cache-control") == b"private, max-age=0, must-revalidate"
    assert route.calls == 2
    assert [visit.said.partition("; ")[2] for visit in visits] == (["stored"] + ["collapsed"] * 4) * 2
    again = await route.get(b"bob")
    assert again.said == "hit"
    await route.shop.at_rest()


async def test_who_is_turned_away_by_a_dependency_gets_its_answer_and_nothing_is_stored() -> None:
    route = Route(guarded=True)
    await route.get()
    route.before = lambda _: Say(status=401, headers=[(b"www-authenticate", b"Bearer")], chunks=[b"no"])
    visit = await route.get()
    assert (visit.status, visit.body, visit.said) == (401, b"no", "fwd=bypass; detail=not-asked")
    assert visit.header(b"cache-control") == b"private"
    assert route.shop.counts["bypassed"] == 1
    await route.shop.at_rest()


async def test_what_a_dependency_raises_reaches_the_server() -> None:
    route, error = Route(guarded=True), ValueError("no")

    def refuse(_: Scope) -> Say | None:
        raise error

    route.before = refuse
    assert await route.ask().failed() is error
    await route.shop.at_rest()


@pytest.mark.called  # by cancelling: a server does not end what a client has left
async def test_a_caller_that_leaves_before_its_dependencies_are_done_ends_them() -> None:
    route = Route(guarded=True)
    route.before = lambda _: Say(wait=100, headers=())
    visit = route.ask()
    await asyncio.sleep(1)
    assert visit.task is not None
    visit.task.cancel()
    await route.shop.at_rest()


async def test_a_caller_that_leaves_once_its_endpoint_runs_leaves_it_running() -> None:
    route = Route(guarded=True)
    route.wait = 10.0
    visit = route.ask()
    await asyncio.sleep(1)
    assert visit.task is not None
    visit.task.cancel()
    await asyncio.sleep(10)
    assert (await route.get()).said == "hit"
    assert route.calls == 1
    await route.shop.at_rest()


async def test_a_caller_that_leaves_while_it_waits_for_anothers_endpoint_harms_nobody() -> None:
    route = Route(guarded=True)
    route.wait = 10.0
    first, second = route.ask(), route.ask()
    await asyncio.sleep(1)
    assert second.task is not None
    second.task.cancel()
    assert (await first.done()).body == b"hello"
    await route.shop.at_rest()


async def test_a_guarded_answer_that_is_not_storable_is_for_its_caller() -> None:
    route = Route(guarded=True)
    route.answer, route.wait = saying(Say(headers=[(b"set-cookie", b"a=b")])), 1.0
    visits = [route.ask() for _ in range(3)]
    for visit in visits:
        assert (await visit.done()).header(b"set-cookie") == b"a=b"
        assert visit.said == "fwd=uri-miss; detail=set-cookie"
        assert (visit.header(b"cache-control") or b"").startswith(b"private")
    assert route.calls == 3
    assert max(visit.times[-1] for visit in visits) == 2.0
    await route.shop.at_rest()


async def test_a_guarded_stale_response_is_served_while_its_own_endpoint_renews_it() -> None:
    route = Route(guarded=True, stale_while_revalidate=100)
    await route.get()
    await asyncio.sleep(70)
    route.answer, route.wait = saying(Say(headers=(), chunks=[b"new"])), 1.0
    stale = route.ask()
    await turns(50)
    assert (stale.body, stale.said) == (b"hello", "hit")
    await asyncio.sleep(2)
    assert (await route.get()).body == b"new"
    assert route.calls == 2
    await route.shop.at_rest()


async def test_the_body_of_a_guarded_refresh_that_is_not_stored_goes_nowhere() -> None:
    route = Route(guarded=True, stale_while_revalidate=100)
    await route.get()
    await asyncio.sleep(70)
    route.answer = lambda _: Say(headers=[(b"set-cookie", b"a=b")], chunks=iter(lambda: b"x", b""), pace=1)
    visit = route.ask()
    await asyncio.sleep(60)
    assert (visit.body, visit.said) == (b"hello", "hit")
    assert visit.task is not None
    await visit.task
    await route.shop.at_rest()


async def test_what_is_not_for_the_cache_leaves_a_guarded_route_as_private() -> None:
    route = Route(guarded=True)
    visit = await route.shop.get("/", (b"authorization", b"ada"), (b"content-length", b"1"), content=b"x")
    assert visit.said == "fwd=bypass; detail=request-content"
    assert (visit.header(b"cache-control") or b"").startswith((b"private", FRESH[1]))


async def test_what_a_declared_route_reads_selects() -> None:
    route = Route(guarded=False)
    seen: list[bytes] = []

    def read(scope: Scope) -> Say:
        for name, value in scope.get("headers", ()):
            if name == b"x-tenant":
                seen.append(value)
        return Say(headers=(), chunks=[seen[-1] if seen else b""])

    route.before = read
    for tenant in (b"a", b"b", b"a", b"b"):
        assert (await route.shop.get("/", (b"x-tenant", tenant))).body == tenant
    assert seen == [b"a", b"b"]


async def test_what_a_declared_route_reads_while_its_body_grows_parts_those_who_read_it_together() -> None:
    route = Route(guarded=False)

    async def app(scope: Scope, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"for ", "more_body": True})
        await asyncio.sleep(1)
        name = next(value for name, value in scope["headers"] if name == b"x-name")
        await send({"type": "http.response.body", "body": name})

    route.shop.app.app = app
    ada, other, bob = (route.shop.ask(headers=[(b"x-name", name)]) for name in (b"ada", b"ada", b"bob"))
    assert (await ada.done()).body == b"for ada"
    assert (await other.done()).body == b"for ada"
    await asyncio.gather(bob.task, return_exceptions=True)  # type: ignore[arg-type]
    assert b"ada" not in bob.body
    assert not bob.ended
    assert (await route.shop.get("/", (b"x-name", b"bob"))).body == b"for bob"


@pytest.mark.called  # there is nothing outside
async def test_a_watch_that_stands_outside_is_not_disturbed_by_looking_for_the_way() -> None:
    route = Route(guarded=False)
    for _ in range(2):
        headers: list[Header] = [(b"host", b"shop"), (b"x", b"1")]
        watch = Watch(headers)
        await bare(route.shop.app, headers=watch.headers(), **{"tiercel.watch": watch})
        assert not watch.everything
    assert route.calls == 1


@pytest.mark.called
async def test_a_request_without_any_field_cannot_be_observed_and_is_private() -> None:
    route = Route(guarded=False)
    visit = await bare(route.shop.app)
    assert visit.said == "fwd=uri-miss; detail=unobservable"
    assert (visit.header(b"cache-control") or b"").startswith((b"private", FRESH[1]))
    assert route.calls == 1


@pytest.mark.parametrize("guarded", [True, False])
async def test_what_a_request_was_made_of_goes_with_it_without_a_collector(guarded: bool) -> None:  # noqa: FBT001
    route = Route(guarded=guarded)
    gc.collect()
    gc.disable()
    try:
        before = there(Flight | Fill | endpoint.Visit)
        for _ in range(3):  # a miss, and hits
            await route.get()
            await turns()
        left = [one for one in there(Flight | Fill | endpoint.Visit) if all(one is not other for other in before)]
    finally:
        gc.enable()
    assert left == []


def there(kind: Any) -> list[object]:
    """What the collector would look through."""
    return [one for one in gc.get_objects() if isinstance(one, kind)]


async def test_a_request_takes_as_long_as_what_its_application_does_after_the_answer() -> None:
    route = Route(guarded=True)
    route.after = 5.0
    visit = await route.get()
    assert visit.times[-1] == 0.0
    assert asyncio.get_running_loop().time() == 5.0


# -- CacheMiddleware -------------------------------------------------------------------------------------------------


def middleware(say: Say, **settings: Any) -> Client:
    shop = Shop()
    return Client(CacheMiddleware(Origin(say), cache=SimpleNamespace(engine=shop.engine, surfaces=[]), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "headers", "stored"),
    [
        ({}, [], False),
        ({}, [FRESH], True),
        ({"default": Policy(ttl=10)}, [], True),
        ({"heuristic": True}, [(b"last-modified", b"Fri, 01 Jan 2027 00:00:00 GMT")], True),
        ({}, [(b"last-modified", b"Fri, 01 Jan 2027 00:00:00 GMT")], False),
        (
            {"targets": ["CDN-Cache-Control"]},
            [(b"cdn-cache-control", b"max-age=60"), (b"cache-control", b"no-store")],
            True,
        ),
        ({}, [(b"cdn-cache-control", b"max-age=60"), (b"cache-control", b"no-store")], False),
    ],
)
async def test_the_middleware_stores_what_its_settings_permit(
    settings: dict[str, Any],
    headers: list[Header],
    stored: bool,  # noqa: FBT001
) -> None:
    client = middleware(Say(headers=headers), **settings)
    first, second = await client.get(), await client.get()
    assert (second.said == "hit") is stored
    assert [line for line in first.headers if line[0] in (b"cdn-cache-control", b"cache-control")] == [
        line for line in headers if line[0] in (b"cdn-cache-control", b"cache-control")
    ]


@pytest.mark.parametrize("obey", [True, False])
async def test_requests_are_obeyed_where_the_setting_says_so(obey: bool) -> None:  # noqa: FBT001
    client = middleware(Say(), obey_requests=obey)
    await client.get()
    visit = await client.get("/", (b"cache-control", b"no-cache"))
    assert visit.said == ("fwd=request; stored; detail=request-no-cache" if obey else "hit")


def test_rules_are_checked_when_it_is_made() -> None:
    assert Rules(targets=("CDN-Cache-Control",)).targets == ("cdn-cache-control",)
