"""Workers of events in processes of their own: such as they are, and such as die in the middle of one."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session
from uvicorn_server import environment_of

from storefront.settings import Settings
from storefront.worker import main


@contextmanager
def working(settings: Settings) -> Generator[None]:
    """One that has to end cleanly by a signal."""
    with unattended(settings) as process:
        yield
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=50)
    assert process.returncode == 0, said


@contextmanager
def unattended(settings: Settings) -> Generator[subprocess.Popen[str]]:
    """One that may end as it likes."""
    command = [sys.executable, "-m", "storefront.worker"]
    with subprocess.Popen(command, env=environment_of(settings), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def die_of_it(settings: Settings, moment: str) -> None:
    """One that is killed when it is at an event: `within` its transaction, or `after` the commit."""
    command = [sys.executable, __file__, moment]
    died = subprocess.run(
        command, env=environment_of(settings), check=False, timeout=90, stdout=subprocess.PIPE, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stdout


def _doomed(moment: str) -> None:
    handled: list[str] = []

    def executed(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        if "INTO handled_events" in statement:
            handled.append(statement)
            if moment == "within":
                os.kill(os.getpid(), signal.SIGKILL)

    def committed(_session: Session) -> None:
        if handled:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", executed)
    event.listen(Session, "after_commit", committed)
    main()


if __name__ == "__main__":
    _doomed(sys.argv[1])
