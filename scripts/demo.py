"""Serve the storefront on 127.0.0.1:$PORT with $WORKERS workers and, once it answers, print what to try.

Where its events go through Redis one `storefront.worker` handles them, and ends with this.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from types import FrameType

import uvicorn

from storefront import demo


def announce(port: int) -> None:
    """Print what to try as soon as somebody answers."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                break
        except OSError:
            time.sleep(0.1)
    demo.main()


def number(name: str, default: int) -> int:
    """Read a number from the environment."""
    text = os.environ.get(name) or str(default)
    if not (text.isdecimal() and int(text)):
        sys.exit(f"{name}={text} is no number to start with: make demo {name}={default}")
    return int(text)


@contextmanager
def handling_events() -> Generator[None]:
    """Have a worker where there is something to hear: without Redis the application handles its events itself."""
    if os.environ.get("STOREFRONT_EVENTS_URL", "memory://") == "memory://":
        yield
        return
    # A group of its own: Ctrl-C is for the server, and what that still tells is heard.
    with subprocess.Popen([sys.executable, "-m", "storefront.worker"], process_group=0) as worker:
        try:
            yield
        finally:
            worker.terminate()


def ended(_number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C; else a signal would leave the worker behind."""
    raise KeyboardInterrupt


def main() -> None:
    """Serve until Ctrl-C."""
    port, workers = number("PORT", 8000), number("WORKERS", 1)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"The storefront did not start: {error}. If port {port} is taken: make demo PORT={port + 1}")
    # What is accepted inherits it. uvicorn does not see that a socket by number is TCP: answers would wait 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number_of_signal in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number_of_signal, ended)
    threading.Thread(target=announce, args=[port], daemon=True).start()
    try:
        with TemporaryDirectory() as directory, handling_events():
            if workers > 1:
                os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", directory)  # where they count together
            uvicorn.run(
                "storefront.main:create_app", factory=True, fd=listening.fileno(), workers=workers, access_log=False
            )
    except KeyboardInterrupt:
        print("The storefront is closed.")


if __name__ == "__main__":
    main()
