"""Serve the storefront on 127.0.0.1:$PORT with $WORKERS workers and, once it answers, print what to try."""

import os
import socket
import sys
import threading
import time
import urllib.request
from tempfile import TemporaryDirectory

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


def main() -> None:
    """Serve until Ctrl-C."""
    port, workers = number("PORT", 8000), number("WORKERS", 1)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"The storefront did not start: {error}. If port {port} is taken: make demo PORT={port + 1}")
    # What is accepted inherits it. uvicorn does not see that a socket by number is TCP: answers would wait 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=announce, args=[port], daemon=True).start()
    with TemporaryDirectory() as directory:
        if workers > 1:
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", directory)  # where they count together
        try:
            uvicorn.run(
                "storefront.main:create_app", factory=True, fd=listening.fileno(), workers=workers, access_log=False
            )
        except KeyboardInterrupt:
            print("The storefront is closed.")


if __name__ == "__main__":
    main()
