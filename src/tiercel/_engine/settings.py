"""What a program says of its cache: settings, by argument or environment variable, and the fields of a declaration."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal, Required, TypedDict, cast
from urllib.parse import unquote, urlsplit

from tiercel._core.policy import Duration, Per, Policy, Tags, seconds
from tiercel._engine.compression import zstd
from tiercel.errors import ConfigurationError
from tiercel.spi import Observer

SHORTEST: Final = 16
"""Characters of a secret."""
LEAST: Final = 64_000
"""Bytes of the smallest memory tier."""

_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_size = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")


class PolicyFields(TypedDict, total=False):
    """The fields of `Policy`, as keyword arguments."""

    ttl: Required[Duration]
    stale_while_revalidate: Duration
    stale_if_error: Duration
    browser_ttl: Duration
    cdn_ttl: Duration | None
    tags: str | Iterable[str] | Tags
    per: str | Per
    vary: str | Iterable[str]
    key: Callable[..., Any] | None


_NOT_FOR_FUNCTIONS: Final = ("browser_ttl", "cdn_ttl", "per", "vary")


def policy_of(decorator: str, given: tuple[object, ...], fields: Mapping[str, Any]) -> Policy:
    """The policy that a decorator was given.

    Raises:
        ConfigurationError: There is no lifetime, a field that the decorator does not know or cannot read, or something
            that is not named.
    """
    if given:
        what = "the function itself" if callable(given[0]) else repr(given[0])
        message = f"@cache.{decorator} was given {what}. Name what it takes: @cache.{decorator}(ttl=60)."
        raise ConfigurationError(message)
    known = [name for name in PolicyFields.__annotations__ if decorator != "memoize" or name not in _NOT_FOR_FUNCTIONS]
    for name in fields:
        if name not in known:
            why = " means nothing: a function has no clients" if name in _NOT_FOR_FUNCTIONS else " is unknown"
            message = f"@cache.{decorator}({name}=...){why}. It takes {', '.join(known)}."
            raise ConfigurationError(message)
    if fields.get("ttl") is None:
        message = f"@cache.{decorator} needs a lifetime. Give one: @cache.{decorator}(ttl=60)."
        raise ConfigurationError(message)
    try:
        return Policy(**fields)
    except ConfigurationError as error:
        raise ConfigurationError(f"@cache.{decorator}(...): {error}") from None


def names(tags: Iterable[object], where: str) -> tuple[str, ...]:
    """Tags, each a string of its own."""
    found = tuple(tags)
    for tag in found:
        if callable(tag):
            message = f'{where} was given a function, not a tag. Name some: {where}("products").'
            raise ConfigurationError(message)
        if not isinstance(tag, str):
            message = f'{where}({tag!r}): a tag is a string. Give each as an argument of its own: {where}("a", "b").'
            raise ConfigurationError(message)
        if not tag:
            message = f'{where}(""): a tag is not empty. Name one: {where}("products"). For everything: cache.clear().'
            raise ConfigurationError(message)
    return cast("tuple[str, ...]", found)


def size(value: int | str, where: str) -> int:
    """Bytes, from a number or from text such as "256MB"."""
    found = _bytes(value)
    if found is None or found < LEAST:
        message = f'{where}: {value!r} is not a size. Give bytes, {LEAST} at least, or text such as "256MB" or "1GiB".'
        raise ConfigurationError(message)
    return found


def threshold(value: int | str | None, where: str) -> int | None:
    """Bytes above which something is compressed, or None."""
    if value is None:
        return None
    found = _bytes(value)
    if found is None or found < 0:
        message = f'{where}: {value!r} is not a size. Give bytes, or text such as "4KB"; None: nothing is compressed.'
        raise ConfigurationError(message)
    if zstd() is None:
        message = f"{where} needs the package zstandard. Install the extra: pip install 'tiercel[zstd]'."
        raise ConfigurationError(message)
    return found


def compression(value: str, where: str) -> str:
    """What is sent compressed: "off", "public" or "all"."""
    if value in {"off", "public", "all"}:
        return value
    message = (
        f"{where}: {value!r} is not 'off' (what is stored goes out as it is), 'public' (whatever is for everyone is "
        "compressed for whoever wants that) nor 'all' (also what is for one user: read about BREACH first)."
    )
    raise ConfigurationError(message)


def _bytes(value: object) -> int | None:
    """From a number or from text such as "256MB"."""
    if isinstance(value, str):
        read = _size.fullmatch(value.strip())
        factor = _UNITS.get(read[2]) if read else None
        return int(read[1]) * factor if read and factor else None
    return value if type(value) is int else None


def share(value: float | str, where: str) -> float:
    """A number from 0 up to, but not including, 1."""
    found = _number(value)
    if found is None or not 0.0 <= found < 1.0:
        message = f"{where}: {value!r} is not a share. Give a number from 0 up to, but not including, 1."
        raise ConfigurationError(message)
    return found


def patience(value: Duration, where: str) -> float:
    """Seconds, more than none."""
    found = seconds(value, where=where)
    if not found:
        message = f"{where} cannot be {value!r}: nothing would ever be done in that time. Give seconds, such as 0.05."
        raise ConfigurationError(message)
    return found


def limit(value: Duration | None, where: str) -> float | None:
    """Seconds, or None for no limit."""
    return None if value is None else seconds(value, where=where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where what is stored lives."""

    kind: Literal["memory", "local", "redis"]
    path: str = ""


def place(url: str, where: str) -> Place:
    """The place that a URL names."""
    read = urlsplit(url)
    if read.scheme == "memory" and not (read.netloc or read.path.strip("/")):
        return Place(kind="memory")
    if url.startswith("local:///") and len(read.path) > 1 and not (read.query or read.fragment):
        return Place(kind="local", path=unquote(read.path))
    if read.scheme in {"redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster"}:
        if not url[len(read.scheme) :].startswith("://"):
            ways = "as in 'redis://cache:6379/0' and 'unix:///run/redis.sock'"
            message = f"{where}: {_shown(url)!r} is no URL. Two slashes stand behind '{read.scheme}:', {ways}."
            raise ConfigurationError(message)
        return Place(kind="redis", path=url)
    message = (
        f"{where}: {_shown(url)!r} is no place for a cache. Give 'memory://' (this "
        "process), 'local:///var/cache/shop' (a directory, which all processes of the host share; three slashes) or "
        "'redis://cache:6379/0' (a server, which all hosts share)."
    )
    raise ConfigurationError(message)


def _shown(url: str) -> str:
    """Without the account in it."""
    _, colon, rest = url.partition(":")
    after = rest.lstrip("/") if colon else url
    return url[: len(url) - len(after)] + after.rpartition("@")[2]


def secrets(given: str | Iterable[str] | None, where: str) -> tuple[bytes, ...]:
    """What stored bytes are signed with: the first; and read with: any."""
    texts = [given] if isinstance(given, str) else list(given or ())
    for text in texts:
        if len(text) < SHORTEST:
            message = f"{where}: a secret of {len(text)} characters is too short. Give {SHORTEST} or more, at random."
            raise ConfigurationError(message)
    return tuple([text.encode() for text in texts])


def told(observers: object, where: str) -> tuple[Observer, ...]:
    """Those who are told of events."""
    if isinstance(observers, Iterable):
        found = tuple(cast("Iterable[Observer]", observers))
        if all(callable(getattr(one, "on_event", None)) for one in found):
            return found
    message = f"{where}: {observers!r} is no list of objects with a method on_event(event). Give one."
    raise ConfigurationError(message)


def _limit_in_words(text: str, where: str) -> float | None:
    """As written in an environment variable: "none", bare seconds, or a number with a unit."""
    if text.lower() == "none":
        return None
    number = _number(text)
    return seconds(text if number is None else number, where=where)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


_PREFIX: Final = "TIERCEL_"
_READ: Final[Mapping[str, Callable[[str, str], object]]] = {
    "url": lambda text, where: place(text, where) and text,
    "secret": lambda text, _: [] if text.lower() == "none" else [one.strip() for one in text.split(",")],
    "store_size": size,
    "store_timeout": _limit_in_words,
    "compress_above": lambda text, where: threshold(None if text.lower() == "none" else text, where),
    "compress": compression,
    "memory": size,
    "namespace": lambda text, _: text,
    "jitter": share,
    "soft_timeout": _limit_in_words,
    "hard_timeout": _limit_in_words,
}


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that environment variables give; an empty one is as good as none.

    Raises:
        ConfigurationError: A variable cannot be read, or none of that name is.
    """
    found: dict[str, Any] = {}
    known = {f"{_PREFIX}{name.upper()}": (name, read) for name, read in _READ.items()}
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable not in known:
            near = get_close_matches(variable.removeprefix(_PREFIX).lower(), _READ, n=1)
            message = f"{variable} is unknown. " + (f"Did you mean {_PREFIX}{near[0].upper()}? " if near else "")
            raise ConfigurationError(f"{message}There are {', '.join(known)}.")
    for variable, (name, read) in known.items():
        text = environ.get(variable, "").strip()
        if text:
            found[name] = read(text, variable)
    return found
