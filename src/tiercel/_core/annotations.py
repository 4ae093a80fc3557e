"""What the annotations of functions and classes say."""

import collections.abc
from collections.abc import Callable, Iterator
from types import SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

UNKNOWN: Final = object()
"""What stands for an annotation that is absent, or names nothing that exists yet."""

_UNRESOLVED = (NameError, AttributeError, TypeError, SyntaxError)
"""What `get_type_hints` raises of a string that names nothing, yet or at all."""

_OPEN: Final = frozenset[object]({
    object, Any, Union, UnionType, collections.abc.Hashable,
    list, tuple, set, frozenset, dict, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Set,
    collections.abc.MutableSet, collections.abc.Mapping, collections.abc.MutableMapping, collections.abc.Collection,
    collections.abc.Iterable,
})  # fmt: skip
"""What leaves it to the values, or to what it is parametrised with."""

_NO_PARTS: Final = frozenset[object]({None, Literal, type, ClassVar})
"""What is not parametrised with the classes of its values."""


def resolved(annotation: object, function: Callable[..., object]) -> object:
    """An annotation of the function with its strings evaluated; UNKNOWN where that cannot be done."""
    stand_in = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(stand_in, globalns=getattr(function, "__globals__", None), include_extras=True)["it"]
    except _UNRESOLVED:
        return UNKNOWN


def foreign_class(
    annotation: object,
    known: Callable[[type], bool],
    composite: Callable[[type], bool],
    seen: frozenset[type] = frozenset(),
) -> type | None:
    """The first class in the annotation that is not known; of composite ones the fields are looked at."""
    for kind in _classes(annotation):
        if kind in seen or known(kind):
            continue
        if not (composite(kind) or hasattr(kind, "_fields") or is_typeddict(kind)):
            return kind
        for field in _fields(kind):
            if (foreign := foreign_class(field, known, composite, seen | {kind})) is not None:
                return foreign
    return None


def _fields(kind: type) -> list[object]:
    try:
        return list(get_type_hints(kind, include_extras=True).values())
    except _UNRESOLVED:
        return []  # then it is left to the values


def _classes(annotation: object) -> Iterator[type]:
    """The classes that values of the annotated type are made of."""
    origin = get_origin(annotation)
    if isinstance(annotation, NewType):
        yield from _classes(annotation.__supertype__)
    elif type(annotation).__name__ == "TypeAliasType":  # `type X = ...`, from Python 3.12 or typing_extensions
        yield from _classes(getattr(annotation, "__value__", UNKNOWN))
    elif origin is Annotated:
        yield from _classes(get_args(annotation)[0])
    elif origin not in _NO_PARTS:
        for part in (origin, *get_args(annotation)):
            yield from _classes(part)
    elif origin is None and isinstance(annotation, type) and annotation not in _OPEN:
        yield annotation
