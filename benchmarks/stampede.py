"""A thousand callers of one cold key: of one worker, and of four."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple, cast

from benchmarks.apps import HANDLER_SECONDS, PLACE
from benchmarks.rows import Benchmark, Measure, Row, Run, value
from benchmarks.servers import HOST, Peer, fetch, redis, redis_url, serving, uvicorn
from benchmarks.timing import on_loop

CALLERS = 1_000
WORKERS = 4
TRIES = 5
"""Stampedes in which all workers should have been met."""
MILLI = 1e3
LAST = value("≤", 1.3 * HANDLER_SECONDS * MILLI + 100)
ONCE = value("≤", 1)


class Stampede(NamedTuple):
    """Milliseconds until the last answer, and how many of the callers each worker had."""

    last: float
    shares: Sequence[int]


def rows(run: Run) -> Iterator[Row]:
    peers = [uvicorn("FastAPI, nothing cached", "slow_uncached"), uvicorn("Tiercel", "slow_installed")]
    yield from _stampedes(run, peers, workers=1)


def several_workers(run: Run) -> Iterator[Row]:
    with TemporaryDirectory() as directory, redis(run) as server:
        place = Path(directory)
        peers = [
            _workers("each worker for itself", "memory://", place / "itself"),
            _workers("Tiercel, local://", f"local://{place}/file", place / "local"),
            _workers("Tiercel, redis://", redis_url(server), place / "redis"),
        ]
        yield from _stampedes(run, peers, workers=WORKERS)


def _workers(name: str, url: str, place: Path) -> Peer:
    place.mkdir()
    told = {"TIERCEL_URL": url, PLACE: str(place)}
    return uvicorn(name, "slow_shared", workers=WORKERS, environment=told)


def _stampedes(run: Run, peers: Sequence[Peer], *, workers: int) -> Iterator[Row]:
    calls: dict[str, list[float]] = {peer.name: [] for peer in peers}
    shares: dict[str, list[Sequence[int]]] = {peer.name: [] for peer in peers}
    ours = [peer.name for peer in peers if peer.name.startswith("Tiercel")]
    number = count(1)
    with serving(run, peers) as servers, on_loop() as runner:

        def stampede(name: str, callers: int) -> float:
            key = next(number)
            found = runner.run(_stampede(servers[name].port, f"/slow/{key}", callers))
            if callers > 1:
                (answer,) = fetch(servers[name].port, [f"/calls/{key}"])
                calls[name].append(float(answer.body))
                shares[name].append(found.shares)
            return found.last

        measures: dict[str, Measure] = {"one caller alone": partial(stampede, peers[0].name, 1)}
        measures |= {f"{peer.name}: the last": partial(stampede, peer.name, CALLERS) for peer in peers}
        for peer in peers:
            _warm(partial(stampede, peer.name, CALLERS), shares[peer.name], workers)
            calls[peer.name].clear()
            shares[peer.name].clear()
        budgets = {f"{name}: the last": LAST for name in ours}
        yield from run.compared(measures, rounds=run.pick(3, 7), unit="ms", budgets=budgets)
    for name, counted in calls.items():
        limits = (ONCE,) if name in ours else ()
        note = _shared(shares[name]) if workers > 1 else ""
        yield Row(name=f"{name}: calls of the handler", samples=tuple(counted), unit="calls", budgets=limits, note=note)


def _warm(stampede: Measure, shares: Sequence[Sequence[int]], workers: int) -> None:
    """Until all workers have been met."""
    for _ in range(TRIES):
        stampede()
        if len(shares[-1]) == workers:
            return


def _shared(shares: Sequence[Sequence[int]]) -> str:
    met = f"{median(map(len, shares)):g} workers had callers"
    return f"{met}, the busiest {median(map(max, shares)) / CALLERS:.0%}"


class _Caller(asyncio.Protocol):
    """One connection; it knows when its answer is complete."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """The content of the answer."""
        self._got = b""
        self._head = 0
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, path: str) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._got, self._missing = b"", None
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._missing is None and (end := self._got.find(b"\r\n\r\n")) >= 0:
            self._head = end + 4
            self._missing = self._head + _length(self._got[:end])
        if self._missing is not None and len(self._got) >= self._missing:
            self.done.set_result(self._got[self._head :])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError(f"closed after {self._got[:200]!r}"))


def _length(head: bytes) -> int:
    """The length of the content, of an answer that must be a success."""
    first, *lines = head.lower().split(b"\r\n")
    if b" 200 " not in first:
        raise RuntimeError(f"Not a success: {head!r}")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))


async def _stampede(port: int, path: str, callers: int) -> Stampede:
    """From the first request to the last answer; all have connected before, and know their worker."""
    loop = asyncio.get_running_loop()
    connected = [(await loop.create_connection(_Caller, HOST, port))[1] for _ in range(callers)]
    workers = await _answers(connected, "/worker")
    start = perf_counter()
    await _answers(connected, path)
    taken = perf_counter() - start
    for caller in connected:
        caller.transport.close()
    return Stampede(taken * MILLI, tuple(Counter(workers).values()))


async def _answers(callers: Sequence[_Caller], path: str) -> list[bytes]:
    for caller in callers:
        caller.ask(path)
    return await asyncio.gather(*[caller.done for caller in callers])


BENCHMARKS = (
    Benchmark(
        name="stampede",
        title="1,000 callers of one cold key",
        method=f"They have connected before they ask, all at once. The handler waits for {HANDLER_SECONDS:g} s, as for "
        "a database. One worker. Budget of the last: 1.3 × the handler's time + 100 ms.",
        rows=rows,
        plotted=True,
        needs=("taskset",),
    ),
    Benchmark(
        name="stampede-workers",
        title=f"1,000 callers of one cold key, {WORKERS} workers",
        method=f"The same, of {WORKERS} workers of uvicorn, which have one core among them and with Redis. The system "
        "decides which of them accepts whom.",
        rows=several_workers,
        plotted=True,
        needs=("taskset", "redis-server"),
    ),
)
