"""The way of an event from the outbox to whoever it concerns: in this process, or through Redis.

Both take what is due out of the same outbox, and end in the same consumers.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Protocol

from storefront.database import Database
from storefront.events import queries
from storefront.events.consumers import Consumers
from storefront.events.letters import Letter
from storefront.events.models import Waiting
from storefront.events.retries import Retries
from storefront.events.schemas import ProductChanged, read
from storefront.events.streams import Streams
from storefront.live.feed import Feed
from storefront.settings import Settings

BATCH = 100
"""Events that are taken out of the outbox at once."""

_log = logging.getLogger("storefront.events")


class Bus(Protocol):
    """Takes events where they belong."""

    async def forward(self) -> float:
        """Take what is due out of the outbox, and tell in how many seconds more will be, as far as is known."""
        ...

    async def letters(self) -> list[Letter]:
        """Read the dead letters."""
        ...

    async def replay(self, letter: str) -> bool:
        """Let a dead letter be tried again; False where there is none of this id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHome:
    """Without Redis: the consumers run in this process. The outbox is the queue."""

    database: Database
    consumers: Consumers
    retries: Retries
    feed: Feed

    async def forward(self) -> float:
        """Handle what is due."""
        async with self.database.sessions() as session:
            waiting = await queries.due(session, datetime.now(UTC), BATCH)
        for each in waiting:
            await self._handle(each)
        async with self.database.sessions() as session:
            due = await queries.next_due(session)
        return inf if due is None else max(0.0, (due - datetime.now(UTC)).total_seconds())

    async def letters(self) -> list[Letter]:
        """Read the dead letters."""
        async with self.database.sessions() as session:
            dead = await queries.dead(session)
        return [Letter(str(each.id), each.event, each.attempts, each.error or "") for each in dead]

    async def replay(self, letter: str) -> bool:
        """Let a dead letter be tried again by the application that runs, within its `events_sweep`."""
        async with self.database.sessions() as session, session.begin():
            return letter.isdecimal() and await queries.revive(session, int(letter), datetime.now(UTC))

    async def _handle(self, waiting: Waiting) -> None:
        try:
            event = read(waiting.event)
            if waiting.attempts == 0 and isinstance(event, ProductChanged):
                self.feed.tell(event)
            async with asyncio.timeout(self.retries.patience.total_seconds()):
                await self.consumers.take(event, waiting_id=waiting.id)
        except Exception as error:  # noqa: BLE001 - whatever it is: it is logged, counted, and tried again or put aside
            wait = self.retries.after(waiting.attempts + 1)
            _log.exception("event %s failed, attempt %s", waiting.id, waiting.attempts + 1)
            async with self.database.sessions() as session, session.begin():
                due = datetime.now(UTC) + (wait or timedelta())
                said = repr(error)[:500]
                await queries.failed(session, waiting.id, due_at=due, dead=wait is None, error=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverRedis:
    """With Redis: events are handed to streams. The consumers run in `python -m storefront.worker`."""

    database: Database
    streams: Streams

    async def forward(self) -> float:
        """Hand on what is due. Who dies between this and the commit hands it on again: consumers know it by its id."""
        async with self.database.sessions() as session, session.begin():
            waiting = await queries.due(session, datetime.now(UTC), BATCH)
            if not waiting:
                return inf
            await self.streams.hand_on([each.event for each in waiting])
            await queries.remove(session, [each.id for each in waiting])
        return 0.0

    async def letters(self) -> list[Letter]:
        """Read the dead letters."""
        return await self.streams.letters()

    async def replay(self, letter: str) -> bool:
        """Hand a dead letter to the consumers again."""
        return await self.streams.replay(letter)


def bus_of(settings: Settings, database: Database, consumers: Consumers, feed: Feed) -> tuple[Bus, Streams | None]:
    """Make the bus that the settings describe, and the streams that it uses, if it does."""
    if settings.events_url == "memory://":
        return AtHome(database=database, consumers=consumers, retries=Retries.of(settings), feed=feed), None
    streams = Streams(settings.events_url)
    return OverRedis(database=database, streams=streams), streams
