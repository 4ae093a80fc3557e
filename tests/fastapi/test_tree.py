"""What is read from a dependency tree."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Annotated, Any, Literal

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    Query,
    Request,
    Response,
    routing,
)
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBearer,
    HTTPDigest,
    OAuth2,
    OAuth2PasswordBearer,
    OpenIdConnect,
    SecurityScopes,
)
from fastapi.security.base import SecurityBase
from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from starlette.requests import HTTPConnection

from tiercel._engine.guard import CLIENT
from tiercel.errors import ConfigurationError
from tiercel.fastapi import CacheDep, _framework
from tiercel.fastapi._framework import check, sights
from tiercel.fastapi._inject import installed_cache
from tiercel.fastapi._tree import Overrides, Reads, reads

Endpoint = Callable[..., Any]

UNKNOWN = frozenset({b"authorization", b"cookie", CLIENT})
RAW = Reads(credentials=UNKNOWN, guarded=True, whole_query=True)


def reads_of(endpoint: Endpoint, overrides: Overrides | None = None) -> Reads:
    router = APIRouter()
    router.add_api_route("/{item_id}", endpoint)
    (sight,) = sights(router.routes)
    return reads(sight.effective.dependant, overrides or {}, ignored=(installed_cache,))


def plain(item_id: int) -> None: ...


def query(item_id: int, q: str, limit: int = 10, tag: Annotated[list[str], Query()] = []) -> None: ...  # noqa: B006


def query_alias(q: Annotated[str, Query(alias="item-query")]) -> None: ...


def query_choices(
    q: Annotated[str, Query(validation_alias=AliasChoices("first", AliasPath("second", 0)))],
) -> None: ...


class Filters(BaseModel):
    size: int = 0
    colour: Annotated[str, Field(alias="color")] = ""


class ByName(Filters):
    model_config = ConfigDict(populate_by_name=True)


class Strict(Filters):
    model_config = ConfigDict(extra="forbid")


class Open(Filters):
    model_config = ConfigDict(extra="allow")


class Peeking(Filters):
    @model_validator(mode="before")
    @classmethod
    def peek(cls, data: Any) -> Any:
        return data


class Checked(Filters):
    @model_validator(mode="after")
    def look(self) -> "Checked":
        return self


class Made(Filters):
    def __init__(self, **data: Any) -> None:
        super().__init__(**data)


def filters(given: Annotated[Filters, Query()]) -> None: ...


def no_filters(given: Annotated[Filters | None, Query()] = None) -> None: ...


def by_name(given: Annotated[ByName, Query()]) -> None: ...


def strict(given: Annotated[Strict, Query()]) -> None: ...


def opened(given: Annotated[Open, Query()]) -> None: ...


def peeking(given: Annotated[Peeking, Query()]) -> None: ...


def checked(given: Annotated[Checked, Query()]) -> None: ...


def made(given: Annotated[Made, Query()]) -> None: ...


def annotated_before(given: Annotated[Filters, BeforeValidator(lambda data: data), Query()]) -> None: ...


def headers(x_tenant: Annotated[str, Header()], lang: Annotated[str, Header(alias="Accept-Language")]) -> None: ...


def header_as_it_is(x_tenant: Annotated[str, Header(convert_underscores=False)]) -> None: ...


class HeaderModel(BaseModel):
    x_tenant: str = ""
    named: Annotated[str, Field(alias="X-Named")] = ""


def header_model(given: Annotated[HeaderModel, Header()]) -> None: ...


def header_model_as_it_is(given: Annotated[HeaderModel, Header(convert_underscores=False)]) -> None: ...


def bearer_header(authorization: Annotated[str, Header()]) -> None: ...


def cookies(session: Annotated[str, Cookie()], ad: Annotated[str, Cookie(alias="ad-id")]) -> None: ...


def cookie_model(given: Annotated[Filters, Cookie()]) -> None: ...


def cookie_model_open(given: Annotated[Open, Cookie()]) -> None: ...


def body(filters: Filters) -> None: ...


def scalar_body(text: Annotated[str, Body()]) -> None: ...


def form(text: Annotated[str, Form()]) -> None: ...


def outputs(response: Response, tasks: BackgroundTasks, scopes: SecurityScopes) -> None: ...


def request(request: Request) -> None: ...


def connection(connection: HTTPConnection) -> None: ...


def cache(cache: CacheDep) -> None: ...


def cache_below(inner: Annotated[None, Depends(cache)]) -> None: ...


def deep(inner: Annotated[None, Depends(query)], other: Annotated[None, Depends(headers)]) -> None: ...


def deep_request(inner: Annotated[None, Depends(request)], q: str = "") -> None: ...


def bearer(token: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None: ...


def partial_bearer(token: Annotated[Any, Depends(partial(HTTPBearer()))]) -> None: ...


class FromCookie(OAuth2):
    async def __call__(self, request: HTTPConnection) -> str | None:
        return request.cookies.get("access_token")


class Unlike(SecurityBase):
    scheme_name = "unlike"

    def __call__(self, x_mine: Annotated[str, Header()]) -> str:
        return x_mine


class Renamed(HTTPBearer):
    """Says something else about itself, and reads the same."""


def secured(scheme: Any) -> Endpoint:
    def endpoint(token: Annotated[Any, Depends(scheme)]) -> None: ...

    return endpoint


def guarded(*names: bytes, **more: Any) -> Reads:
    return Reads(credentials=frozenset(names), guarded=True, **more)


TREES: list[tuple[str, Endpoint, Reads]] = [
    ("path parameters are in the path", plain, Reads()),
    ("query", query, Reads(query=frozenset({"q", "limit", "tag"}))),
    ("query by alias", query_alias, Reads(query=frozenset({"item-query"}))),
    ("query by one of several aliases", query_choices, Reads(query=frozenset({"first", "second", "q"}))),
    ("query model", filters, Reads(query=frozenset({"size", "color"}))),
    ("query model or none", no_filters, Reads(query=frozenset({"size", "color"}))),
    ("query model by name", by_name, Reads(query=frozenset({"size", "color", "colour"}))),
    ("query model that forbids others", strict, Reads(query=frozenset({"size", "color"}), whole_query=True)),
    ("query model that takes others", opened, Reads(query=frozenset({"size", "color"}), whole_query=True)),
    ("query model that sees raw data", peeking, Reads(query=frozenset({"size", "color"}), whole_query=True)),
    ("query model that sees itself", checked, Reads(query=frozenset({"size", "color"}))),
    ("query model that makes itself", made, Reads(query=frozenset({"size", "color"}), whole_query=True)),
    ("query model, validated outside", annotated_before, Reads(query=frozenset({"size", "color"}), whole_query=True)),
    ("headers", headers, Reads(headers=frozenset({b"x-tenant", b"accept-language"}))),
    ("header with underscores", header_as_it_is, Reads(headers=frozenset({b"x_tenant"}))),
    ("header model", header_model, Reads(headers=frozenset({b"x-tenant", b"x-named"}))),
    ("header model with underscores", header_model_as_it_is, Reads(headers=frozenset({b"x_tenant", b"x-named"}))),
    ("a header that is a credential", bearer_header, guarded(b"authorization")),
    ("cookies", cookies, Reads(cookies=frozenset({"session", "ad-id"}))),
    ("cookie model", cookie_model, Reads(cookies=frozenset({"size", "color"}))),
    (
        "cookie model that takes others",
        cookie_model_open,
        Reads(cookies=frozenset({"size", "color"}), headers=frozenset({b"cookie"})),
    ),
    ("a body", body, Reads(guarded=True)),
    ("a scalar body", scalar_body, Reads(guarded=True)),
    ("a form", form, Reads(guarded=True)),
    ("what goes out is not read", outputs, Reads()),
    ("the request", request, RAW),
    ("the connection", connection, RAW),
    ("the cache", cache, Reads()),
    ("the cache in a dependency", cache_below, Reads()),
    (
        "dependencies",
        deep,
        Reads(
            query=frozenset({"q", "limit", "tag"}), headers=frozenset({b"x-tenant", b"accept-language"}), guarded=True
        ),
    ),
    (
        "the request in a dependency",
        deep_request,
        Reads(query=frozenset({"q"}), credentials=UNKNOWN, guarded=True, whole_query=True),
    ),
    ("HTTPBearer", bearer, guarded(b"authorization")),
    ("HTTPBearer in a partial", partial_bearer, guarded(b"authorization")),
    ("HTTPBasic", secured(HTTPBasic()), guarded(b"authorization")),
    ("HTTPDigest", secured(HTTPDigest()), guarded(b"authorization")),
    ("OAuth2PasswordBearer", secured(OAuth2PasswordBearer("token")), guarded(b"authorization")),
    ("OpenIdConnect", secured(OpenIdConnect(openIdConnectUrl="/o")), guarded(b"authorization")),
    ("APIKeyHeader", secured(APIKeyHeader(name="X-Key")), guarded(b"x-key")),
    ("APIKeyCookie", secured(APIKeyCookie(name="key")), guarded(b"cookie")),
    ("APIKeyQuery", secured(APIKeyQuery(name="key")), guarded(query=frozenset({"key"}))),
    ("a scheme without code of its own", secured(Renamed()), guarded(b"authorization")),
    ("a scheme that reads for itself", secured(FromCookie()), RAW),
    (
        "a scheme of another kind",
        secured(Unlike()),
        guarded(*UNKNOWN, whole_query=True, headers=frozenset({b"x-mine"})),
    ),
]


@pytest.mark.parametrize(("endpoint", "expected"), [pytest.param(*row[1:], id=row[0]) for row in TREES])
def test_a_tree_says_what_it_reads(endpoint: Endpoint, expected: Reads) -> None:
    assert reads_of(endpoint) == expected


def outer(inner: Annotated[None, Depends(plain)], q: str = "") -> None: ...


def test_an_override_takes_the_place_of_a_dependency() -> None:
    def instead(x_fake: Annotated[str, Header()]) -> None: ...

    assert reads_of(outer) == Reads(query=frozenset({"q"}))
    found = reads_of(outer, {plain: instead})
    assert found == Reads(query=frozenset({"q"}), headers=frozenset({b"x-fake"}), guarded=True)


def test_an_override_deep_in_the_tree_is_applied_to_what_another_override_needs() -> None:
    def instead(inner: Annotated[None, Depends(query)]) -> None: ...

    def last(token: Annotated[Any, Depends(HTTPBearer())]) -> None: ...

    assert reads_of(outer, {plain: instead, query: last}) == guarded(b"authorization", query=frozenset({"q"}))


def test_overriding_a_scheme_takes_the_guard_away() -> None:
    scheme = HTTPBearer()
    endpoint = secured(scheme)
    assert reads_of(endpoint).guarded
    assert reads_of(endpoint, {scheme: lambda: "ada"}) == Reads()


def test_the_endpoint_itself_is_not_overridden() -> None:
    assert reads_of(plain, {plain: request}) == Reads()


def test_a_decorated_dependency_is_read_by_its_signature() -> None:
    @wraps(query)
    def decorated(*args: Any, **kwargs: Any) -> None: ...

    def endpoint(inner: Annotated[None, Depends(decorated)]) -> None: ...

    assert reads_of(endpoint) == Reads(query=frozenset({"q", "limit", "tag"}))


def test_dependencies_of_the_router_and_of_the_application_belong_to_the_tree() -> None:
    app = FastAPI(dependencies=[Depends(headers)])
    router = APIRouter(dependencies=[Depends(HTTPBearer())])
    router.add_api_route("/{item_id}", plain)
    app.include_router(router, dependencies=[Depends(query)])
    sight = [one for one in sights(app.router.routes) if isinstance(one.original, APIRoute)][-1]
    expected = guarded(
        b"authorization",
        query=frozenset({"q", "limit", "tag"}),
        headers=frozenset({b"x-tenant", b"accept-language"}),
    )
    assert reads(sight.effective.dependant, {}) == expected


def test_a_route_wrapped_in_code_of_its_own_takes_the_request() -> None:
    router = APIRouter()
    router.add_api_route("/{item_id}", plain)
    (sight,) = sights(router.routes)
    assert reads(sight.effective.dependant, {}, wrapped=True) == RAW


def test_literals_and_enums_are_query_parameters() -> None:
    def endpoint(order: Literal["up", "down"] = "up") -> None: ...

    assert reads_of(endpoint) == Reads(query=frozenset({"order"}))


def test_this_fastapi_has_all_that_is_used_of_it() -> None:
    check()


def nowhere(scope: Any) -> str:
    return "/nowhere"


def nothing(routes: Any) -> list[Any]:
    return []


def itself(*, call: Any, **_: Any) -> Dependant:
    return Dependant(call=call)


def gone(*_: Any, **__: Any) -> Any:
    raise AttributeError("gone")


@pytest.mark.parametrize(
    ("module", "name", "instead", "says"),
    [
        (routing, "iter_route_contexts", nothing, "an included route is not found under its prefix"),
        (_framework, "get_route_path", nowhere, "an included route does not match"),
        (_framework, "get_dependant", itself, "a dependency is not overridden"),
        (_framework, "get_dependant", gone, "AttributeError('gone')"),
    ],
)
def test_a_fastapi_that_lacks_something_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, instead: Any, says: str
) -> None:
    monkeypatch.setattr(module, name, instead)
    with pytest.raises(ConfigurationError) as raised:
        check()
    assert says in str(raised.value)
    assert "Install a release of Tiercel that is made for it" in str(raised.value)
