"""The service under load: real workers on the loopback interface, ended by process id."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from storefront.settings import Settings

LONGEST_END = 20
"""Seconds for the workers to finish; then they are killed."""


@contextmanager
def serving(settings: Settings, *, workers: int, factory: str, log: Path) -> Generator[str]:
    """Serve an application with these settings; its URL. A connection waits until somebody is there to answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        # What is accepted inherits it. uvicorn does not see that a socket by number is TCP: answers would wait 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port: int = listening.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", factory, "--factory", "--no-access-log"]
        command += ["--fd", str(listening.fileno()), "--workers", str(workers), "--timeout-keep-alive", "60"]
        with log.open("wb") as lines:
            process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                env={**os.environ, **_variables(settings)},
                stdout=lines,
                stderr=lines,
                pass_fds=[listening.fileno()],
                process_group=0,  # Ctrl-C is for us, who end it
            )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            _ended(process)


def _variables(settings: Settings) -> dict[str, str]:
    # What is secret is dumped as asterisks; what is not set must not be the text `None`.
    values = settings.model_dump(mode="json", exclude={"secret", "metrics_token"}, exclude_none=True).items()
    told = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in values}
    paths = os.pathsep.join(path or "." for path in sys.path)
    return {**{f"STOREFRONT_{name.upper()}": value for name, value in told.items()}, "PYTHONPATH": paths}


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(LONGEST_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the group that we made
        process.wait()
