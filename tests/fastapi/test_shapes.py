"""Two releases of a program on one store: neither gets an answer of another shape than its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from types import CodeType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    computed_field,
    create_model,
    field_serializer,
)
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from tiercel import Cache
from tiercel._core.events import Event, Failed
from tiercel.testing import SimulatedServer, SimulatedStore, VirtualClock

ItemT = TypeVar("ItemT")


class Old(BaseModel):
    name: str


class New(BaseModel):
    name: str
    origin: str = "unknown"


class Renamed(BaseModel):
    name: str = Field(serialization_alias="title")


class Retyped(BaseModel):
    name: str

    @field_serializer("name")
    def _length(self, name: str) -> int:
        return len(name)


class Computed(BaseModel):
    name: str

    @computed_field  # type: ignore[prop-decorator] # mypy takes no decorator above a property
    @property
    def size(self) -> int:
        return len(self.name)


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


class DeepTree(BaseModel):
    name: str
    children: list["DeepTree"] = []
    depth: int = 0


class Page(BaseModel, Generic[ItemT]):
    items: list[ItemT]


class Loose(BaseModel):
    """Has fields that no schema knows."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    code: CodeType | None = None
    call: Callable[[], int] | None = None


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Row:
    name: str


@dataclass
class WiderRow:
    name: str
    origin: str = ""


class Pair(NamedTuple):
    one: int
    two: str


class Written(TypedDict):
    name: str


def shape_of(model: Any, **settings: Any) -> str:
    """That of a route which answers with a model, if not with what its settings say."""

    def endpoint() -> Any: ...

    endpoint.__annotations__["return"] = model
    return explained(endpoint, **settings)


def explained(endpoint: Any, *, path: str = "/", **settings: Any) -> str:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    app.get(path, **settings)(cache.response(ttl=60)(endpoint))
    scope: dict[str, Any] = {"type": "http", "method": "GET", "scheme": "http", "path": path, "query_string": b""}
    scope["headers"] = []
    return cache.explain(scope).shape


MODELS: list[Any] = [
    None,
    Any,
    int,
    str,
    Old,
    New,
    Renamed,
    Retyped,
    Computed,
    Tree,
    DeepTree,
    Page[Old],
    Page[New],
    list[Old],
    list[New],
    dict[str, Old],
    Old | None,
    tuple[int, str],
    tuple[str, int],
    Loose,
    Color,
    Row,
    WiderRow,
    Pair,
    Written,
    Response,
    HTMLResponse,
    Annotated[int, PlainSerializer(str, return_type=str)] | bool,
]


def test_every_change_of_a_model_that_is_seen_in_an_answer_is_another_shape() -> None:
    found = [shape_of(model) for model in MODELS]
    assert len(set(found)) == len(MODELS)
    assert {len(shape) for shape in found} == {32}
    assert found == [shape_of(model) for model in MODELS]


def loose(**fields: Any) -> type[BaseModel]:
    return create_model("Made", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)


def made(**fields: Any) -> type[BaseModel]:
    return create_model("Made", **fields)


def as_text(number: int) -> str:
    return str(number)


def stream(model: Any) -> Any:
    async def endpoint() -> AsyncIterator[Any]:
        yield model()

    endpoint.__annotations__["return"] = AsyncIterator[model]
    return endpoint


BY_NAME = {"response_model_by_alias": False}

# Of one name each, so that nothing but what they say tells them apart.
CHANGES: list[tuple[Any, Any, dict[str, Any]]] = [
    (made(name=str), made(name=str | None), {}),
    (made(name=str), made(name=str, origin=(str, "")), {}),
    (made(name=int), made(name=Annotated[int, PlainSerializer(as_text)]), {}),
    (made(name=(str, Field(serialization_alias="a"))), made(name=(str, Field(serialization_alias="b"))), {}),
    (made(one=(str, Field(serialization_alias="a"))), made(two=(str, Field(serialization_alias="a"))), BY_NAME),
    (made(inner=made(name=str)), made(inner=made(name=int)), {}),
    (loose(code=(CodeType | None, None)), loose(code=(asyncio.Event | None, None)), {}),
]


@pytest.mark.parametrize(("old", "new", "settings"), CHANGES)
def test_a_change_of_a_model_is_another_shape_whatever_it_is_called(
    old: Any, new: Any, settings: dict[str, Any]
) -> None:
    assert shape_of(old, **settings) != shape_of(new, **settings)
    assert shape_of(list[old], **settings) != shape_of(list[new], **settings)
    assert explained(stream(old), **settings) != explained(stream(new), **settings)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"response_model_include": {"name"}},
    {"response_model_include": {"name", "origin"}},
    {"response_model_exclude": {"name"}},
    {"response_model_exclude": {"name": {"inner"}}},
    {"response_model_by_alias": False},
    {"response_model_exclude_unset": True},
    {"response_model_exclude_defaults": True},
    {"response_model_exclude_none": True},
    {"status_code": 201},
    {"response_class": PlainTextResponse},
    {"response_model": Old},
    {"response_model": None},
]


def test_all_that_a_route_says_of_how_it_answers_is_part_of_its_shape() -> None:
    found = [shape_of(New, **settings) for settings in SETTINGS]
    # Without a model the annotation says what is answered; that nothing is taken from it makes no other shape.
    assert found[-1] == found[0]
    assert len(set(found[:-1])) == len(SETTINGS) - 1


def test_what_is_not_seen_in_an_answer_is_no_other_shape() -> None:
    now = made(name=(str, "a"), when=(datetime, datetime(2026, 1, 1, tzinfo=UTC)))
    later = made(when=(datetime, datetime(2027, 1, 1, tzinfo=UTC)), name=(str, "b"))
    assert shape_of(now) == shape_of(later)
    left_out = {"response_model_exclude_defaults": True}
    assert shape_of(now, **left_out) != shape_of(later, **left_out)
    assert shape_of(Old, status_code=HTTPStatus.ACCEPTED) == shape_of(Old, status_code=202)
    assert explained(str_said, path="/a") == explained(str_said, path="/b")


def str_said() -> str:
    return ""


def test_what_an_endpoint_yields_is_its_shape() -> None:
    async def old() -> AsyncIterator[Old]:
        yield Old(name="a")

    def new() -> Iterator[New]:
        yield New(name="a")

    found = {explained(old), explained(new), explained(str_said)}
    assert len(found) == 3


def test_an_annotation_that_names_nothing_is_taken_as_it_is_written() -> None:
    def later() -> "Later":  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable]  # noqa: F821
        ...

    def sooner() -> "Sooner":  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable]  # noqa: F821
        ...

    settings: dict[str, Any] = {"response_model": None}
    assert explained(later, **settings) == explained(later, **settings) != explained(sooner, **settings)


def test_an_annotation_that_cannot_be_hashed_has_a_schema_all_the_same() -> None:
    assert shape_of(Annotated[Old, ["a list"]]) == shape_of(Old) != shape_of(Annotated[New, ["a list"]])


class Broken(BaseModel):
    name: str

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        raise LookupError(f"{cls.__name__} has no schema at {id(handler)}")


def test_a_model_whose_schema_fails_is_known_by_its_name_and_that_is_told() -> None:
    class Seen:
        def __init__(self) -> None:
            self.events: list[Event] = []

        def on_event(self, event: Event) -> None:
            self.events.append(event)

    seen = Seen()
    cache, app = Cache(observers=[seen]), FastAPI()
    cache.install(app)

    @app.get("/")
    @cache.response(ttl=60)
    async def read() -> Broken:
        return Broken(name="a")

    scope: dict[str, Any] = {"type": "http", "method": "GET", "scheme": "http", "path": "/", "query_string": b""}
    scope["headers"] = []
    assert cache.explain(scope).shape == shape_of(Broken) != shape_of(Old)
    (event,) = seen.events
    assert isinstance(event, Failed)
    assert "the schema of what GET /" in event.where


PROGRAM = """
from test_shapes import MODELS, SETTINGS, New, made, shape_of
from pydantic import Field
letters = made(of=(frozenset[str], Field(frozenset("abcdef"), examples=[{"a", "b", "c"}])))
left_out = {"response_model_exclude_defaults": True}
print(*map(shape_of, MODELS), *[shape_of(New, **settings) for settings in SETTINGS], shape_of(letters, **left_out))
"""


@pytest.mark.called
def test_every_process_finds_the_same_shapes_whatever_its_hash_seed() -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (shapes,) = said
    assert len(shapes.split()) == len(MODELS) + len(SETTINGS) + 1


def test_reading_the_routes_again_works_no_schema_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(BaseModel):
        name: str

        @classmethod
        def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
            asked.append(1)
            return handler(core_schema)

    asked: list[int] = []
    assert len({shape_of(Counted, status_code=status) for status in (200, 201, 202)}) == 3
    assert len(asked) == 1


# -- two releases ----------------------------------------------------------------------------------------------------


class Release:
    """One release of a program, on a store that all share."""

    def __init__(self, url: Any, model: type[BaseModel], **settings: Any) -> None:
        self.cache = Cache(url, clock=VirtualClock(), jitter=0.0, draw=lambda: 0.0)
        self.app = FastAPI()
        self.cache.install(self.app)
        items = APIRouter(prefix="/items")

        @items.get("/{item}", **settings)
        @self.cache.response(ttl=60, tags="item:{item}")
        async def read(item: str) -> Any:
            return model(name=item)

        @items.put("/{item}")
        async def write(item: str) -> str:
            return item

        self.app.include_router(items)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://shop")

    async def got(self) -> tuple[Any, bool]:
        """What it answers, and whether that was stored."""
        answer = await self.http.get("/items/a")
        return answer.json(), "hit" in answer.headers["cache-status"]


class Rollout:
    """Two releases that run side by side, and another process of the old one."""

    def __init__(self, server: SimulatedServer) -> None:
        def release(model: type[BaseModel]) -> Release:
            return Release(SimulatedStore(server), model, response_model=model)

        self.old, self.same, self.new = release(Old), release(Old), release(New)

    async def answers(self) -> list[tuple[Any, bool]]:
        return [await one.got() for one in (self.old, self.same, self.new)]


OLD, NEW = {"name": "a"}, {"name": "a", "origin": "unknown"}


@pytest.fixture
async def rollout() -> AsyncIterator[Rollout]:
    rollout = Rollout(SimulatedServer())
    yield rollout
    for release in (rollout.old, rollout.same, rollout.new):
        await release.http.aclose()
        await release.cache.aclose()


async def test_releases_of_other_shapes_share_no_answer_and_of_the_same_they_do(rollout: Rollout) -> None:
    assert await rollout.answers() == [(OLD, False), (OLD, True), (NEW, False)]
    assert await rollout.answers() == [(OLD, True), (OLD, True), (NEW, True)]


@pytest.mark.parametrize("by", ["old", "new"])
@pytest.mark.parametrize("how", ["tag", "path"])
async def test_what_one_release_invalidates_is_gone_in_the_other_too(rollout: Rollout, by: str, how: str) -> None:
    await rollout.answers()
    release: Release = getattr(rollout, by)
    if how == "tag":
        await release.cache.invalidate("item:a", wait="all")
    else:
        assert (await release.http.put("/items/a")).status_code == 200
        await asyncio.sleep(1.1)
    assert await rollout.answers() == [(OLD, False), (OLD, True), (NEW, False)]


async def test_what_one_release_clears_is_gone_in_the_other_too(rollout: Rollout) -> None:
    await rollout.answers()
    await rollout.new.cache.clear()
    await asyncio.sleep(1.1)
    assert await rollout.answers() == [(OLD, False), (OLD, True), (NEW, False)]


@pytest.mark.realtime
async def test_a_program_that_was_changed_and_started_again_finds_no_old_shapes_in_its_file(tmp_path: Path) -> None:
    seen: list[tuple[Any, bool]] = []
    for model in (Old, Old, New, Old):
        release = Release(f"local://{tmp_path}/cache", model, response_model=model)
        async with release.app.router.lifespan_context(release.app):
            seen.append(await release.got())
        await release.http.aclose()
    assert seen == [(OLD, False), (OLD, True), (NEW, False), (OLD, True)]


def test_an_answer_that_is_made_by_hand_is_of_no_shape_but_that_of_its_class() -> None:
    assert shape_of(JSONResponse) != shape_of(StreamingResponse)
    assert shape_of(JSONResponse) == shape_of(JSONResponse)
