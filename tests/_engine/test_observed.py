"""What is seen of how request fields are read."""

import copy
import pickle
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Annotated, Any, cast

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, Request
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tiercel._core.entry import Header as Field
from tiercel._core.keys import EVERY, HARMLESS
from tiercel._engine.observed import Watch, plain
from tiercel.fastapi._framework import cookie_lookup

FIELDS: list[Field] = [
    (b"host", b"shop"),
    (b"accept-encoding", b"gzip"),
    (b"cookie", b"session=1; theme=dark"),
    (b"x-user", b"ada"),
]

Scope = MutableMapping[str, Any]
Reading = Callable[[list[Field]], object]


def shown() -> tuple[Watch, list[Field]]:
    watch = Watch(FIELDS)
    return watch, watch.headers()


async def asked(app: Callable[[Scope, Any, Any], Awaitable[None]], fields: Iterable[Field] = FIELDS) -> Watch:
    """Answer one request, watched as a fill is."""
    own, through = cookie_lookup()
    watch = Watch(list(fields), own, through)
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "root_path": "",
        "query_string": b"",
        "headers": watch.headers(),
        "client": None,
        "server": None,
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        pass

    await app(scope, receive, send)
    return watch


LOOKED_UP: list[tuple[str, Reading, set[bytes]]] = [
    ("Headers.get", lambda fields: Headers(raw=fields).get("X-User"), {b"x-user"}),
    ("Headers.get of an absent field", lambda fields: Headers(raw=fields).get("x-tenant"), {b"x-tenant"}),
    ("Headers.__getitem__", lambda fields: Headers(raw=fields)["x-user"], {b"x-user"}),
    ("in Headers", lambda fields: "x-tenant" in Headers(raw=fields), {b"x-tenant"}),
    ("Headers.getlist", lambda fields: Headers(raw=fields).getlist("x-user"), {b"x-user"}),
    ("a copy of the list", lambda fields: Headers(raw=[*fields][:]).get("x-user"), {b"x-user"}),
    ("a deep copy", lambda fields: Headers(raw=copy.deepcopy(fields)).get("x-user"), {b"x-user"}),
    ("a shallow copy of each", lambda fields: [copy.copy(name) == b"x-user" for name, _ in fields], {b"x-user"}),
    ("a loop", lambda fields: [value for name, value in fields if name == b"x-user"], {b"x-user"}),
    ("a loop, turned round", lambda fields: [value for name, value in fields if b"x-user" == name], {b"x-user"}),  # noqa: SIM300
    ("a loop over inequality", lambda fields: [value for name, value in fields if name != b"x-user"], {b"x-user"}),
    ("lower", lambda fields: [value for name, value in fields if name.lower() == b"x-user"], {b"x-user"}),
    ("upper case asked for", lambda fields: [value for name, value in fields if name == b"X-User"], {b"x-user"}),
    ("a tuple", lambda fields: [name in (b"x-user", b"x-tenant") for name, _ in fields], {b"x-user", b"x-tenant"}),
    ("list.index", lambda fields: [name for name, _ in fields].index(cast("Any", b"x-user")), {b"x-user"}),
    ("a bytearray", lambda fields: [name == cast("bytes", bytearray(b"x-user")) for name, _ in fields], {b"x-user"}),
    ("a memoryview", lambda fields: [name == cast("bytes", memoryview(b"x-user")) for name, _ in fields], {b"x-user"}),
    ("a number", lambda fields: [cast("object", name) == 1 for name, _ in fields], set()),
    ("MutableHeaders.setdefault", lambda fields: MutableHeaders(raw=fields).setdefault("x-a", "1"), {b"x-a"}),
    ("plain names", lambda fields: dict(plain(fields)), set()),
    ("values only", lambda fields: [value for _, value in fields], set()),
]


@pytest.mark.parametrize(("reading", "names"), [pytest.param(*row[1:], id=row[0]) for row in LOOKED_UP])
def test_a_field_that_is_looked_up_is_observed_by_its_name(reading: Reading, names: set[bytes]) -> None:
    watch, fields = shown()
    reading(fields)
    assert watch.names == names
    assert not watch.everything
    assert watch.observed() == names


EVERYTHING: list[tuple[str, Reading]] = [
    ("dict of the list", dict),
    ("dict of Headers", lambda fields: dict(Headers(raw=fields))),
    ("Headers.items", lambda fields: Headers(raw=fields).items()),
    ("Headers.keys", lambda fields: Headers(raw=fields).keys()),
    ("a loop over Headers", lambda fields: list(Headers(raw=fields))),
    ("repr of Headers", lambda fields: repr(Headers(raw=fields))),
    ("a set", lambda fields: {name for name, _ in fields}),
    ("in a set", lambda fields: [name in {b"x-user", b"x-tenant"} for name, _ in fields]),
    ("sorted", sorted),
    ("decode", lambda fields: [name.decode() for name, _ in fields]),
    ("startswith", lambda fields: [name.startswith(b"x-") for name, _ in fields]),
    ("bytes", lambda fields: [bytes(name) for name, _ in fields]),
    ("str", lambda fields: [str(name) for name, _ in fields]),
    ("repr", repr),
    ("format", lambda fields: [f"{name!s}" for name, _ in fields]),
    ("iterating over a name", lambda fields: [list(name) for name, _ in fields]),
    ("a slice of a name", lambda fields: [name[:2] for name, _ in fields]),
    ("a byte of a name", lambda fields: [name[0] for name, _ in fields]),
    ("the length of a name", lambda fields: [len(name) for name, _ in fields]),
    ("the truth of a name", lambda fields: [bool(name) for name, _ in fields]),
    ("adding", lambda fields: [name + b"" for name, _ in fields]),
    ("adding from the left", lambda fields: [b"" + name for name, _ in fields]),
    ("upper", lambda fields: [name.upper() for name, _ in fields]),
    ("part of a name", lambda fields: [b"user" in name for name, _ in fields]),
    ("hex", lambda fields: [name.hex() for name, _ in fields]),
    ("pickle", pickle.dumps),
]


@pytest.mark.parametrize("reading", [pytest.param(row[1], id=row[0]) for row in EVERYTHING])
def test_whoever_may_have_read_any_field_has_read_all_of_them(reading: Reading) -> None:
    watch, fields = shown()
    reading(fields)
    assert watch.everything
    assert watch.observed() >= {EVERY, b"accept-encoding", b"cookie", b"x-user"}


def test_names_behave_as_the_bytes_they_are() -> None:
    _, fields = shown()
    assert dict(fields) == dict(FIELDS)
    assert sorted(fields) == sorted(FIELDS)
    assert pickle.loads(pickle.dumps(fields)) == FIELDS  # noqa: S301
    assert [type(name) for name, _ in pickle.loads(pickle.dumps(fields))] == [bytes] * len(FIELDS)  # noqa: S301
    assert all(isinstance(name, bytes) for name, _ in fields)
    assert Headers(raw=fields) == Headers(raw=FIELDS)


def test_plain_names_are_bytes_and_nothing_else() -> None:
    watch, fields = shown()
    assert [type(name) for name, _ in plain(fields)] == [bytes] * len(FIELDS)
    assert plain(fields) == FIELDS
    assert not watch.names
    assert plain(FIELDS) == FIELDS


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_a_harmless_field_selects_nothing_however_it_is_read(name: bytes) -> None:
    watch = Watch([(name, b"1"), (b"x-user", b"ada")])
    Headers(raw=watch.headers()).get(name.decode())
    assert watch.observed() == frozenset()
    dict(watch.headers())
    assert watch.observed() == {EVERY, b"x-user"}


def test_fields_that_were_put_in_the_place_of_the_clients_are_watched_as_well() -> None:
    watch = Watch(FIELDS)
    dict(watch.headers([(b"if-none-match", b'"1"'), (b"x-new", b"1")]))
    assert watch.observed() == {EVERY, b"x-new"}


def test_a_request_without_fields_leaves_the_watch_blind() -> None:
    watch = Watch([])
    Headers(raw=watch.headers()).get("x-user")
    assert watch.blind
    assert not Watch(FIELDS).blind


# -- whole applications ----------------------------------------------------------------------------------------------


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


class Fields(BaseModel):
    x_user: str


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        return AuthCredentials(), SimpleUser(conn.headers.get("authorization", "nobody"))


class Sessions:
    """Reads a session as Starlette's `SessionMiddleware` does, without the signature."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        connection: HTTPConnection = HTTPConnection(scope)
        scope["session"] = connection.cookies["session"] if "session" in connection.cookies else ""  # noqa: SIM401
        await self.app(scope, receive, send)


def starlette() -> Starlette:
    return Starlette(routes=[Route("/", hello)])


@pytest.mark.parametrize(
    ("middleware", "options", "names"),
    [
        (GZipMiddleware, {}, {b"accept-encoding"}),
        (CORSMiddleware, {"allow_origins": ["https://a"]}, {b"origin"}),
        (CORSMiddleware, {"allow_origins": ["*"]}, {b"origin"}),
        (Sessions, {}, {b"cookie"}),
        (AuthenticationMiddleware, {"backend": Backend()}, {b"authorization"}),
    ],
)
async def test_what_a_middleware_looks_up_is_observed(
    middleware: Any, options: dict[str, Any], names: set[bytes]
) -> None:
    app = starlette()
    app.add_middleware(middleware, **options)
    watch = await asked(app)
    assert watch.observed() == names
    assert not watch.everything


async def test_what_an_http_middleware_looks_up_is_observed() -> None:
    app = FastAPI()

    @app.middleware("http")
    async def tenant(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.tenant = request.headers.get("x-tenant")
        return await call_next(request)

    @app.get("/")
    async def read() -> int:
        return 1

    assert (await asked(app)).observed() == {b"x-tenant"}


@pytest.mark.parametrize("synchronous", [False, True])
async def test_fastapi_itself_looks_cookies_up_and_is_not_counted(synchronous: bool) -> None:  # noqa: FBT001
    app = FastAPI()

    def inner(x_user: Annotated[str, Header()]) -> str:
        return x_user

    if synchronous:

        @app.get("/")
        def read(user: Annotated[str, Depends(inner)]) -> str:
            return user
    else:

        @app.get("/")
        async def read_async(user: Annotated[str, Depends(inner)]) -> str:
            return user

    watch = await asked(app)
    assert watch.observed() == {b"x-user"}
    assert not watch.everything


async def test_a_header_model_is_given_every_field() -> None:
    app = FastAPI()

    @app.get("/")
    async def read(given: Annotated[Fields, Header()]) -> str:
        return given.x_user

    assert (await asked(app)).everything


async def test_a_declared_cookie_costs_no_lookup_of_the_apps_own_because_it_is_in_the_key() -> None:
    app = FastAPI()

    @app.get("/")
    async def read(theme: Annotated[str, Cookie()]) -> str:
        return theme

    assert (await asked(app)).observed() == frozenset()


async def test_cookies_that_a_middleware_reads_are_observed_although_fastapi_reads_them_too() -> None:
    app = FastAPI()
    app.add_middleware(Sessions)

    @app.get("/")
    async def read() -> int:
        return 1

    assert (await asked(app)).observed() == {b"cookie"}


async def test_cookies_that_the_app_looks_up_by_itself_are_observed() -> None:
    app = FastAPI()

    def inner(request: Request) -> str | None:
        return HTTPConnection(request.scope).cookies.get("session")

    @app.get("/")
    async def read(session: Annotated[str | None, Depends(inner)]) -> str | None:
        return session

    assert (await asked(app)).observed() == {b"cookie"}


async def test_without_knowledge_of_the_framework_every_lookup_counts() -> None:
    watch, fields = shown()
    assert HTTPConnection({"type": "http", "headers": fields}).cookies["theme"] == "dark"
    assert watch.observed() == {b"cookie"}
