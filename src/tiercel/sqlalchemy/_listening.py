"""Hearing what others change in PostgreSQL.

deaf ──────▶ hearing    everything of the database is cut: a snapshot may be older than this
hearing ───▶ deaf       everything is cut: of what comes now nobody is told
deaf                    nothing that is read is stored, through whichever engine of the database
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from tiercel.errors import ConfigurationError
from tiercel.sqlalchemy._names import text_of_json
from tiercel.sqlalchemy._source import Source
from tiercel.sqlalchemy._triggers import CHANNEL

PULSE: Final = 5.0
"""Seconds between two looks whether the connection is still there; and that each may take."""
AGAIN: Final = 0.5
"""Seconds until the next try, where it is not."""


@asynccontextmanager
async def listening(engine: AsyncEngine, *, channel: str = CHANNEL) -> AsyncGenerator[None]:
    """While this is open, what others change in PostgreSQL reaches the cache.

    It keeps a connection of its own, beside those of the pool. When that is lost, and when it is there again, all that
    was read of the database is invalidated; in between nothing that is read of it is stored.

    Args:
        engine: One of `postgresql+asyncpg` that is tracked.
        channel: The channel that the triggers tell.

    Raises:
        ConfigurationError: The engine is not tracked, or its driver is not asyncpg.

    Example:
        >>> from contextlib import asynccontextmanager
        >>> from fastapi import FastAPI
        >>> from tiercel.sqlalchemy import listening
        >>> @asynccontextmanager
        ... async def lifespan(app: FastAPI):
        ...     async with listening(app.state.engine):
        ...         yield
    """
    source: object = getattr(engine.dialect, "tiercel_source", None)
    if not isinstance(source, Source) or engine.dialect.driver != "asyncpg":
        message = f"listening({engine!r}): give an engine of postgresql+asyncpg that is tracked: track(engine, cache)."
        raise ConfigurationError(message)
    ear = _Ear(engine, source, channel)
    ear.deafen()
    task = asyncio.create_task(ear.run(), name="tiercel listening")
    try:
        await ear.tried.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        source.deaf.discard(ear)


class _Ear:
    def __init__(self, engine: AsyncEngine, source: Source, channel: str) -> None:
        self.tried = asyncio.Event()
        """It hears, or has failed to once: a start does not wait for a database that is not there."""
        self._engine = engine
        self._source = source
        self._channel = channel
        self._lost = asyncio.Event()
        self._told_of_it = False

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                self._tell(error)
            self.tried.set()
            await asyncio.sleep(AGAIN)

    def deafen(self) -> None:
        if self not in self._source.deaf:
            self._source.deaf.add(self)
            self._forget_all()

    async def _listen(self) -> None:
        """Until the connection fails, which raises."""
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await connection.run_sync(Connection.detach)  # the pool is for those who come and go
            try:
                await self._hear(driver)
            finally:
                self.deafen()
                driver.terminate()  # it may be the kind that never says goodbye

    async def _hear(self, driver: Any) -> None:
        self._lost.clear()
        driver.add_termination_listener(self._ended)
        await driver.add_listener(self._channel, self._heard)
        self._source.deaf.discard(self)
        self._told_of_it = False
        self._forget_all()
        self.tried.set()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PULSE):
                    await self._lost.wait()
            await driver.execute("SELECT 1", timeout=PULSE)

    def _ended(self, *_: object) -> None:
        self.deafen()
        self._lost.set()

    def _forget_all(self) -> None:
        self._source.cache.invalidate_now((self._source.names.everything,))

    def _tell(self, error: BaseException) -> None:
        """Once, until it hears again."""
        if not self._told_of_it:
            self._told_of_it = True
            self._source.cache.misled("listening", error, "Nothing that is read is stored until it listens again.")

    def _heard(self, _connection: object, _pid: int, _channel: str, message: str) -> None:
        try:
            tags = self._tags(json.loads(message))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._source.cache.misled("listening", error, f"{message[:100]!r} is no notification of ours.")
            self._forget_all()
        else:
            self._source.cache.invalidate_now(tags)

    def _tags(self, told: dict[str, Any]) -> tuple[str, ...]:
        names, table, rows = self._source.names, str(told["table"]), told["rows"]
        texts = [None] if rows is None else [text_of_json(row) for row in rows]
        if None in texts:
            return names.table(table), names.rows(table)
        return names.table(table), *[names.row(table, text) for text in texts if text is not None]
