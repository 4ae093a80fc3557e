"""Copies that cannot be reached from outside, and copies of those: what a caller changes stays the caller's.

Only what is known through and through is copied. An object whose class is not (a session's, an open file, a task) may
share state with the world, so it is refused.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from copy import copy
from functools import lru_cache, partial
from sys import getsizeof
from types import MemberDescriptorType
from typing import Any, cast

from msgspec.structs import force_setattr

from tiercel._engine.classes import SHARED, Shape, is_frozen, shape_of, slots_of

Thaw = Callable[[], Any]

_put = object.__setattr__


class ValueNotStorable(Exception):  # noqa: N818 - a verdict: the value is handed on, not stored
    """What a function returned cannot be kept apart from its caller; the message says why."""


class Snapshot:
    """A private copy that makes others."""

    __slots__ = ("thaw", "weight")

    def __init__(self, thaw: Thaw, weight: int) -> None:
        self.thaw = thaw
        self.weight = weight


def freeze(value: object) -> Thaw | None:
    """A maker of copies of the value as it is now; None: there is nothing in it that could be changed."""
    kind = type(value)
    if kind in SHARED:
        return None
    freezer = _CONTAINERS.get(kind) or _FREEZERS[shape_of(kind)]
    return freezer(value)


def content_of(value: Any) -> list[Any] | None:  # noqa: ANN401 - any value
    """What it is made of; None: nothing that could be told apart from it."""
    kind = cast("type[object]", type(value))
    match shape_of(kind):
        case Shape.CONTAINER if kind is dict:
            return [*value, *value.values()]
        case Shape.CONTAINER | Shape.NAMED_TUPLE:
            return [*value]
        case Shape.STRUCT:
            return [getattr(value, name) for name in value.__struct_fields__]
        case Shape.OBJECT:
            attributes: dict[str, object] = getattr(value, "__dict__", {})
            return [*attributes, *attributes.values(), *_slots(value).values()]
        case _:
            return None


def weigh(value: object) -> int:
    """About how many bytes a value takes, shared parts counted each time."""
    inner = content_of(value) or ()
    return getsizeof(value) + sum([getsizeof(one) if type(one) in SHARED else weigh(one) for one in inner])


def _slots(value: object) -> dict[MemberDescriptorType, object]:
    filled: dict[MemberDescriptorType, object] = {}
    for slot in slots_of(type(value)):
        with suppress(AttributeError):  # an empty one
            filled[slot] = slot.__get__(value)
    return filled


def _bare(value: object) -> Thaw | None:
    attributes: dict[str, object] | None = getattr(value, "__dict__", None)
    if attributes:
        raise ValueNotStorable(f"it holds a {type(value).__qualname__} with attributes of its own")
    return None if attributes is None else partial(copy, copy(value))


def _parts(places: Iterable[Any], values: Collection[Any]) -> list[tuple[Any, Thaw]]:
    """Where there is something that could be changed, and what makes copies of that."""
    if SHARED.issuperset(map(type, values)):
        return []
    frozen = zip(places, map(freeze, values), strict=True)
    return [(place, thaw) for place, thaw in frozen if thaw is not None]


def _filled(kept: Any, parts: list[tuple[Any, Thaw]]) -> Thaw:  # noqa: ANN401 - a list or a dict
    """Makes copies of it, with copies in it of the parts that could be changed."""
    if not parts:
        return cast("Thaw", kept.copy)
    for at, _ in parts:
        kept[at] = None

    def thaw() -> object:
        new = kept.copy()
        for at, part in parts:
            new[at] = part()
        return new

    return thaw


def _list(value: list[Any]) -> Thaw:
    return _filled(value.copy(), _parts(range(len(value)), value))


def _dict(value: dict[Any, Any]) -> Thaw:
    _all_fixed(value)
    return _filled(value.copy(), _parts(value, value.values()))


def _row(value: tuple[Any, ...]) -> Thaw | None:
    parts = _parts(range(len(value)), value)
    if not parts:
        return None
    kind, thaw = type(value), _filled(list(value), parts)
    new = cast("Any", tuple).__new__
    return lambda: new(kind, thaw())


def _set(value: set[Any]) -> Thaw:
    _all_fixed(value)
    return value.copy().copy


def _frozenset(value: frozenset[Any]) -> None:
    _all_fixed(value)


def _all_fixed(values: Collection[Any]) -> None:
    for value in () if SHARED.issuperset(map(type, values)) else values:
        if freeze(value) is not None:
            raise ValueNotStorable(f"a {type(value).__qualname__} in a set, or as a key, could be changed")


def _struct(value: Any) -> Thaw | None:  # noqa: ANN401 - a msgspec.Struct
    if getattr(value, "__dict__", None):
        raise ValueNotStorable(f"{type(value).__qualname__} has attributes besides its fields")
    kind = cast("type[object]", type(value))
    names: tuple[str, ...] = value.__struct_fields__
    parts = _parts(names, [getattr(value, name) for name in names])
    if not parts and is_frozen(kind):
        return None
    kept = value.__copy__()
    for name, _ in parts:
        force_setattr(kept, name, None)

    def thaw() -> object:
        new = kept.__copy__()
        for name, part in parts:
            force_setattr(new, name, part())
        return new

    return thaw


def _object(value: object) -> Thaw | None:
    kind = type(value)
    attributes: dict[str, Any] = dict(getattr(value, "__dict__", ()))
    slots = _slots(value)
    fields_set = next((slot for slot in slots if slot.__name__ == "__pydantic_fields_set__"), None)
    fields = slots.pop(fields_set) if fields_set else None
    parts, slot_parts = _parts(attributes, attributes.values()), _parts(slots, slots.values())
    if is_frozen(kind) and not parts and not slot_parts:
        return None  # `model_fields_set` can be changed even then, but is nothing that is served
    if fields_set:
        slot_parts.append((fields_set, _names(frozenset(cast("set[str]", fields)))))
    new_attributes = _filled(attributes, parts) if hasattr(value, "__dict__") else None
    changing = dict(slot_parts)
    fixed = tuple([(slot, inner) for slot, inner in slots.items() if slot not in changing])

    def thaw() -> object:
        new = object.__new__(kind)
        if new_attributes is not None:
            _put(new, "__dict__", new_attributes())
        for slot, inner in fixed:
            slot.__set__(new, inner)
        for slot, part in slot_parts:
            slot.__set__(new, part())
        return new

    return thaw


@lru_cache(maxsize=1024)
def _names(names: frozenset[str]) -> Thaw:
    """Shared between snapshots, because of most models the same fields are set each time."""
    return partial(set[str], names)


def _foreign(value: object) -> None:
    kind = type(value)
    raise ValueNotStorable(f"it holds a {kind.__module__}.{kind.__qualname__}, which may share state with others")


def _shared(_: object) -> None: ...


_CONTAINERS: Mapping[type, Callable[[Any], Thaw | None]] = {
    list: _list,
    dict: _dict,
    set: _set,
    tuple: _row,
    frozenset: _frozenset,
}
_FREEZERS: Mapping[Shape, Callable[[Any], Thaw | None]] = {
    Shape.SHARED: _shared,
    Shape.BARE: _bare,
    Shape.NAMED_TUPLE: _row,
    Shape.STRUCT: _struct,
    Shape.OBJECT: _object,
    Shape.FOREIGN: _foreign,
}
