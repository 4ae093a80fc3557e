"""A real PostgreSQL, reached through a socket in a directory of its own, ended by its process id."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

OWNER = "postgres"
"""PostgreSQL refuses to run as root; its Debian package brings this user."""
OPTIONS = (
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "jit=off"),
    "max_prepared_transactions=8",  # for commits in two phases
)


class Postgres:
    """One server without any wish to survive a power cut, which a test may end and start again."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._process: subprocess.Popen[bytes] | None = None
        root = os.geteuid() == 0
        self.user = OWNER if root else pwd.getpwuid(os.geteuid()).pw_name
        self._owner = OWNER if root else None
        self._groups: list[int] | None = [] if root else None  # none of root's
        if root:
            shutil.chown(place, OWNER, OWNER)

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://{self.user}@/{database}?host={self.place}"

    def start(self) -> "Postgres":
        """Start it; again after `end`, with what it had."""
        data = self.place / "data"
        if not data.exists():
            self._run("initdb", "--pgdata", str(data), "--locale=C", "--encoding=UTF8", "--auth=trust", "--no-sync")
        options = [part for option in OPTIONS for part in ("-c", option)]
        command = [found("postgres"), "-D", str(data), "-k", str(self.place), *options]
        log = (self.place / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.place,
                user=self._owner,
                group=self._owner,
                extra_groups=self._groups,
                process_group=0,  # Ctrl-C is for whoever started it
            )
        deadline = time.monotonic() + 60.0
        while not self._answers():
            assert time.monotonic() < deadline, (self.place / "log").read_text()
            time.sleep(0.02)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self) -> None:
        """At once, without waiting for whoever is connected."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def create(self, database: str, *, template: str = "template0") -> str:
        """Make a database, perhaps a copy of another; its URL."""
        self._run("createdb", "-h", str(self.place), "-T", template, database)
        return self.url(database)

    def drop(self, database: str) -> None:
        self._run("dropdb", "-h", str(self.place), "--force", database)

    def _answers(self) -> bool:
        asked = [found("pg_isready"), "-q", "-h", str(self.place)]
        return subprocess.run(asked, cwd=self.place, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [found(program), *arguments]
        subprocess.run(
            command,
            cwd=self.place,
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._owner,
            group=self._owner,
            extra_groups=self._groups,
        )


def found(program: str) -> str:
    """A program of the newest PostgreSQL; Debian keeps them beside each other, and off the PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda file: int(file.parts[4]))
    path = str(beside[-1]) if beside else shutil.which(program)
    assert path is not None, "`make test` installs it: scripts/need postgresql"
    return path


@contextmanager
def running(place: Path) -> Generator[Postgres]:
    server = Postgres(place)
    try:
        yield server.start()
    finally:
        server.end()
