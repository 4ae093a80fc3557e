"""What a route reads of a request, seen in its dependency tree."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import unwrap
from typing import Any, Final, Union, get_args, get_origin

from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery
from fastapi.security.base import SecurityBase
from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from tiercel._core.keys import HARMLESS
from tiercel._engine.guard import CLIENT
from tiercel.fastapi._framework import Dependant, overridden, params

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]

ANONYMOUS: Final = frozenset({b"authorization", b"cookie", CLIENT})
"""What identity is taken from where nobody says from what."""

_BEARERS = frozenset({b"authorization", b"proxy-authorization"})
_NEGOTIATION = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"user-agent"})
"""Fields that a dependency reads in order to choose a representation, not to turn somebody away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What of a request the functions of a tree are given."""

    query: frozenset[str] = frozenset()
    """The query parameters that are declared."""
    whole_query: bool = False
    """Whether any of the others may be read, too."""
    headers: frozenset[bytes] = frozenset()
    cookies: frozenset[str] = frozenset()
    credentials: frozenset[bytes] = frozenset()
    """The fields that identity is taken from."""
    guarded: bool = False
    """Whether more is read than a key can hold, or somebody may be turned away: the dependencies have to run."""


def reads(
    dependant: Dependant, overrides: Overrides, *, ignored: Collection[Callable[..., Any]] = (), wrapped: bool = False
) -> Reads:
    """What a route's tree reads, with what FastAPI would put in the place of each dependency.

    `ignored` dependencies read nothing; a route that is `wrapped` in code of its own takes the request itself.
    """
    found = _Found()
    if wrapped:
        found.raw()
    _take(found, dependant)
    for inner in dependant.dependencies:
        _take_dependency(found, overridden(inner, overrides), overrides, ignored)
    return Reads(
        query=frozenset(found.query),
        whole_query=found.whole_query,
        headers=frozenset(found.headers) - found.credentials,
        cookies=frozenset(found.cookies),
        credentials=frozenset(found.credentials),
        guarded=found.guarded,
    )


@dataclass(slots=True)
class _Found:
    query: set[str] = field(default_factory=set[str])
    headers: set[bytes] = field(default_factory=set[bytes])
    cookies: set[str] = field(default_factory=set[str])
    credentials: set[bytes] = field(default_factory=set[bytes])
    whole_query: bool = False
    guarded: bool = False

    def raw(self) -> None:
        """Something takes the request itself, and may read all of it."""
        self.guarded = self.whole_query = True
        self.credentials |= ANONYMOUS


def _take_dependency(
    found: _Found, dependant: Dependant, overrides: Overrides, ignored: Collection[Callable[..., Any]]
) -> None:
    """A dependency that reads fields may turn the caller away because of them; the endpoint only answers."""
    if dependant.call in ignored:
        return
    _take(found, dependant)
    if _fields(dependant) - _NEGOTIATION - HARMLESS or params(dependant, "cookie"):
        found.guarded = True
    for inner in dependant.dependencies:
        _take_dependency(found, overridden(inner, overrides), overrides, ignored)


def _take(found: _Found, dependant: Dependant) -> None:
    scheme = _scheme(dependant.call)
    if scheme is not None:
        _take_scheme(found, scheme)
    elif dependant.request_param_name or dependant.http_connection_param_name:
        found.raw()
    found.guarded = found.guarded or bool(dependant.body_params)
    _take_query(found, dependant)
    _take_headers(found, dependant)
    _take_cookies(found, dependant)


def _take_query(found: _Found, dependant: Dependant) -> None:
    for name, info in params(dependant, "query"):
        found.query.update(_names(name, info))
        found.whole_query = found.whole_query or _sees_all(info)


def _take_headers(found: _Found, dependant: Dependant) -> None:
    names = _fields(dependant)
    found.headers |= names
    if names & _BEARERS:
        found.credentials |= names & _BEARERS
        found.guarded = True


def _fields(dependant: Dependant) -> set[bytes]:
    """The request fields that it declares."""
    # A model is given all fields, whatever it ignores: `Headers.items` is what its watch then sees, and all select.
    declared = [_names(name, info, hyphens=True) for name, info in params(dependant, "header")]
    return {name.lower().encode("latin-1", "replace") for names in declared for name in names}


def _take_cookies(found: _Found, dependant: Dependant) -> None:
    for name, info in params(dependant, "cookie"):
        found.cookies.update(_names(name, info))
        if _sees_all(info):
            found.headers.add(b"cookie")


# -- security --------------------------------------------------------------------------------------------------------


def _scheme(call: Callable[..., Any] | None) -> SecurityBase | None:
    while isinstance(call, partial):
        call = call.func
    found: object = None if call is None else unwrap(call)
    return found if isinstance(found, SecurityBase) else None


def _take_scheme(found: _Found, scheme: SecurityBase) -> None:
    found.guarded = True
    if not type(scheme).__call__.__module__.startswith("fastapi.security."):
        found.raw()  # a class of the user's own: a bearer token from a cookie is a common one
    match scheme:
        case APIKeyHeader():
            found.credentials.add(scheme.model.name.lower().encode("latin-1", "replace"))
        case APIKeyCookie():
            found.credentials.add(b"cookie")
        case APIKeyQuery():
            found.query.add(scheme.model.name)
        case _:
            found.credentials.add(b"authorization")


# -- names of parameters ---------------------------------------------------------------------------------------------


def _names(name: str, info: FieldInfo, *, hyphens: bool = False) -> Iterator[str]:
    """Every name in the request that FastAPI may look a parameter, or the fields of its model, up under."""
    model = _model(info)
    if model is None:
        yield from _aliases(name, info)
        return
    config = model.model_config
    for inner, declared in model.model_fields.items():
        convert = hyphens and getattr(declared, "convert_underscores", getattr(info, "convert_underscores", True))
        bare = inner.replace("_", "-") if convert else inner
        yield from _aliases(bare, declared)
        if (
            config.get("populate_by_name")
            or config.get("validate_by_name")
            or not config.get("validate_by_alias", True)
        ):
            yield bare


def _aliases(name: str, info: FieldInfo) -> Iterator[str]:
    given = [alias for alias in (info.alias, info.validation_alias) if alias is not None] or [name]
    for alias in given:
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        for choice in choices:
            first = choice.path[0] if isinstance(choice, AliasPath) else choice
            yield str(first)


def _model(info: FieldInfo) -> type[BaseModel] | None:
    """The model that collects several parameters, if that is what this is."""
    annotation: Any = info.annotation
    if _is_union(annotation):
        members = [one for one in get_args(annotation) if one is not type(None)]
        annotation = members[0] if len(members) == 1 else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _is_union(annotation: object) -> bool:
    return get_origin(annotation) in {Union, type(int | None)}


def _sees_all(info: FieldInfo) -> bool:
    """Whether code of a model may see parameters that it does not declare."""
    model = _model(info)
    if model is None:
        return False
    if info.metadata or model.model_config.get("extra", "ignore") != "ignore":
        return True
    decorators = model.__pydantic_decorators__
    before = any(one.info.mode != "after" for one in decorators.model_validators.values())
    return before or bool(decorators.root_validators) or _builds_itself(model)


def _builds_itself(model: type[BaseModel]) -> bool:
    made = ("__init__", "__new__", "__get_pydantic_core_schema__")
    return any(getattr(model, name) is not getattr(BaseModel, name) for name in made[:2]) or (
        getattr(model.__get_pydantic_core_schema__, "__func__", None)
        is not getattr(BaseModel.__get_pydantic_core_schema__, "__func__", None)
    )
