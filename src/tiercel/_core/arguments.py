"""Which values may be part of a memoised call's key, and how they are written down.

An encoding begins with a letter for its type and tells where it ends, so a row of them reads in one way only: values
that differ in type or content never share one. It does not depend on the process, nor on the order of a set or a dict.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from struct import Struct
from types import NoneType
from typing import Any, Final, Protocol, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from tiercel._core.annotations import foreign_class

Encode = Callable[[Any], bytes]
Parts = Callable[[type], Callable[[Any], object] | None]
"""Over a class that is not known here: how to take its instances apart into values that are; None: it cannot be."""

_SCALARS = (bool, int, float, str, bytes, Decimal, UUID, datetime, date, time, timedelta)
_KNOWN = frozenset({*_SCALARS, NoneType, Enum, type})
_double = Struct(">d").pack


class Unkeyable(Exception):  # noqa: N818 - a verdict on a value, turned into ConfigurationError by who knows the call
    """A value, or an annotation, that cannot be part of a key; `args[0]` describes it."""


class Encoders(dict[type, Encode]):
    """How to encode, by exact type; what is not among the builtins is worked out when it is first met."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(_BUILTINS)
        self._parts = parts
        self._names: dict[bytes, type] = {}
        self.update(
            {
                list: lambda value: self._row(b"l", value),
                tuple: lambda value: self._row(b"t", value),
                set: lambda value: self._row(b"u", value, in_order=False),
                frozenset: lambda value: self._row(b"z", value, in_order=False),
                dict: self._dict,
            }
        )

    def encode(self, value: object) -> bytes:
        return self[type(value)](value)

    def __missing__(self, kind: type) -> Encode:
        self[kind] = encode = self._encoder(kind)
        return encode

    def _encoder(self, kind: type) -> Encode:
        if type in kind.__mro__:
            return lambda value: b"k" + self._class(value)
        name = b"o" + self._class(kind)
        if hasattr(kind, "__cache_key__"):
            return lambda value: name + _own_key(value)
        if Enum in kind.__mro__:
            return lambda value: name + (_int(value.value) if isinstance(value, Flag) else _text(value.name))
        if (take_apart := self._parts(kind)) is not None:
            return lambda value: name + self.encode(take_apart(value))
        if is_frozen_dataclass(kind):
            fields = [field.name for field in dataclasses.fields(cast("Any", kind))]
            return lambda value: name + self._row(b"t", [getattr(value, field) for field in fields])
        return self._subclass(kind, name)

    def _subclass(self, kind: type, name: bytes) -> Encode:
        """A subclass of a builtin is keyed like it, and by its name, if it carries nothing of its own."""
        base = stateless_base(kind)
        if base is None:
            raise Unkeyable(kind.__qualname__)
        encode = self[base]

        def encode_if_bare(value: object) -> bytes:
            if getattr(value, "__dict__", None):
                raise Unkeyable(f"{kind.__qualname__} with attributes of its own")
            return name + encode(value)

        return encode_if_bare

    def _class(self, kind: type) -> bytes:
        name = _text(kind.__module__) + _text(kind.__qualname__)
        if self._names.setdefault(name, kind) is not kind:
            raise Unkeyable(f"{kind.__qualname__}, one of two classes of that name,")
        return name

    def _row(self, letter: bytes, values: Collection[object], *, in_order: bool = True) -> bytes:
        encoded = [self[type(value)](value) for value in values]
        return b"%b%d:%b" % (letter, len(encoded), b"".join(encoded if in_order else sorted(encoded)))

    def _dict(self, values: Mapping[object, object]) -> bytes:
        encoded = [self.encode(key) + self.encode(value) for key, value in values.items()]
        return b"m%d:%b" % (len(encoded), b"".join(sorted(encoded)))


def stateless_base(kind: type) -> type | None:
    """The builtin scalar, or named tuple, that a class without `__slots__` of its own derives from."""
    bases = kind.__mro__[1:]
    wanted = (*_SCALARS, tuple) if hasattr(kind, "_fields") else _SCALARS
    base = next((base for base in bases if base in wanted), None)
    if base is None:
        return None
    between = kind.__mro__[: kind.__mro__.index(base)]
    return None if any(cls.__dict__.get("__slots__") for cls in between) else base


def is_frozen_dataclass(kind: type) -> bool:
    """Whether the class itself is one: a plain subclass of one may carry what is no field."""
    params = kind.__dict__.get("__dataclass_params__")
    return params is not None and params.frozen


def check_annotation(annotation: object, parts: Parts) -> None:
    """Raise Unkeyable if no value of the annotated type can be keyed. What cannot be told is left to the values."""

    def known(kind: type) -> bool:
        return not _KNOWN.isdisjoint(kind.__mro__) or hasattr(kind, "__cache_key__") or parts(kind) is not None

    foreign = foreign_class(annotation, known, is_frozen_dataclass)
    if foreign is not None:
        raise Unkeyable(foreign.__qualname__)


class _Keyed(Protocol):
    def __cache_key__(self) -> object: ...


def _own_key(value: _Keyed) -> bytes:
    key = value.__cache_key__()
    if isinstance(key, str):
        return _text(key)
    raise Unkeyable(f"{type(value).__qualname__}, whose __cache_key__() returned {type(key).__qualname__}, not str,")


def _int(value: int) -> bytes:
    return b"i%x;" % value  # hexadecimal, because str() refuses beyond 4,300 digits


def _float(value: float) -> bytes:
    return b"f" + _double(value)  # the bits: 0.0 is not -0.0, and a nan is itself


def _text(value: str) -> bytes:
    data = str.encode(value, "utf-8", "surrogatepass")
    return b"s%d:" % len(data) + data


def _datetime(value: datetime) -> bytes:
    naive = datetime.isoformat(value.replace(tzinfo=None))
    return b"m" + _text(naive) + (b"1" if value.fold else b"0") + _zone(value.tzinfo)


def _time(value: time) -> bytes:
    naive = time.isoformat(value.replace(tzinfo=None))
    return b"c" + _text(naive) + (b"1" if value.fold else b"0") + _zone(value.tzinfo)


def _timedelta(value: timedelta) -> bytes:
    return b"r" + _int(value.days) + _int(value.seconds) + _int(value.microseconds)


def _zone(zone: tzinfo | None) -> bytes:
    """Moments that are equal differ in what arithmetic makes of them, so the zone counts, not the offset of the day."""
    if zone is None:
        return b"N"
    if isinstance(zone, ZoneInfo) and zone.key:
        return b"z" + _text(zone.key)
    offset = zone.utcoffset(None)  # None where it depends on the day
    if offset is None:
        raise Unkeyable(f"datetime in a {type(zone).__qualname__}, neither zoneinfo.ZoneInfo nor a fixed offset,")
    return b"x" + _text(type(zone).__qualname__) + _timedelta(offset) + _text(zone.tzname(None) or "")


_BUILTINS: Final[Mapping[type, Encode]] = {
    NoneType: lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _int,
    float: _float,
    str: _text,
    bytes: lambda value: b"b%d:%b" % (len(value), value),
    Decimal: lambda value: b"D" + _text(str(value)),  # 1.0 is not 1
    UUID: lambda value: b"U" + value.bytes,
    date: lambda value: b"d" + _text(date.isoformat(value)),
    datetime: _datetime,
    time: _time,
    timedelta: _timedelta,
}
