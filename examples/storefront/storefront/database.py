"""The engine, its sessions, and the class that all tables derive from."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, MetaData, TypeDecorator, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

from storefront.errors import Unavailable

LONGEST_WAIT = 10
"""Seconds for a connection to come free; whoever has waited so long is told to come back: 503."""

PRAGMAS = (
    "PRAGMA journal_mode = WAL",  # readers and the writer do not wait for each other
    "PRAGMA synchronous = NORMAL",  # with WAL: a power cut may lose the last commits, never the file
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 5000",
)


_log = logging.getLogger("storefront.database")


class Moment(TypeDecorator[datetime]):
    """A moment in UTC, and read as such: SQLite forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - its signature
        """Say which zone it is."""
        return None if value is None else value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Model(DeclarativeBase):
    """Every table. Constraints have names, so that a migration can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """The engine of a URL, and its sessions. To make one connects to nothing; `aclose` ends its connections."""

    def __init__(self, url: str, *, pool: int = 8) -> None:
        remote = make_url(url).get_backend_name() != "sqlite"
        # Of a server that was restarted the old connections are of no use: each is tried before it is given out.
        self.engine = create_async_engine(
            url, pool_size=pool, max_overflow=0, pool_timeout=LONGEST_WAIT, pool_pre_ping=remote
        )
        event.listen(self.engine.sync_engine, "do_connect", _connect)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        if not remote:
            event.listen(self.engine.sync_engine, "connect", _tune)

    async def session(self) -> AsyncIterator[AsyncSession]:
        """Give one request its session: a dependency. What is not committed is rolled back."""
        # It takes no `Request`: so the cache knows that a route reads its declared parameters and no more.
        async with self.sessions() as session:
            yield session

    async def aclose(self) -> None:
        """End all connections."""
        await self.engine.dispose()


def insert_into(session: AsyncSession, model: type[Model]) -> postgresql.Insert | sqlite.Insert:
    """Make an INSERT that can say ON CONFLICT: both databases can, each with a class of its own."""
    remote = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(model) if remote else sqlite.insert(model)


def _connect(
    dialect: Dialect, _record: ConnectionPoolEntry, arguments: tuple[Any, ...], named: dict[str, Any]
) -> DBAPIConnection:
    try:
        return dialect.connect(*arguments, **named)
    except Exception as error:  # drivers raise what they like: of the system, of their own
        _log.warning("no connection to the database: %r", error)
        raise Unavailable("the database does not answer") from error


def _tune(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
