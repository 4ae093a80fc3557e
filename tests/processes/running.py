"""Starts the service as real processes, asks it, and ends it by its process id."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis_server import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUSY = 5.0
"""Seconds to wait for the store where clients of our own, and other tests, keep the machine busy."""
TAKES_OVER = 5.0
"""Seconds that such a machine may take for what takes milliseconds; a lease that nobody takes over lasts far longer."""


@dataclass(frozen=True)
class Answer:
    status: int
    said: str
    """Cache-Status."""
    body: Any


@dataclass(frozen=True)
class Service:
    """Workers that listen on one port."""

    port: int
    place: Path

    async def ask(self, path: str, method: str = "GET") -> Answer:
        """A request on a connection of its own: whichever worker accepts it answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        lines = head.decode().split("\r\n")
        if not lines[0]:
            raise ConnectionResetError
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        answer = json.loads(body) if fields.get("content-type") == "application/json" else body
        return Answer(int(lines[0].split()[1]), fields.get("cache-status", ""), answer)

    def calls(self, what: str) -> list[int]:
        """The workers that ran an endpoint, in order."""
        return [int(worker) for worker, _ in self._told(what)]

    def times(self, what: str) -> list[float]:
        """When they did."""
        return [float(moment) for _, moment in self._told(what)]

    def _told(self, what: str) -> list[list[str]]:
        file = self.place / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.split()[1:] for line in lines if line.split()[0] == what]

    async def workers(self, count: int) -> set[int]:
        """The process ids of so many workers; it answers only when all of them are there."""
        found = set[int]()
        while len(found) < count:
            answers = await asyncio.gather(*[self.ask("/ready") for _ in range(8)], return_exceptions=True)
            found.update([answer.body for answer in answers if isinstance(answer, Answer)])
            await asyncio.sleep(0.02)
        return found


async def until(true: Callable[[], bool], within: float = 60.0) -> None:
    """Wait for something that other processes do."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - it happens elsewhere
            await asyncio.sleep(0.01)


async def ended(process: Process) -> None:
    """End a process, and wait until it has ended."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(60):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def service(cache: str, place: Path, *, workers: int, patience: float = 0.05) -> AsyncGenerator[Service]:
    """Workers of a service with this cache, which waits so many seconds for its store, and a hundred times as many for
    what it computes.
    """
    port = free_port()
    command = [
        "uvicorn",
        "service:create_app",
        "--factory",
        "--port",
        str(port),
        "--workers",
        str(workers),
        "--log-level",
        "critical",
    ]
    paths = os.pathsep.join([str(HERE), str(ROOT / "src")])
    given = {"SERVICE_CACHE": cache, "SERVICE_PLACE": str(place), "SERVICE_PATIENCE": str(patience)}
    environment = {**os.environ, **given, "PYTHONPATH": paths}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, env=environment)
    made = Service(port, place)
    try:
        async with asyncio.timeout(120):
            await made.workers(workers)
        yield made
    finally:
        await ended(process)
