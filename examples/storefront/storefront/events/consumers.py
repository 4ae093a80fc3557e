"""What follows from an event: done once, however often it is told, and seen by the caches of all processes."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncSession

from storefront.database import Database
from storefront.events import queries
from storefront.events.schemas import Event, OrderPlaced, ProductChanged
from storefront.sales import service as sales
from tiercel import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumers:
    """The consumers of one process: the same over Redis and without."""

    database: Database
    cache: Cache

    async def take(self, event: Event, *, waiting_id: int | None = None) -> None:
        """Do what follows from an event, and remove it from the outbox, where it waits there, all in one transaction.

        What has been handled already is not done again, but what it changed is invalidated again: whoever has handled
        it may have died before the caches had heard of it.
        """
        async with (
            self.cache.mutation(*_changed_by(event)),
            self.database.sessions() as session,
            session.begin(),
        ):
            # The first statement writes: a transaction of SQLite that begins with a read may not be let write later.
            if waiting_id is not None and not await queries.claim(session, waiting_id):
                return
            if await queries.first(session, event.id, datetime.now(UTC)):
                await _follow(session, event)


def _changed_by(event: Event) -> tuple[str, ...]:
    match event:
        case OrderPlaced():
            return ("bestsellers",)
        case ProductChanged():
            return ("recent",)
        case _:
            assert_never(event)


async def _follow(session: AsyncSession, event: Event) -> None:
    match event:
        case OrderPlaced():
            await sales.count(session, event)
        case ProductChanged():
            await sales.note(session, event)
        case _:
            assert_never(event)
