"""The tables of events."""

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storefront.database import Model, Moment


class Waiting(Model):
    """The outbox: an event that nobody has been told of yet. With Redis it waits to be handed on; without, to be done.

    It is written by the transaction that it tells of, and removed by the one that does what follows from it. One that
    is `dead` has failed too often, and waits for somebody to look at it.
    """

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "dead", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(Text)
    due_at: Mapped[datetime] = mapped_column(Moment)
    attempts: Mapped[int]
    dead: Mapped[bool]
    error: Mapped[str | None] = mapped_column(String(500))


class Handled(Model):
    """An event whose consequences are in the database: written together with them. It may come again."""

    __tablename__ = "handled_events"

    event_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, index=True)
