"""Digests of what describes a shape: the same in every process, and of whatever means the same."""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Any, Final, cast

_SIZE: Final = 16
_ORDERED: Final = "prefixItems"
"""The one list of a JSON Schema in which the order counts (2020-12, Core §10.3.1.1)."""


def digest(described: Mapping[str, object]) -> bytes:
    """A digest of JSON schemas, settings, and names of classes.

    Neither the order of a set nor the address of an object may be in it: either is another one in another process.
    """
    return blake2b(_written(described).encode("utf-8", "surrogatepass"), digest_size=_SIZE).digest()


def _written(part: object, *, ordered: bool = False) -> str:
    if isinstance(part, Mapping):
        pairs = cast("Mapping[object, object]", part).items()
        named = sorted([f"{_written(one)}:{_written(of, ordered=one == _ORDERED)}" for one, of in pairs])
        return f"{{{','.join(named)}}}"
    if isinstance(part, AbstractSet | Sequence) and not isinstance(part, str | bytes):
        members = [_written(one) for one in cast("Sequence[object]", part)]
        return f"[{','.join(members if ordered else sorted(members))}]"
    if part is None or isinstance(part, bool | int | float | str):
        return json.dumps(part)
    return json.dumps(name_of(part))


def name_of(annotation: Any) -> str:  # noqa: ANN401 - whatever stands in a signature
    """A name for what has no schema: the same in every process that has it, and never the address of an object."""
    parts: tuple[Any, ...] = getattr(annotation, "__args__", ())
    if parts and not isinstance(annotation, type):
        of: Any = getattr(annotation, "__origin__", cast("object", type(annotation)))
        return f"{name_of(of)}[{', '.join([name_of(part) for part in parts])}]"
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    if text is not None:
        return str(text)
    named: Any = annotation if hasattr(annotation, "__qualname__") else cast("object", type(annotation))
    return f"{named.__module__}.{named.__qualname__}"
