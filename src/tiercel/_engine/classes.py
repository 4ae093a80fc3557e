"""What is known of the classes of others, without importing those that may be absent."""

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, auto
from functools import cached_property, lru_cache
from pathlib import PurePath
from types import MemberDescriptorType, NoneType
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from tiercel._core.arguments import is_frozen_dataclass, stateless_base

SHARED: Final = frozenset({
    NoneType, bool, int, float, complex, str, bytes, Decimal, UUID, datetime, date, time, timedelta, timezone, ZoneInfo,
    msgspec.UnsetType,
})  # fmt: skip
"""Builtins without a part that could be changed."""

_CONTAINERS = frozenset({list, dict, set, tuple, frozenset})

_VALUE_MODULES = frozenset({
    "fractions", "ipaddress", "pydantic.networks", "pydantic.types", "pydantic_core._pydantic_core",
})  # fmt: skip
"""Where hashable classes are values: addresses, secrets, numbers."""


class Shape(Enum):
    """How instances of a class are made up, which says how to copy one."""

    SHARED = auto()
    """Cannot be changed."""
    BARE = auto()
    """A builtin by another name, as long as it has no attributes of its own."""
    CONTAINER = auto()
    NAMED_TUPLE = auto()
    STRUCT = auto()
    OBJECT = auto()
    """A dataclass or a Pydantic model: all there is to it is in `__dict__` and slots."""
    FOREIGN = auto()
    """Nobody knows what it is made of."""


def _shape_of(kind: type) -> Shape:
    if kind in SHARED or Enum in kind.__mro__ or PurePath in kind.__mro__ or _is_value(kind):
        return Shape.SHARED
    if kind in _CONTAINERS:
        return Shape.CONTAINER
    if msgspec.Struct in kind.__mro__:
        return Shape.STRUCT
    if _is_object(kind):
        return Shape.FOREIGN if is_mapped(kind) else Shape.OBJECT
    base = stateless_base(kind)
    if base is None:
        return Shape.FOREIGN
    return Shape.NAMED_TUPLE if base is tuple else Shape.BARE


shape_of: Callable[[type], Shape] = lru_cache(maxsize=1024)(_shape_of)
"""How instances of exactly this class are made up."""


def _is_object(kind: type) -> bool:
    """Not one that derives from an exception or a builtin, which keep more than attributes."""
    return (is_model(kind) or dataclasses.is_dataclass(kind)) and cast("Any", kind).__new__ is object.__new__


def is_model(kind: type) -> bool:
    """Whether it is a Pydantic model, and not a dataclass of Pydantic's."""
    return hasattr(kind, "__pydantic_validator__") and not dataclasses.is_dataclass(kind)


def is_mapped(kind: type) -> bool:
    """Whether SQLAlchemy maps it, SQLModel tables and dataclasses included: its instances live in a session."""
    return hasattr(kind, "_sa_class_manager") or hasattr(kind, "__mapper__")


def _is_frozen(kind: type) -> bool:
    if any(isinstance(member, cached_property) for base in kind.__mro__ for member in base.__dict__.values()):
        return False  # what it keeps could be changed
    if msgspec.Struct in kind.__mro__:
        return bool(cast("Any", kind).__struct_config__.frozen)
    if is_model(kind):
        return bool(cast("Any", kind).model_config.get("frozen"))
    return is_frozen_dataclass(kind)


is_frozen: Callable[[type], bool] = lru_cache(maxsize=1024)(_is_frozen)
"""Whether no attribute of a struct, dataclass or model can be set. A plain subclass of a dataclass takes others."""


def _slots_of(kind: type) -> tuple[MemberDescriptorType, ...]:
    members = [member for base in kind.__mro__ for member in base.__dict__.values()]
    return tuple([member for member in members if isinstance(member, MemberDescriptorType)])


slots_of: Callable[[type], tuple[MemberDescriptorType, ...]] = lru_cache(maxsize=1024)(_slots_of)
"""The slots of a class and its bases themselves: a subclass may hide one behind an attribute of its name."""


def parts_of(kind: type) -> Callable[[Any], object] | None:
    """How to take an argument apart for a key (`tiercel._core.arguments.Parts`)."""
    if PurePath in kind.__mro__ or kind is msgspec.UnsetType or (_is_value(kind) and not _is_secret(kind)):
        return str
    if msgspec.Struct in kind.__mro__:
        fields: tuple[str, ...] = cast("Any", kind).__struct_fields__
        # With `dict=True` it may have attributes that are no fields.
        return lambda value: ([getattr(value, field) for field in fields], getattr(value, "__dict__", None) or None)
    if is_model(kind) and not is_mapped(kind):
        return _model_parts
    return None


def _model_parts(model: Any) -> object:  # noqa: ANN401 - a Pydantic model
    """Which fields were set counts: it shows in `exclude_unset`. What `cached_property` keeps does not."""
    fields = {name: value for name, value in model.__dict__.items() if name in model.__pydantic_fields__}
    return fields, model.__pydantic_fields_set__, model.__pydantic_extra__, model.__pydantic_private__


def _is_value(kind: type) -> bool:
    hashable = cast("Any", kind).__hash__ is not None
    return hashable and any(base.__module__ in _VALUE_MODULES for base in kind.__mro__)


def _is_secret(kind: type) -> bool:
    """Its text hides what it is."""
    return any(base.__module__ == "pydantic.types" for base in kind.__mro__)
