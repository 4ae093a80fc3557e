"""What happened, for observers. A closed union: `match` on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request, or a memoised call, was answered. `result` is hit, stale, miss, collapsed, bypass or refused."""

    key: str
    result: str
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A response or value was stored. `weight` in bytes, `lifetime` in seconds."""

    key: str
    weight: int
    lifetime: float
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """An answer was not stored."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidated:
    """Tags were cut at log id `id`."""

    id: int
    tags: tuple[str, ...]
    soft: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Something went wrong that no caller was told of. `where` names the part, `error` is the exception."""

    where: str
    error: BaseException
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Something stored could not be read, and counts as not there. `where` names the store, `reason` what is wrong."""

    where: str
    reason: str
    key: str = ""


Event = Answered | Stored | Discarded | Invalidated | Failed | Unreadable
