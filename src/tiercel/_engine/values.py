"""What is stored of what a memoised function returned, so that no caller's changes ever reach another's.

Three ways, the first that is faithful: what cannot be changed is shared; what MessagePack gives back exactly as it
was is kept packed, which takes least room; the rest is kept as a private copy.
"""

import inspect
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from sys import getsizeof
from types import NoneType
from typing import Any, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from tiercel._core import shapes
from tiercel._core.annotations import UNKNOWN, foreign_class, resolved
from tiercel._engine.classes import SHARED, Shape, is_mapped, is_model, shape_of
from tiercel._engine.snapshots import Snapshot, ValueNotStorable, content_of, freeze, weigh
from tiercel.errors import ConfigurationError

__all__ = ["Codec", "Packed", "Snapshot", "ValueNotStorable", "codec_for", "codec_of"]

_encode = msgspec.msgpack.Encoder().encode
_unpacked = msgspec.msgpack.Decoder[Any]().decode
_lossy = (msgspec.MsgspecError, TypeError, ValueError, OverflowError)
"""What packing and unpacking raise of values that MessagePack, or the annotation, does not cover."""

_SAYS_NOTHING = (UNKNOWN, Any, object, inspect.Parameter.empty)
_PLAIN_CONTAINERS = (list, dict, tuple, set, frozenset)
_BY_EQUALITY = frozenset({NoneType, bool, int, float, str, bytes, UUID, date, timedelta})
_BY_TEXT = frozenset({Decimal, datetime, time, timezone, ZoneInfo})
"""Equal ones may differ: in digits, fold, zone. Their `repr` tells all."""
_UNORDERED = frozenset({set, frozenset})
_BY_NAME = frozenset({"properties", "$defs"})
"""Parts of a JSON schema whose keys are names."""


class Packed(bytes):
    """A value as MessagePack."""

    __slots__ = ()


class Codec:
    """Makes payloads of what one function returns, and values of payloads."""

    __slots__ = ("_decode", "_packs", "_plain_only", "_where", "layout")

    def __init__(self, annotation: object, *, where: str) -> None:
        self._where = where
        self._plain_only = annotation in _SAYS_NOTHING or isinstance(annotation, TypeVar)
        self._decode = _unpacked
        self._packs = self._plain_only
        self.layout = ""
        """A digest of what is annotated. What was packed by another must not be unpacked by this one: a field that it
        does not have would be given its default, and be wrong."""
        if not self._plain_only:
            self._check(annotation)
            self.layout = _layout(annotation)
            # Unpacking must run no code of the class's own: on a hit it might fail, or have another outcome.
            if foreign_class(annotation, _inert, _rebuilt_as_it_was) is None:
                self._use_decoder(annotation)

    def encode(self, value: object) -> object:
        """What to store.

        ValueNotStorable: nothing; hand the value on. ConfigurationError: what is returned has to be annotated.
        """
        try:
            if self._plain_only:
                self._check_plain(value)
            thaw = freeze(value)
            if thaw is None:
                return value
            return self._packed(value) or Snapshot(thaw, weigh(value))
        except RecursionError:
            message = "it is nested too deeply, or holds itself"
            raise ValueNotStorable(message) from None

    def decode(self, payload: Any) -> Any:  # noqa: ANN401 - whatever was encoded
        """A value that is the caller's own, or that nobody can change."""
        kind = cast("type[object]", type(payload))
        if kind is Packed:
            return self._decode(payload)
        if kind is Snapshot:
            return payload.thaw()
        return payload

    def pack(self, payload: object) -> bytes | None:
        """A payload for other processes; None: they would get something else."""
        match payload:
            case Packed():
                return bytes(payload)
            case Snapshot():
                return None
            case _:
                return self._packed(payload)

    def unpack(self, data: bytes) -> object:
        """The payload that another process has packed. ValueError: it is none of this function's."""
        try:
            value = self._decode(data)
        except _lossy as error:
            raise ValueError(str(error)) from error
        return value if freeze(value) is None else Packed(data)

    def weight(self, payload: object) -> int:
        """About how many bytes it takes."""
        match payload:
            case Packed():
                return getsizeof(payload)
            case Snapshot():
                return payload.weight
            case _:
                return weigh(payload)

    def _use_decoder(self, annotation: object) -> None:
        try:
            self._decode = msgspec.msgpack.Decoder(cast("Any", annotation)).decode
        except (TypeError, NameError):  # a union of two structs without tags, a field of a class yet to come
            return
        self._packs = True

    def _packed(self, value: object) -> Packed | None:
        """None: it would come back as something else."""
        if not self._packs:
            return None
        try:
            data = _encode(value)
            return Packed(data) if _same(self._decode(data), value) else None
        except _lossy:
            return None

    def _check(self, annotation: object) -> None:
        foreign = foreign_class(annotation, _known, _composite)
        if foreign is not None:
            raise _not_data(self._where, foreign)

    def _check_plain(self, value: object) -> None:
        """Without an annotation other processes could not read anything else, so neither do we."""
        if type(value) in _PLAIN_CONTAINERS:
            for inner in cast("Iterable[object]", value):
                self._check_plain(inner)
            if isinstance(value, dict):
                for inner in cast("dict[object, object]", value).values():
                    self._check_plain(inner)
        elif type(value) not in SHARED:
            kind = type(value)
            if not (_known(kind) or _composite(kind) or shape_of(kind) is Shape.NAMED_TUPLE):
                raise _not_data(self._where, kind)
            name = kind.__qualname__
            message = (
                f"{self._where} returned a {name} and does not say so. Annotate what it returns, such as `-> {name}`."
            )
            raise ConfigurationError(message)


def codec_for(annotation: object, *, where: str = "memoize") -> Codec:
    """The codec for what is annotated so; ConfigurationError if no such value could ever be stored."""
    return Codec(annotation, where=where)


def codec_of(function: Callable[..., object]) -> Codec:
    """The codec for what the function returns."""
    owner = inspect.unwrap(function)
    written = owner.__annotations__.get("return", UNKNOWN)
    annotation = resolved(written, owner)
    if annotation is UNKNOWN and written is not UNKNOWN:
        message = (
            f"{owner.__qualname__}(): its return annotation {written!r} names nothing that exists yet."
            " Define or import it above the function, not only for type checkers."
        )
        raise ConfigurationError(message)
    return Codec(annotation, where=f"{owner.__qualname__}()")


def _layout(annotation: object) -> str:
    try:
        described = msgspec.json.schema(annotation, schema_hook=_named)
    except (TypeError, NameError):  # what it knows nothing about as a whole is not packed, and not shared
        described = {"name": shapes.name_of(annotation)}
    omits = foreign_class(annotation, _inert, _tells_all) is not None
    return shapes.digest(described if omits else _without_defaults(described)).hex()


def _named(kind: type) -> dict[str, str]:
    """What stands in for a class without a schema, so that the rest still counts."""
    return {"python": shapes.name_of(kind)}


def _tells_all(kind: type) -> bool:
    """Whether it is packed with all of its fields: what is left out for being the default is that of who reads it."""
    config = getattr(kind, "__struct_config__", None)
    return config is None or not config.omit_defaults


def _without_defaults(schema: Any, *, names: bool = False) -> Any:  # noqa: ANN401 - any part of one
    """Leave the defaults out: one may be the moment at which a process has begun. `names`: the keys are no keywords."""
    if isinstance(schema, list):
        return [_without_defaults(part) for part in cast("Iterable[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    parts = cast("dict[str, Any]", schema).items()
    told = [(key, part) for key, part in parts if names or key != "default"]
    return {key: _without_defaults(part, names=not names and key in _BY_NAME) for key, part in told}


def _inert(kind: type) -> bool:
    return shape_of(kind) in {Shape.SHARED, Shape.BARE, Shape.CONTAINER}


def _composite(kind: type) -> bool:
    return shape_of(kind) in {Shape.STRUCT, Shape.OBJECT}


def _known(kind: type) -> bool:
    return _inert(kind) or (_composite(kind) and is_model(kind))


def _rebuilt_as_it_was(kind: type) -> bool:
    return _composite(kind) and not is_model(kind) and not hasattr(kind, "__post_init__")


def _not_data(where: str, kind: type) -> ConfigurationError:
    why = "it belongs to a database session" if is_mapped(kind) else "it may share state with the rest of the program"
    return ConfigurationError(
        f"{where} returned a {kind.__qualname__}, which cannot be stored: {why}."
        " Return its data: builtins, a dataclass, a msgspec.Struct, a Pydantic model."
    )


def _same(one: object, other: object) -> bool:
    """Equal in type and content, all the way down: for `==`, 1 is True and a named tuple a tuple."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _BY_EQUALITY:
        return one == other
    if kind in _BY_TEXT:
        return repr(one) == repr(other)
    mine, others = content_of(one), content_of(other)
    if mine is None or others is None:
        return one is other  # members of an Enum
    if kind in _UNORDERED:
        return one == other and _alike(mine, others)
    return len(mine) == len(others) and all(map(_same, mine, others))


def _alike(mine: list[object], others: list[object]) -> bool:
    """Whether members of equal sets are of one type, so that none stands for another that equals it."""
    kinds = {*map(type, mine), *map(type, others)}
    return len(kinds) <= 1 and kinds <= _BY_EQUALITY
