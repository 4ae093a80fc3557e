"""The storefront, in a process that dies the moment that an order is committed: started by a test of that."""

import os
import signal

from sqlalchemy import event
from sqlalchemy.orm import Session
from starlette.types import ASGIApp

from storefront.main import create_app
from storefront.orders.models import Order


def create() -> ASGIApp:
    """An application that is killed after the database has an order, and before the cache is told."""
    doomed: list[Session] = []

    def flushed(session: Session, _context: object) -> None:
        if any(isinstance(each, Order) for each in session.new):
            doomed.append(session)

    def committed(session: Session) -> None:
        if session in doomed:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Session, "after_flush", flushed)
    event.listen(Session, "after_commit", committed)
    return create_app()
