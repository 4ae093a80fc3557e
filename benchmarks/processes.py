"""Processes that are measured, or that measure: on one core, and none outlives this one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds that a server may take to answer for the first time: a busy machine takes long to start a dozen."""
GRACE = 5.0
"""Seconds that one may take to end, once it has been told to."""
ORPHANLESS = ("setpriv", "--pdeathsig")
"""Before a signal and a command: the system sends it when this process has ended, however that came about."""


class Running(NamedTuple):
    """A server that is up."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        return _cpu_seconds(self.pid)


class Started(NamedTuple):
    """A server that is on its way."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    def up(self) -> Running:
        """Wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((HOST, self.port), timeout=1.0).close()
            except OSError:
                time.sleep(0.02)
            else:
                return Running(self.port, self.process.pid)
        self.log.seek(0)
        raise RuntimeError(f"{self.name} did not start:\n{self.log.read().decode(errors='replace')}")


@contextlib.contextmanager
def pinned() -> Generator[int | None]:
    """This process, and the load that it starts, on one core; another for the servers, None where there is none."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[-1:])
    try:
        yield usable[0] if len(usable) > 1 else None
    finally:
        os.sched_setaffinity(0, usable)


def end_in_order() -> None:
    """Have SIGTERM and SIGHUP end this process as Ctrl-C does: what was started ends, what was written goes.

    Also SIGINT, which a shell has commands in the background ignore.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(  # noqa: PLR0913 - all that there is to say of a process
    name: str, command: Sequence[str], *, port: int, core: int | None, environment: Mapping[str, str], alone: bool
) -> Generator[Started]:
    """A server, which ends with the block; that it is up is waited for apart, so that several start at once.

    One that is `alone` has no processes of its own to end.
    """
    orphanless = (*ORPHANLESS, "KILL" if alone else "TERM")
    pin = () if core is None else ("taskset", "--cpu-list", str(core))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*orphanless, *pin, *command], stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
        try:
            yield Started(name, process, port, log)
        finally:
            end(process)


@contextlib.contextmanager
def answering(command: Sequence[str], core: int | None = None) -> Generator["Answering"]:
    """A process that answers each line with one."""
    pin = () if core is None else ("taskset", "--cpu-list", str(core))
    process = subprocess.Popen(
        [*ORPHANLESS, "TERM", *pin, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield Answering(process)
    finally:
        end(process)
        with contextlib.suppress(BrokenPipeError):  # what it was not told any more
            process.communicate()


class Answering(NamedTuple):
    process: subprocess.Popen[str]

    def ask(self, line: str) -> str:
        asking, answers = self.process.stdin, self.process.stdout
        if asking is None or answers is None:
            raise RuntimeError("It was started without pipes.")
        asking.write(f"{line}\n")
        asking.flush()
        answer = answers.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.process.args!r} has ended.")
        return answer


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    process.send_signal(signal.SIGCONT)  # it may have been stopped to see what that does
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def said(command: Sequence[str], *, seconds: float, told: str = "") -> str:
    """What a command prints that has so long for it."""
    return subprocess.run(
        [*ORPHANLESS, "TERM", *command], input=told, capture_output=True, text=True, check=True, timeout=seconds
    ).stdout


def python_module(module: str, *arguments: str, interpreter: Path | str = sys.executable) -> list[str]:
    return [str(interpreter), "-m", module, *arguments]


def _cpu_seconds(pid: int) -> float:
    """Of a process, its threads, and the processes that it has started."""
    spent = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent + sum(map(_cpu_seconds, _children(pid)))


def _children(pid: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            continue  # it has ended meanwhile
        if parent == pid:
            yield int(stat.parent.name)
