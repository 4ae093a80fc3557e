"""Real Redis servers on free loopback ports, ended by their process id."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom

BUS = 10_000
"""The servers of a cluster talk to each other on a port that is so much higher."""


def free_port() -> int:
    """A port that nobody listens on, nor on that of its bus, until it is used.

    Below those that the system itself gives to clients, and of each process of tests its own: in between comes nobody.
    """
    while True:
        port = _DICE.randrange(10_000, 10_000 + BUS, PROCESSES) + _OWN
        with socket.socket() as found, socket.socket() as beside, suppress(OSError):
            found.bind(("127.0.0.1", port))
            beside.bind(("127.0.0.1", port + BUS))
            if port not in _given:
                _given.add(port)
                return port


PROCESSES = 16
_OWN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
_DICE = SystemRandom()
"""Not the one that Hypothesis begins anew for each test."""
_given = set[int]()


class Server:
    """One server, which a test may stop, kill and start again on the same port."""

    def __init__(self, place: Path, *more: str, port: int = 0, sentinel: bool = False) -> None:
        self.port = port or free_port()
        self.place = place
        self._more = more
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        place.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> "Server":
        program = shutil.which("redis-server")
        assert program is not None, "`make test` installs it: scripts/need redis-server"
        given = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.place), "--save", "", *self._more]
        command = [program, str(self.place / "sentinel.conf"), "--sentinel"] if self._sentinel else [program, *given]
        # A group of its own: Ctrl-C is for whoever started it.
        self._process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, process_group=0)
        deadline = time.monotonic() + 60.0
        while True:
            try:
                if self.ask("PING") == b"+PONG":
                    return self
            except OSError:
                assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)

    def ask(self, *command: str) -> bytes:
        """The first line of an answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(_packed(command))
            with connection.makefile("rb") as answer:
                return answer.readline().strip()

    def read(self, *command: str) -> str:
        """A bulk answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(_packed(command))
            with connection.makefile("rb") as answer:
                size = answer.readline()
                if not size:
                    message = "the server has closed the connection"
                    raise ConnectionResetError(message)
                return answer.read(int(size[1:])).decode()

    def says(self, text: str, *command: str) -> bool:
        """Whether a bulk answer says it. Who becomes primary closes connections: then it has not said so yet."""
        try:
            return text in self.read(*command)
        except OSError:
            return False

    def lines(self, *command: str) -> list[str]:
        """An array of bulk answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(_packed(command))
            with connection.makefile("rb") as answer:
                count = int(answer.readline()[1:])
                return [answer.read(int(answer.readline()[1:]) + 2)[:-2].decode() for _ in range(count)]

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._ended()

    def end(self) -> None:
        if self._process is not None:
            self.thaw()
            self._signal(signal.SIGTERM)
            self._ended()

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def _ended(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def watched(place: Path) -> tuple[Server, Server, Server]:
    """A primary, its replica, and the Sentinel that watches them as `shop`."""
    primary, watcher = Server(place / "primary"), Server(place / "sentinel", sentinel=True)
    replica = Server(place / "replica", "--replicaof", "127.0.0.1", str(primary.port))
    lines = [
        f"port {watcher.port}", "bind 127.0.0.1", f"dir {watcher.place}",
        f"sentinel monitor shop 127.0.0.1 {primary.port} 1", "sentinel down-after-milliseconds shop 500",
        "sentinel failover-timeout shop 5000",
    ]  # fmt: skip
    (watcher.place / "sentinel.conf").write_text("\n".join(lines) + "\n")
    return primary, replica, watcher


def _packed(command: Sequence[str]) -> bytes:
    parts = [f"${len(part.encode())}\r\n{part}\r\n" for part in command]
    return f"*{len(parts)}\r\n{''.join(parts)}".encode()


@contextmanager
def servers(made: Sequence[Server]) -> Generator[None]:
    """Start them in order; end all that run, whatever happens."""
    try:
        for server in made:
            server.start()
        yield
    finally:
        for server in reversed(made):
            server.end()
