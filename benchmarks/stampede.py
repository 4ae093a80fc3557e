"""A thousand callers of one cold key."""

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import count
from time import perf_counter
from typing import cast

from benchmarks.apps import HANDLER_SECONDS
from benchmarks.rows import Benchmark, Measure, Row, Run, value
from benchmarks.servers import HOST, fetch, serving, uvicorn
from benchmarks.timing import on_loop

CALLERS = 1_000
MILLI = 1e3


def rows(run: Run) -> Iterator[Row]:
    peers = [uvicorn("FastAPI, nothing cached", "slow_uncached"), uvicorn("Tiercel", "slow_installed")]
    rounds = run.pick(3, 7)
    calls: dict[str, list[float]] = {peer.name: [] for peer in peers}
    number = count(1)
    with serving(run, peers) as servers, on_loop() as runner:

        def stampede(name: str, callers: int) -> float:
            key = next(number)
            last = runner.run(_last(servers[name].port, f"/slow/{key}", callers))
            if callers > 1:
                (answer,) = fetch(servers[name].port, [f"/calls/{key}"])
                calls[name].append(float(answer.body))
            return last

        measures: dict[str, Measure] = {"one caller alone": partial(stampede, peers[0].name, 1)}
        measures |= {f"{peer.name}: the last": partial(stampede, peer.name, CALLERS) for peer in peers}
        for peer in peers:
            stampede(peer.name, callers=CALLERS)
            calls[peer.name].clear()
        budgets = {"Tiercel: the last": value("≤", 1.3 * HANDLER_SECONDS * MILLI + 100)}
        yield from run.compared(measures, rounds=rounds, unit="ms", budgets=budgets)
    for peer in peers:
        limits = (value("≤", 1),) if peer.name == "Tiercel" else ()
        counted = tuple(calls[peer.name])
        yield Row(name=f"{peer.name}: calls of the handler", samples=counted, unit="calls", budgets=limits)


class _Caller(asyncio.Protocol):
    """One connection; it knows when its answer is complete."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._got = b""
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._missing is None and (end := self._got.find(b"\r\n\r\n")) >= 0:
            self._missing = end + 4 + _length(self._got[:end])
        if self._missing is not None and len(self._got) >= self._missing:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError(f"closed after {self._got[:200]!r}"))


def _length(head: bytes) -> int:
    """The length of the content, of an answer that must be a success."""
    first, *lines = head.lower().split(b"\r\n")
    if b" 200 " not in first:
        raise RuntimeError(f"Not a success: {head!r}")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))


async def _last(port: int, path: str, callers: int) -> float:
    """Milliseconds from the first request to the last answer; all have connected before."""
    loop = asyncio.get_running_loop()
    connected = [await loop.create_connection(_Caller, HOST, port) for _ in range(callers)]
    request = f"GET {path} HTTP/1.1\r\nhost: {HOST}:{port}\r\n\r\n".encode()
    start = perf_counter()
    for transport, _ in connected:
        transport.write(request)
    await asyncio.gather(*[caller.done for _, caller in connected])
    taken = perf_counter() - start
    for transport, _ in connected:
        transport.close()
    return taken * MILLI


BENCHMARKS = (
    Benchmark(
        name="stampede",
        title="1,000 callers of one cold key",
        method=f"They have connected before they ask, all at once. The handler waits for {HANDLER_SECONDS:g} s, as for "
        "a database. One worker: what several workers share is another store's business. Budget of the last: 1.3 × the "
        "handler's time + 100 ms.",
        rows=rows,
        plotted=True,
        needs=("taskset",),
    ),
)
