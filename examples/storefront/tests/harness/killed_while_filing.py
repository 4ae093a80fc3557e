"""The storefront, in a process that dies between the bytes of a file and its row: started by a test of that."""

import os
import signal

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session
from starlette.types import ASGIApp

from storefront.main import create_app
from storefront.uploads.models import Upload


def create() -> ASGIApp:
    """An application that is killed before it commits an upload, or after it has committed that one is gone."""
    when, doomed = os.environ["KILLED"], list[Session]()

    def flushed(session: Session, _context: object) -> None:
        if when == "before" and any(isinstance(each, Upload) for each in session.new):
            doomed.append(session)

    def executed(state: ORMExecuteState) -> None:
        if when == "after" and state.is_delete:
            doomed.append(state.session)

    def die(session: Session) -> None:
        if session in doomed:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Session, "after_flush", flushed)
    event.listen(Session, "do_orm_execute", executed)
    event.listen(Session, f"{when}_commit", die)
    return create_app()
