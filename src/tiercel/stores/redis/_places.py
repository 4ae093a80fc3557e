"""From a URL to connections: redis, rediss, unix, Sentinel, a cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from tiercel.errors import ConfigurationError

try:
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
    from redis.backoff import NoBackoff
    from redis.crc import key_slot
    from redis.exceptions import AskError, MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError
except ImportError as error:  # pragma: no cover - tried by hand, in an environment without the extra
    _MESSAGE = "redis:// needs the package redis. Install the extra: pip install 'tiercel[redis]'."
    raise ConfigurationError(_MESSAGE) from error

__all__ = [
    "HANDSHAKE", "Address", "AskError", "Command", "Connection", "MovedError", "Place",
    "RedisError", "ResponseError", "is_cluster", "is_of_another", "key_slot", "nodes", "opened", "place", "shown",
]  # fmt: skip

CONNECT: Final = 1.0
"""Seconds that a connection may take to come about."""
HANDSHAKE: Final = 2.0
"""Seconds until the server has said that it may be used."""
_pool: Any = ConnectionPool
_sentinel: Any = Sentinel
_sentinel_pool: Any = SentinelConnectionPool

SENTINEL: Final = "redis+sentinel"
_NUMBERED: Final = ("redis", "rediss")
"""Where the path is the number of a database, which redis-py takes for 0 if it is anything else."""
CLUSTER: Final = ("redis+cluster", "rediss+cluster")
_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379

Command = tuple[bytes | str | int, ...]


Address = tuple[str, int]
"""Host and port."""


class Connection(Protocol):
    """What is used of a connection of redis-py."""

    async def connect(self) -> None: ...

    async def on_connect(self) -> None: ...

    async def disconnect(self, *, nowait: bool) -> None: ...

    async def send_command(self, *command: bytes | str | int) -> None: ...

    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...

    async def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None: ...

    async def read_response(self) -> Any: ...  # noqa: ANN401 - whatever the server says


Greet = Callable[[Connection], Awaitable[None]]


async def opened(connection: Connection) -> None:
    """Connect and greet; a server that accepts and then says nothing is not waited for."""
    async with asyncio.timeout(HANDSHAKE):
        try:
            await connection.connect()
        except MasterNotFoundError as error:
            found_none, _, _ = str(error).partition(" : ")  # the rest shows all that redis-py knows of each Sentinel
            raise MasterNotFoundError(found_none) from None


def is_of_another(refusal: ResponseError) -> bool:
    """Whether it is not the server that it was: a replica by now, or one that was started again."""
    named = isinstance(refusal, (ReadOnlyError, NoScriptError))
    return named or "READONLY" in str(refusal)  # as 6.2 tells it of a script


class Place(NamedTuple):
    """A way to a server."""

    connection: Callable[[], Connection]
    """Makes a connection, which is still to be opened."""
    watchers: Sequence[Any] = ()
    """Clients that were asked where it is."""

    async def aclose(self) -> None:
        """Ask nobody any more."""
        for watcher in self.watchers:
            await watcher.aclose()


def place(url: str, greet: Greet) -> Place:
    """What makes connections; each is greeted before anything is asked on it.

    Raises:
        ConfigurationError: The URL cannot be read.
    """
    parts = urlsplit(url)
    how = _how(greet)
    try:
        if parts.scheme in _NUMBERED:
            int(parts.path.strip("/") or 0)
        found = _watched(parts, how) if parts.scheme == SENTINEL else Place(_pool.from_url(url, **how).make_connection)
        found.connection()  # only now are the options looked at
    except (ValueError, TypeError, AttributeError) as error:
        raise _unreadable(url, error) from None  # which may quote what is secret
    return found


def is_cluster(url: str) -> bool:
    """Whether a URL is that of a cluster."""
    return urlsplit(url).scheme in CLUSTER


def nodes(url: str) -> tuple[list[Address], Callable[[Address, Greet], Connection]]:
    """The servers of a cluster that a URL names; and what makes a connection to one, which is greeted.

    Raises:
        ConfigurationError: The URL cannot be read.
    """
    parts = urlsplit(url)
    account, at, hosts = parts.netloc.rpartition("@")

    def connection(address: Address, greet: Greet) -> Connection:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        netloc = f"{account}{at}{host}:{address[1]}"
        there = urlunsplit((parts.scheme.partition("+")[0], netloc, "", parts.query, ""))
        made: Connection = _pool.from_url(there, **_how(greet)).make_connection()
        return made

    async def nothing(connection: Connection) -> None: ...

    try:
        if parts.path.strip("/") not in {"", "0"}:
            raise _unreadable(url, ValueError("a cluster has no databases to choose from"))
        found = [_address(host, _PORT) for host in hosts.split(",")]
        connection(found[0], nothing)
    except (ValueError, TypeError) as error:
        raise _unreadable(url, error) from None
    return found, connection


def _how(greet: Greet) -> dict[str, Any]:
    return {
        "redis_connect_func": greet,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT,
        "socket_timeout": None,
        "protocol": 2,
    }


def _unreadable(url: str, error: Exception) -> ConfigurationError:
    ways = f"{SENTINEL}://host:26379,other:26379/service or {CLUSTER[0]}://host:6379,other:6379"
    why = "" if "@" in url else f": {error}"  # which may quote what is secret
    return ConfigurationError(
        f"{shown(url)} cannot be read{why}. Write redis://host:6379/0, rediss://, unix:///path, {ways}."
    )


def shown(url: str) -> str:
    """The URL without what is secret in it, wherever that was written."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        scheme, rest = "", url
    _, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{'***' if at else ''}{at}{place.partition('?')[0]}"


def _watched(parts: SplitResult, how: dict[str, Any]) -> Place:
    """Connections to whichever server Sentinel says is the primary; the password is the server's."""
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        message = "the name of the service is missing"
        raise ValueError(message)
    account, _, hosts = parts.netloc.rpartition("@")
    name, _, password = account.partition(":")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    asked = {"socket_connect_timeout": CONNECT, "socket_timeout": CONNECT, "retry": Retry(NoBackoff(), 0)}
    if options.get("sentinel_password"):
        asked["password"] = options.pop("sentinel_password")
    sentinel = _sentinel([_address(host, _SENTINEL_PORT) for host in hosts.split(",")], sentinel_kwargs=asked)
    given = {"username": unquote(name) or None, "password": unquote(password) or None, "db": int(database or 0)}
    pool = _sentinel_pool(service, sentinel, check_connection=False, **given, **options, **how)
    return Place(pool.make_connection, sentinel.sentinels)


def _address(host: str, default: int) -> Address:
    name, _, port = host.rpartition(":")
    return (name.strip("[]"), int(port)) if name else (host, default)
