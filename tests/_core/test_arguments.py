"""What can be part of a key, and how it is written down."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from tiercel._core.arguments import Encoders, Unkeyable, check_annotation


class Path:
    """Of a foreign class, which only the hook knows."""

    def __init__(self, text: str) -> None:
        self.text = text


def take_apart(kind: type) -> Callable[[Any], object] | None:
    if kind is Path:
        return lambda one: one.text
    if kind is PurePosixPath:
        return str
    return None


encode = Encoders(take_apart).encode


class Colour(Enum):
    RED = 1
    GREEN = 2


class Shade(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


class Spot(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Frozen:
    x: object
    y: object = None


@dataclass(frozen=True)
class Other:
    x: object
    y: object = None


@dataclass
class Thawed:
    x: int


class Grown(Frozen):
    """May carry what is no field."""


class Tagged:
    def __init__(self, name: object) -> None:
        self.name = name

    def __cache_key__(self) -> object:
        return self.name


class Named(str):
    __slots__ = ()


class Laden(str):  # noqa: SLOT000 - so that it takes attributes
    """A string with attributes."""


class Slotted(int):
    __slots__ = ()


class Id(UUID):
    """As database drivers return them."""


BERLIN = ZoneInfo("Europe/Berlin")
NAN = float("nan")

DIFFERENT: list[object] = [
    None, False, True, 0, 1, -1, 2**64, 10**5000, 0.0, -0.0, 1.0, NAN, -NAN, math.inf, "", "1", "a", "None", "\ud800",
    b"", b"1", b"a", Decimal(1), Decimal("1.0"), Decimal("NaN"), UUID(int=1), Id(int=1), date(2024, 1, 1),
    datetime(2024, 1, 1),  # noqa: DTZ001 - naive ones are values, too
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    datetime(2024, 1, 1, 1, tzinfo=BERLIN), datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), time(1), time(1, tzinfo=UTC), timedelta(1), timedelta(0, 1),
    Colour.RED, Colour.GREEN, Shade.RED, Level.LOW, Word.A, Right.READ, Right.READ | Right.WRITE, Right(0),
    [], (), set(), frozenset(), {}, [1], (1,), {1}, frozenset({1}), [1.0], [True], ["1"], [[1]], [1, 2], [2, 1],
    [[1], 2], [[1, 2]], [[], []], ["a", "b"], ["ab"], ["a", ["b"]], {"a": 1}, {"a": True}, {"a": [1]}, {"a": {"b": 1}},
    {1: "a"}, Point(1, 2), Spot(1, 2), (1, 2), Frozen(1), Frozen(1.0), Frozen(1, 2), Other(1), Frozen(Frozen(1)),
    Tagged("a"), Tagged("b"), Named("a"), Slotted(1), Path("a"), PurePosixPath("a"), int, str, Frozen,
]  # fmt: skip


def test_values_that_differ_in_type_or_content_are_never_written_alike() -> None:
    written = [encode(one) for one in DIFFERENT]
    assert len(set(written)) == len(written)
    assert [encode(one) for one in DIFFERENT] == written


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({1, 2, 3, 40, 50}, {50, 40, 3, 2, 1}),
        (frozenset({"a", "b", "c"}), frozenset({"c", "b", "a"})),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([{"a": 1, "b": {3, 1}}], [{"b": {1, 3}, "a": 1}]),
        (float("nan"), float("nan")),
        (10**50, 10**50),
        (Frozen([1]), Frozen([1])),
        (Tagged("a"), Tagged("a")),
        (Path("a"), Path("a")),
        (datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2024, 1, 1, tzinfo=BERLIN)),
    ],
)
def test_equal_values_are_written_alike_whatever_their_order(one: object, same: object) -> None:
    assert encode(one) == encode(same)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.uuids(),
    st.datetimes(timezones=st.none() | st.timezones()), st.dates(), st.timedeltas(), st.sampled_from([*Colour, *Word]),
)  # fmt: skip
keyable = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(), inner),
        st.frozensets(st.integers() | st.text()), st.builds(Frozen, inner, inner),
    ),
    max_leaves=8,
)  # fmt: skip


def exactly(one: Any) -> object:
    """A rendering in which only what is the same is equal."""
    kind: Any = type(one)
    if kind in {list, tuple}:
        return kind, tuple(map(exactly, one))
    if kind is dict:
        return kind, frozenset((name, exactly(inner)) for name, inner in one.items())
    if kind is frozenset:
        return kind, frozenset(map(exactly, one))
    return (kind, exactly(one.x), exactly(one.y)) if kind is Frozen else (kind, repr(one))


@given(keyable, keyable)
def test_values_are_written_alike_exactly_where_they_are_the_same(one: object, other: object) -> None:
    assert (encode(one) == encode(other)) == (exactly(one) == exactly(other))
    assert encode(one) == Encoders(take_apart).encode(one)


@given(st.lists(keyable, max_size=4), st.lists(keyable, max_size=4))
def test_what_is_written_never_runs_into_the_next(one: list[object], other: list[object]) -> None:
    same = [*map(exactly, one)] == [*map(exactly, other)]
    assert (b"".join(map(encode, one)) == b"".join(map(encode, other))) == same


class Session:
    """What nobody can key."""


Number = NewType("Number", int)
Handle = NewType("Handle", Session)
T = TypeVar("T")
ALIAS = TypeAliasType("ALIAS", list[int])
ALIAS_OF_FOREIGN = TypeAliasType("ALIAS_OF_FOREIGN", dict[str, Session])


class Typed(TypedDict):
    a: int
    b: list[str]


class TypedBadly(TypedDict):
    session: Session


@dataclass(frozen=True)
class Node:
    children: "tuple[Node, ...]"


@dataclass(frozen=True)
class Lost:
    x: "NowhereDefined"  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


@dataclass(frozen=True)
class Holder:
    session: Session


class Pair(NamedTuple):
    session: Session


@dataclass(frozen=True)
class Page(Generic[T]):
    items: tuple[T, ...]


@pytest.mark.parametrize(
    "annotation",
    [
        None, int, bool, float, str, bytes, Decimal, UUID, date, datetime, time, timedelta, Colour, Right, Level, Path,
        type, type[Session], Any, object, T, Number, int | None, Annotated[int, "doc"], Literal["a", 1], list,
        list[int], tuple[int, ...], tuple[int, str], set[str], frozenset[Colour], dict[str, list[int]], Sequence[int],
        Frozen, Node, Lost, Point, Typed, Tagged, Page[int], ALIAS,
    ],
    ids=repr,
)  # fmt: skip
def test_annotations_of_what_can_be_keyed_are_accepted(annotation: Any) -> None:
    check_annotation(annotation, take_apart)


@pytest.mark.parametrize(
    ("annotation", "names"),
    [
        (Session, "Session"),
        (Session | None, "Session"),
        (list[Session], "Session"),
        (dict[str, tuple[Session, ...]], "Session"),
        (Annotated[Session, "doc"], "Session"),
        (Handle, "Session"),
        (Callable[[], int], "Callable"),
        (Iterator[int], "Iterator"),
        (Thawed, "Thawed"),
        (Grown, "Grown"),
        (Holder, "Session"),
        (Pair, "Session"),
        (TypedBadly, "Session"),
        (Page[Session], "Session"),
        (tzinfo, "tzinfo"),
        (ALIAS_OF_FOREIGN, "Session"),
    ],
    ids=repr,
)
def test_annotations_of_what_cannot_be_keyed_are_refused_by_name(annotation: Any, names: str) -> None:
    with pytest.raises(Unkeyable, match=names):
        check_annotation(annotation, take_apart)


class Zone(tzinfo):
    """Whose offset depends on the day."""

    def utcoffset(self, dt: datetime | None, /) -> timedelta | None:
        return None if dt is None else timedelta(hours=1)

    def dst(self, dt: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None, /) -> str | None:
        return None


def laden() -> Laden:
    one = Laden("a")
    one.__dict__["more"] = 1
    return one


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (Session(), "Session"),
        ([1, Session()], "Session"),
        ({"a": Session()}, "Session"),
        (Frozen(Session()), "Session"),
        (Thawed(1), "Thawed"),
        (Grown(1), "Grown"),
        (bytearray(b"a"), "bytearray"),
        (laden(), "Laden with attributes"),
        (Tagged(1), "__cache_key__"),
        (datetime(2024, 1, 1, tzinfo=Zone()), "Zone"),
        (iter([1]), "list_iterator"),
        (len, "builtin_function_or_method"),
    ],
)
def test_a_value_that_cannot_be_keyed_is_refused_by_name(one: object, says: str) -> None:
    for _ in range(2):
        with pytest.raises(Unkeyable, match=says):
            encode(one)


def test_two_classes_of_one_name_are_never_taken_for_each_other() -> None:
    def build() -> type[Enum]:
        class Local(Enum):
            A = 1

        return Local

    one, two = build(), build()
    encoders = Encoders(take_apart)
    encoders.encode(one["A"])
    with pytest.raises(Unkeyable, match="two classes of that name"):
        encoders.encode(two["A"])
