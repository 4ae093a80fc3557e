"""The outbox: an event is written by the transaction that it tells of, so it has happened if and only if that has."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from storefront.events import queries
from storefront.events.schemas import Event


class Outbox:
    """Takes events; `nudged` is set when some were committed here, so that they are handed on at once."""

    def __init__(self) -> None:
        self.nudged = asyncio.Event()

    def put(self, session: AsyncSession, *events: Event) -> None:
        """Write events with the session's next flush; they are told when, and if, it commits."""
        for each in events:
            queries.put(session, each, datetime.now(UTC))
        event.listen(session.sync_session, "after_commit", self._nudge, once=True)

    def _nudge(self, _session: Session) -> None:
        self.nudged.set()
