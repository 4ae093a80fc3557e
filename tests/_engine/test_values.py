"""What is stored of returned values: no caller's changes reach the cache, and a hit is what the miss was."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import contextlib
import dataclasses
import math
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, StrEnum
from fractions import Fraction
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import dataclasses as pydantic_dataclasses
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column

from tiercel._engine.values import Packed, Snapshot, ValueNotStorable, codec_for, codec_of
from tiercel.errors import ConfigurationError

T = TypeVar("T")


class Colour(Enum):
    RED = 1


class Word(StrEnum):
    A = "a"


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any = None


class Row(TypedDict):
    id: int
    names: list[str]


@dataclass
class Box:
    x: int
    inner: Any = field(default_factory=list[Any])


@dataclass(slots=True)
class Slotted:
    x: int
    inner: list[int]


@dataclass(frozen=True)
class Frozen:
    x: int
    inner: Any = ()


@dataclass(frozen=True)
class Remembering:
    x: int

    @cached_property
    def listed(self) -> list[int]:
        return [self.x]


@dataclass
class Derived:
    """Rebuilds itself: whoever unpacks it runs code."""

    x: int
    twice: int = 0

    def __post_init__(self) -> None:
        self.twice = 2 * self.x


class Loose(Frozen):
    """Takes attributes that are no fields."""


@dataclass
class Page(Generic[T]):
    items: list[T]
    total: ClassVar[threading.Lock] = threading.Lock()


class Struct(msgspec.Struct):
    x: int
    inner: Any = msgspec.UNSET


class FrozenStruct(msgspec.Struct, frozen=True):
    x: int
    inner: Any = ()


class Model(pydantic.BaseModel):
    x: int
    inner: Any = None
    y: int = 5


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    x: int
    inner: Any = None


class Peculiar(pydantic.BaseModel):
    """All that serialising would lose."""

    model_config = pydantic.ConfigDict(extra="allow")
    secret: pydantic.SecretStr
    url: pydantic.HttpUrl = pydantic.HttpUrl("https://example.org")
    hidden: list[int] = pydantic.Field(default_factory=list[int], exclude=True)
    aliased: int = pydantic.Field(default=1, validation_alias="in", serialization_alias="out")
    _private: list[int] = pydantic.PrivateAttr(default_factory=lambda: [1])

    @pydantic.field_validator("hidden")
    @classmethod
    def grow(cls, value: list[int]) -> list[int]:
        return [*value, 0]

    @pydantic.computed_field
    def computed(self) -> int:
        return 1


class Listing(pydantic.RootModel[list[Model]]):
    pass


@pydantic_dataclasses.dataclass
class PydanticBox:
    x: int
    inner: list[Model]


class Tag(str):  # noqa: SLOT000 - so that it takes attributes
    """A string that takes attributes."""


class Bare(str):
    __slots__ = ()


class Id(UUID):
    """As database drivers return them."""


class Plain:
    """Nobody knows what is in it."""


Number = NewType("Number", int)
BERLIN = ZoneInfo("Europe/Berlin")
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = [{"id": n, "name": f"name {n}", "price": n / 2, "tags": ["a", "b"]} for n in range(20)]

SHARED: list[tuple[Any, Any]] = [
    (None, None), (bool, True), (int, 2**70), (float, math.inf), (str, "a"), (bytes, b"a"), (Decimal, Decimal("1.10")),
    (datetime, MOMENT), (datetime, MOMENT.astimezone(BERLIN)), (date, date(2024, 1, 1)), (time, time(1, tzinfo=UTC)),
    (timedelta, timedelta(1)), (UUID, UUID(int=1)), (Colour, Colour.RED), (Right, Right.READ | Right.WRITE),
    (Path, Path("a")), (PurePosixPath, PurePosixPath("a")), (IPv4Address, ip_address("127.0.0.1")), (Literal["a"], "a"),
    (Fraction, Fraction(1, 3)), (Number, 1), (Annotated[int, "doc"], 1), (int | None, None), (str | int, 1),
    (Any, (1, "a")), (tuple[int, ...], (1, 2)), (frozenset[str], frozenset({"a"})), (Point, Point(1, (2,))),
    (Frozen, Frozen(1, (Frozen(2),))), (FrozenStruct, FrozenStruct(1, "a")), (FrozenModel, FrozenModel(x=1)),
    (tuple[FrozenModel, ...], (FrozenModel(x=1),)), (Bare, Bare("a")), (int, "said int, is str"),
    (pydantic.HttpUrl, pydantic.HttpUrl("https://example.org")),
]  # fmt: skip

PACKED: list[tuple[Any, Any]] = [
    (dict[str, Any], {"a": 1, "b": [1.5, None, True, "x", b"y", {}]}), (list[int], [1, 2]), (list[Any], []),
    (list[dict[str, Any]], ROWS), (Any, ROWS), (object, {"a": 1}), (set[int], {1, 2}), (set[str], {"a", "b"}),
    (dict[int, str], {1: "a"}), (list[datetime], [MOMENT]), (list[Decimal], [Decimal("1.10")]),
    (list[UUID], [UUID(int=1)]), (list[date], [date(2024, 1, 1)]), (list[Colour], [Colour.RED]),
    (dict[str, tuple[int, ...]], {"a": (1, 2)}), (tuple[Any, ...], (1, [2], {"a": [3]})), (list[Box], [Box(1), Box(2)]),
    (Row, Row(id=1, names=["a"])), (Box, Box(1, [1, {"a": 2}])), (Slotted, Slotted(1, [1])), (Frozen, Frozen(1, [1])),
    (Struct, Struct(1, [1])), (FrozenStruct, FrozenStruct(1, [1])), (Page[int], Page([1, 2])), (Point, Point(1, [2])),
    (list[Point], [Point(1)]), (Sequence[int], [1]), (list[int] | None, [1]), (T, [1]),
    (dict[str, float], {"a": 1.0, "b": -0.0}),
]  # fmt: skip

COPIED: list[tuple[Any, Any]] = [
    (dict[str, Any], {"at": MOMENT, "price": Decimal("1.10"), "id": UUID(int=1)}),
    (dict[str, float], {"a": 1}),
    (list[bool], [1]),
    (dict[str, str], {"a": Word.A}),
    (list[datetime], [MOMENT.astimezone(BERLIN)]),
    (list[datetime], [datetime(2024, 10, 27, 2, 30, fold=1)]),  # noqa: DTZ001 - naive ones are values, too
    (list[int], [2**70]),
    (list[str], ["\ud800"]),
    (list[Any], [(1, 2), {3}, frozenset({4}), Point(1), math.nan, 1j]),
    (dict[Any, Any], {(1, Colour.RED): [1]}),
    (Any, {"at": MOMENT, "row": (1, [2])}),
    (list[Any], [Tag("a")]),
    (list[UUID], [Id(int=1)]),
    (set[Any], {1, "a"}),
    (set[float], {1}),
    (Point, Point(1, [(1,)])),
    (Box, Box(1, (1,))),
    (Derived, Derived(1)),
    (list[Any], [Remembering(1), Loose(1)]),
    (Struct | FrozenStruct, Struct(1, [1])),
    (Struct, Struct(1, (1, [2]))),
    (FrozenStruct, FrozenStruct(1, (1, [2]))),
    (Frozen, Frozen(1, (1, [2]))),
    (Slotted, Slotted(1, [2**70])),
    (Model, Model(x=1)),
    (Model, Model(x=1, inner=[Model(x=2, y=3), {"a": [1]}])),
    (Model | None, Model(x=1)),
    (list[Model], [Model(x=n, inner=[n]) for n in range(20)]),
    (dict[str, Model], {"a": Model(x=1)}),
    (Page[Model], Page([Model(x=1)])),
    (Struct, Struct(1, Model(x=1))),
    (FrozenModel, FrozenModel(x=1, inner=[1])),
    (Listing, Listing([Model(x=1)])),
    (PydanticBox, PydanticBox(1, [Model(x=1)])),
    (
        Peculiar,
        Peculiar.model_validate({"secret": "s", "hidden": [1], "in": 2, "more": [1], "url": "https://a.example"}),
    ),
]


def names_of(value: Any) -> list[str]:
    """Its fields."""
    if isinstance(value, pydantic.BaseModel):
        return [*type(value).model_fields]
    if isinstance(value, msgspec.Struct):
        return [*value.__struct_fields__]
    return [one.name for one in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []


def inner_of(value: Any) -> list[Any]:
    """What can be reached from it."""
    if isinstance(value, dict):
        return [*value.values()]
    if isinstance(value, list | tuple):
        return [*value]
    more = [value.__pydantic_extra__, value.__pydantic_private__] if isinstance(value, pydantic.BaseModel) else []
    return [getattr(value, name) for name in names_of(value)] + more


def scramble(value: Any) -> None:
    """Change everything in it that can be changed."""
    for inner in inner_of(value):
        scramble(inner)
    for name in names_of(value):
        with contextlib.suppress(AttributeError, pydantic.ValidationError):
            setattr(value, name, "scrambled")
    match value:
        case list():
            value.append("scrambled")
        case dict():
            value["scrambled"] = True
        case set():
            value.add("scrambled")
        case Tag():
            vars(value)["scrambled"] = True
        case _:
            pass


def exactly(value: Any) -> Any:
    """A rendering in which only what is the same is equal."""
    kind: Any = type(value)
    if kind is dict:
        return kind, [(exactly(name), exactly(inner)) for name, inner in value.items()]
    if kind in {set, frozenset}:
        return kind, sorted(str(exactly(inner)) for inner in value)
    if isinstance(value, pydantic.BaseModel):
        return kind, exactly(value.__dict__), exactly(inner_of(value)), sorted(value.model_fields_set)
    inside = inner_of(value)
    if inside or isinstance(value, list | tuple):
        return kind, [exactly(inner) for inner in inside], exactly(getattr(value, "__dict__", None))
    return kind, repr(value), str(getattr(value, "__dict__", "")) if isinstance(value, str) else ""


@pytest.mark.parametrize(("annotation", "value"), SHARED, ids=range(len(SHARED)))
def test_what_cannot_be_changed_is_shared(annotation: Any, value: Any) -> None:
    codec = codec_for(annotation)
    payload = codec.encode(value)
    assert payload is value
    assert codec.decode(payload) is value
    assert codec.weight(payload) > 0


@pytest.mark.parametrize(
    ("annotation", "value", "kind"),
    [(*case, Packed) for case in PACKED] + [(*case, Snapshot) for case in COPIED],
    ids=range(len(PACKED) + len(COPIED)),
)
def test_no_change_by_a_caller_reaches_the_next_hit(annotation: Any, value: Any, kind: type) -> None:
    codec, before = codec_for(annotation), exactly(value)
    payload = codec.encode(value)
    assert type(payload) is kind
    assert codec.weight(payload) > 0
    scramble(value)
    assert exactly(value) != before, "the original was changed"
    for _ in range(3):
        hit = codec.decode(payload)
        assert exactly(hit) == before
        scramble(hit)
        assert exactly(hit) != before


def model(inner: Any) -> Model:
    return Model(x=1, inner=inner)


def frozen_model(inner: Any) -> FrozenModel:
    return FrozenModel(x=1, inner=inner)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(allow_nan=False),
    st.uuids(), st.datetimes(timezones=st.none() | st.timezones()), st.dates(), st.sampled_from([*Colour, *Word]),
    st.builds(Bare), st.sets(st.integers() | st.text() | st.booleans()), st.frozensets(st.text()),
)  # fmt: skip
plain = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text() | st.integers(), inner),
        st.builds(Box, st.integers(), inner), st.builds(Frozen, st.integers(), inner),
        st.builds(Struct, st.integers(), inner), st.builds(FrozenStruct, st.integers(), inner),
        st.builds(Point, st.integers(), inner), inner.map(model), inner.map(frozen_model),
    ),
    max_leaves=10,
)  # fmt: skip


@given(plain)
def test_every_hit_is_what_was_stored_whatever_became_of_it(value: Any) -> None:
    codec, before = codec_for(list[Any]), exactly([value])
    payload = codec.encode([value])
    first = codec.decode(payload)
    assert exactly(first) == before
    scramble(first)
    scramble(value)
    assert exactly(codec.decode(payload)) == before


# ------------------------------------------------------------------------------------------------------ what is refused


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Account(DataBase):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)


@dataclass
class Holder:
    user: User


def rows() -> Sequence[Any]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(User(id=1))
        session.flush()
        found = session.execute(select(User.id)).all()
    engine.dispose()
    return found


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (User, "User, .* database session"),
        (list[User], "User, .* database session"),
        (User | None, "User, .* database session"),
        (Account, "Account, .* database session"),
        (Holder, "User, .* database session"),
        (Plain, "Plain, .* may share state"),
        (dict[str, Plain], "Plain"),
        (Iterator[int], "Iterator"),
        (Callable[[], int], "Callable"),
        (threading.Thread, "Thread"),
        (Exception, "Exception"),
    ],
    ids=repr,
)
def test_a_return_annotation_that_cannot_be_stored_is_an_error_at_decoration(annotation: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"load\(\) returned a {says}.*Return its data"):
        codec_for(annotation, where="load()")


def cyclic() -> list[Any]:
    one: list[Any] = []
    one.append(one)
    return one


def laden() -> Tag:
    one = Tag("a")
    vars(one)["more"] = 1
    return one


def extended() -> Any:
    class Extended(msgspec.Struct, dict=True):
        x: int

    one: Any = Extended(1)
    one.more = 1
    return one


@dataclass
class OwnDict(dict[str, int]):
    x: int = 1


FOREIGN: list[Any] = [
    User(id=1), [User(id=1)], {"a": User(id=1)}, (User(id=1),), Account(id=1), Model(x=1, inner=User(id=1)),
    Box(1, User(id=1)), Struct(1, User(id=1)), Plain(), [Plain()], iter([1]), (n for n in [1]), bytearray(b"a"),
    defaultdict(list), OrderedDict(a=1), deque([1]), len, int, cyclic(), laden(), extended(), OwnDict(),
    {frozenset({Remembering(1)})}, {(1, Tag("a")): 1}, ValueError("a"), IPv4Network,
]  # fmt: skip


@pytest.mark.parametrize("value", FOREIGN, ids=range(len(FOREIGN)))
def test_what_may_share_state_is_not_stored(value: Any) -> None:
    for annotation in (list[Any], dict[str, Any], Model, int, Any | None):
        with pytest.raises(ValueNotStorable):
            codec_for(annotation).encode(value)


def test_rows_of_a_database_are_not_stored() -> None:
    for value in (rows(), rows()[0]):
        with pytest.raises(ValueNotStorable):
            codec_for(list[Any]).encode(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Model(x=1), "a Model and does not say so"),
        ([Model(x=1)], "a Model and does not say so"),
        ({"a": Box(1)}, "a Box and does not say so"),
        ({Point(1): 1}, "a Point and does not say so"),
        (Colour.RED, "a Colour and does not say so"),
        (User(id=1), "a User, which cannot be stored"),
        (Plain(), "a Plain, which cannot be stored"),
    ],
)
def test_without_an_annotation_only_builtins_are_stored(value: Any, says: str) -> None:
    for annotation in (Any, object, T):
        with pytest.raises(ConfigurationError, match=says):
            codec_for(annotation).encode(value)


# --------------------------------------------------------------------------------------------------------- of functions


def unannotated():  # type: ignore[no-untyped-def]  # noqa: ANN201
    return 1


def quoted() -> "list[Model]":
    return [Model(x=1)]


async def later() -> Box:
    return Box(1)


def missing() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]
    return 1


@pytest.mark.parametrize(
    ("function", "value", "kind"),
    [(unannotated, [1], Packed), (quoted, [Model(x=1)], Snapshot), (later, Box(1), Packed)],
)
def test_the_codec_follows_from_the_return_annotation(function: Callable[..., Any], value: Any, kind: type) -> None:
    assert type(codec_of(function).encode(value)) is kind


def test_a_return_annotation_that_names_nothing_is_an_error_at_decoration() -> None:
    with pytest.raises(ConfigurationError, match=r"missing\(\): its return annotation 'Nowhere' names nothing"):
        codec_of(missing)


# -- layouts ---------------------------------------------------------------------------------------------------------


def layout(**fields: Any) -> str:
    """Of a class by always the same name, that of a release: its fields, by type and default."""
    made = dataclasses.make_dataclass(
        "Quote", [(name, kind, field(default=value)) for name, (kind, value) in fields.items()]
    )
    return codec_for(list[made]).layout  # type: ignore[valid-type]


@pytest.mark.parametrize("kind", [ZoneInfo | None, PurePosixPath | None, complex])
def test_a_field_that_has_no_schema_leaves_the_others_in_the_layout(kind: Any) -> None:
    one = layout(price=(float, 0.0), zone=(kind, None))
    assert one == layout(price=(float, 0.0), zone=(kind, None))
    others = [
        layout(price=(float, 0.0), zone=(kind, None), fee=(float, 0.0)),
        layout(price=(int, 0), zone=(kind, None)),
        layout(price=(float, 0.0), zone=(str, None)),
        layout(price=(float, 0.0), zone=(Fraction, None)),
    ]
    assert len({one, *others}) == 5


def test_a_default_that_is_another_in_each_process_is_no_part_of_the_layout() -> None:
    one = layout(at=(float, 1.0), default=(int, 0))
    assert one == layout(at=(float, 2.0), default=(int, 1))
    assert one != layout(at=(float, 1.0)), "a field may be called so"
    assert layout(zone=(ZoneInfo, ZoneInfo("UTC"))) == layout(zone=(ZoneInfo, ZoneInfo("CET")))


@pytest.mark.parametrize("omits", [True, False])
def test_a_default_that_is_left_out_when_packed_is_part_of_the_layout(*, omits: bool) -> None:
    one, other = (
        msgspec.defstruct("Lean", [("usd", float, value)], omit_defaults=omits, module=__name__) for value in (1.0, 2.0)
    )
    assert (codec_for(list[one]).layout != codec_for(list[other]).layout) is omits  # type: ignore[valid-type]
    within = [layout(inner=(kind, None)) for kind in (one, other)]
    assert (within[0] != within[1]) is omits
