"""All SQL of events."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.database import insert_into
from storefront.events.models import Handled, Waiting
from storefront.events.schemas import Event


def put(session: AsyncSession, event: Event, now: datetime) -> None:
    """Let an event wait; the transaction of the session decides whether it has happened."""
    session.add(Waiting(event=event.model_dump_json(), due_at=now, attempts=0, dead=False, error=None))


async def due(session: AsyncSession, now: datetime, limit: int) -> Sequence[Waiting]:
    """Read the first events whose time has come. PostgreSQL passes over those that another process is at."""
    ready = select(Waiting).where(Waiting.dead.is_(False), Waiting.due_at <= now).order_by(Waiting.id).limit(limit)
    return (await session.scalars(ready.with_for_update(skip_locked=True))).all()


async def next_due(session: AsyncSession) -> datetime | None:
    """Tell when the next event's time comes; None where none waits."""
    return await session.scalar(select(func.min(Waiting.due_at)).where(Waiting.dead.is_(False)))


async def claim(session: AsyncSession, waiting_id: int) -> bool:
    """Take an event out of the outbox; False where another process has."""
    gone = delete(Waiting).where(Waiting.id == waiting_id).returning(Waiting.id)
    return (await session.scalars(gone)).one_or_none() is not None


async def remove(session: AsyncSession, waiting_ids: Sequence[int]) -> None:
    """Take events out of the outbox."""
    await session.execute(delete(Waiting).where(Waiting.id.in_(waiting_ids)))


async def failed(session: AsyncSession, waiting_id: int, *, due_at: datetime, dead: bool, error: str) -> None:
    """Note that an event could not be handled."""
    values = {"due_at": due_at, "dead": dead, "error": error, "attempts": Waiting.attempts + 1}
    await session.execute(update(Waiting).where(Waiting.id == waiting_id).values(**values))


async def first(session: AsyncSession, event_id: str, now: datetime) -> bool:
    """Note an event as handled; False where it was. Of two at once the second waits for the first."""
    noted = insert_into(session, Handled).values(event_id=event_id, at=now).on_conflict_do_nothing()
    return (await session.scalars(noted.returning(Handled.event_id))).one_or_none() is not None


async def forget_handled(session: AsyncSession, before: datetime) -> None:
    """Forget what was handled long ago: it does not come again."""
    await session.execute(delete(Handled).where(Handled.at < before))


async def dead(session: AsyncSession) -> Sequence[Waiting]:
    """Read the events that have failed too often."""
    return (await session.scalars(select(Waiting).where(Waiting.dead.is_(True)).order_by(Waiting.id))).all()


async def revive(session: AsyncSession, waiting_id: int, now: datetime) -> bool:
    """Let a dead event be tried again from the beginning; False where there is none of this id."""
    values = {"dead": False, "due_at": now, "attempts": 0}
    statement = update(Waiting).where(Waiting.id == waiting_id, Waiting.dead.is_(True)).values(**values)
    return (await session.scalars(statement.returning(Waiting.id))).one_or_none() is not None
