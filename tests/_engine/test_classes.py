"""What is known of the classes of others: how they are keyed, and how they are made up."""

from collections.abc import Callable
from functools import cached_property
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from tiercel._core.arguments import Encoders, Unkeyable, check_annotation
from tiercel._engine.classes import parts_of


class Struct(msgspec.Struct):
    x: int
    inner: Any = msgspec.UNSET


class OpenStruct(msgspec.Struct, dict=True):
    x: int


def opened(x: int, **more: object) -> OpenStruct:
    made = OpenStruct(x)
    vars(made).update(more)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    return made


class FrozenStruct(msgspec.Struct, frozen=True):
    x: int
    inner: Any = ()


class Model(pydantic.BaseModel):
    x: int
    inner: Any = None
    y: int = 5

    @cached_property
    def listed(self) -> list[int]:
        return [self.x]


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    x: int
    inner: Any = None


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


encode = Encoders(parts_of).encode


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Model(x=1), Model(x=2)),
        (Model(x=1), Model(x=1, y=5)),
        (Model(x=1), FrozenModel(x=1)),
        (Model(x=1, inner=[1]), Model(x=1, inner=[1.0])),
        (Struct(1), Struct(2)),
        (opened(1), opened(1, y=2)),
        (opened(1, y=1), opened(1, y=2)),
        (Struct(1, None), FrozenStruct(1, None)),
        (Path("a"), Path("b")),
        (Path("a"), "a"),
        (ip_address("127.0.0.1"), "127.0.0.1"),
        (pydantic.HttpUrl("https://a.example"), pydantic.HttpUrl("https://b.example")),
    ],
)
def test_models_and_structs_are_keyed_by_class_and_content(one: Any, other: Any) -> None:
    assert encode(one) != encode(other)


@pytest.mark.parametrize(
    "make",
    [lambda: Model(x=1, inner={"a": [1]}), lambda: Struct(1, [1]), lambda: Path("a")],
    ids=["model", "struct", "path"],
)
def test_equal_models_and_structs_share_a_key(make: Callable[[], Any]) -> None:
    assert encode(make()) == encode(make())


@pytest.mark.parametrize(
    "annotation", [Model, Struct, Path, list[Model], IPv4Address, pydantic.EmailStr, pydantic.HttpUrl]
)
def test_models_and_structs_are_accepted_as_parameters(annotation: Any) -> None:
    check_annotation(annotation, parts_of)


@pytest.mark.parametrize("annotation", [User, Account, pydantic.SecretStr, list[User]])
def test_what_lives_in_a_session_or_hides_its_content_is_no_parameter(annotation: Any) -> None:
    with pytest.raises(Unkeyable):
        check_annotation(annotation, parts_of)


def test_what_a_model_has_computed_for_itself_does_not_change_its_key() -> None:
    fresh, used = Model(x=1), Model(x=1)
    assert used.listed == [1]
    assert encode(fresh) == encode(used)
