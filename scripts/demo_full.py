"""Start the whole storefront without containers: PostgreSQL, Redis, two processes, a worker, nginx on 127.0.0.1:$PORT.

Everything lives in a temporary directory and ends with this: by Ctrl-C, or by a signal to end.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from topology import Topology, standing

from storefront import demo
from storefront.load import load
from storefront.settings import Settings

TRY = """And of the whole:

# the hit names who stored it, nginx passes it on; Age tells how old it is
curl -si URL/api/v1/products/1 | grep -i -e ^cache-status -e ^age
# 404 here, 200 there: how ready a process is only it tells
curl -s -o /dev/null -w '%{http_code}\\n' URL/readyz; curl -s API/readyz
# what an order sets going is done by the worker, a moment later, and seen through both processes
TOKEN=$(curl -s URL/api/v1/token -d username=alice -d password=wonderland | cut -d'"' -f4)
KEY=$(date +%s%N)
curl -s URL/api/v1/orders -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY" \\
  --json '{"lines": [{"product_id": 2}]}'
curl -s URL/api/v1/products/bestsellers
# what the database's end costs: nothing, for what is stored
kill -INT POSTGRES; curl -si URL/api/v1/products/1 | grep -i ^cache-status; curl -s API/readyz
"""


def main() -> None:
    """Start all, say what to try, and wait for Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ended)
    port = _port()
    try:
        with (
            TemporaryDirectory(prefix="storefront-") as directory,
            standing(Path(directory), Settings().catalogue, port) as topology,
        ):
            _start(topology, console)
            os.environ["PORT"] = str(port)
            demo.main()
            _say(topology, console)
            signal.pause()
    except (AssertionError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"The storefront did not start: {error}")
    except KeyboardInterrupt:
        console.print("\nThe storefront is closed, and all that it was made of.")


def _start(topology: Topology, console: Console) -> None:
    steps = (
        ("PostgreSQL", topology.start_postgres),
        ("Redis for the cache", topology.start_redis),
        ("Redis for events", topology.start_events),
        ("migrations", topology.migrate),
        ("the diamonds", lambda: load(topology.settings, Console(quiet=True))),
        ("the first process", lambda: topology.start_api(1)),
        ("the second process", lambda: topology.start_api(2)),
        ("the worker", topology.start_worker),
        ("nginx", topology.start_nginx),
    )
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(steps))
        for name, step in steps:
            progress.update(task, description=name)
            step()
            progress.advance(task)


def _say(topology: Topology, console: Console) -> None:
    words = {"URL": topology.nginx.url, "API": topology.urls[0], "POSTGRES": str(topology.postgres.pid)}
    text = TRY
    for word, meant in words.items():
        text = text.replace(word, meant)
    console.print(text, markup=False)
    console.print("Ctrl-C ends it.")


def _port() -> int:
    text = os.environ.get("PORT") or "8000"
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        sys.exit(f"PORT={text} is no port: make demo-full PORT=8000")
    try:
        socket.create_server(("127.0.0.1", int(text))).close()
    except OSError as error:
        sys.exit(f"The storefront did not start: {error}. If port {text} is taken: make demo-full PORT={int(text) + 1}")
    return int(text)


def _ended(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
