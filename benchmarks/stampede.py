"""A thousand callers of one cold key: of one worker, and of four."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple, cast

from benchmarks.hits import RIVALS, in_memory, on_redis
from benchmarks.processes import HOST
from benchmarks.rows import Benchmark, Measure, Row, Run, value
from benchmarks.servers import Peer, fetch, redis, redis_url, serving, uvicorn
from benchmarks.shop import HANDLER_SECONDS, PLACE, POOL
from benchmarks.timing import on_loop

CALLERS = 1_000
WORKERS = 4
PATIENCE = 20.0
"""Seconds that a caller waits."""
TRIES = 5
"""Stampedes in which all workers should have been met."""
MILLI = 1e3
LAST = value("≤", 1.3 * HANDLER_SECONDS * MILLI + 100)
ONCE = value("≤", 1)


class Stampede(NamedTuple):
    """Milliseconds until the last answer, how many of the callers each worker had, and what was no success."""

    last: float
    shares: Sequence[int]
    errors: Counter[str]


def rows(run: Run) -> Iterator[Row]:
    peers = [
        uvicorn("FastAPI, nothing cached", "slow_uncached"),
        uvicorn("Tiercel", "slow_installed"),
        *in_memory("slow_memory"),
    ]
    yield from _stampedes(run, peers, workers=1)


def rows_on_redis(run: Run) -> Iterator[Row]:
    with redis(run) as server:
        there = redis_url(server)
        peers = [
            uvicorn("FastAPI, nothing cached", "slow_uncached"),
            uvicorn("Tiercel, redis://", "slow_installed_shared", environment={"TIERCEL_URL": there}),
            *on_redis("slow_on_redis", there),
        ]
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
    here = [peer.name for peer in peers if not peer.missing]
    found: dict[str, list[Stampede]] = {name: [] for name in here}
    calls: dict[str, list[float]] = {name: [] for name in here}
    number = count(1)
    with serving(run, peers) as servers, on_loop() as runner:

        def stampede(name: str, callers: int) -> float:
            key = next(number)
            one = runner.run(_stampede(servers[name].port, f"/slow/{key}", callers, several=workers > 1))
            if callers > 1:
                found[name].append(one)
                calls[name].extend(_calls(servers[name].port, key))
            return one.last

        measures: dict[str, Measure] = {"one caller alone": partial(stampede, here[0], 1)}
        measures |= {f"{name}: the last": partial(stampede, name, CALLERS) for name in here}
        for name in here:
            _warm(partial(stampede, name, CALLERS), found[name], workers)
            calls[name].clear()
            found[name].clear()
        budgets = {f"{name}: the last": LAST for name in here if name.startswith("Tiercel")}
        for row in run.compared(measures, rounds=run.pick(2, 7), unit="ms", budgets=budgets):
            yield replace(row, note=_errors(found.get(row.name.removesuffix(": the last"), ())))
    for peer in peers:
        limits = (ONCE,) if peer.name.startswith("Tiercel") else ()
        samples = tuple(calls.get(peer.name, ()))
        busy = "" if samples else "the server was too busy to say"
        note = peer.missing or busy or (_shared(found[peer.name]) if workers > 1 else "")
        yield Row(name=f"{peer.name}: calls of the handler", samples=samples, unit="calls", budgets=limits, note=note)


def _calls(port: int, key: int) -> Sequence[float]:
    """How often the handler was called; nothing, of a server that is still too busy to say."""
    try:
        return [float(answer.body) for answer in fetch(port, [f"/calls/{key}"])]
    except TimeoutError:
        return []


def _warm(stampede: Measure, found: Sequence[Stampede], workers: int) -> None:
    """Until all workers have been met."""
    for _ in range(TRIES):
        stampede()
        if len(found[-1].shares) == workers:
            return


def _shared(found: Sequence[Stampede]) -> str:
    met = f"{median(len(one.shares) for one in found):g} workers had callers"
    return f"{met}, the busiest {median(max(one.shares) for one in found) / CALLERS:.0%}"


def _errors(found: Sequence[Stampede]) -> str:
    """What callers got that was no success, of how many stampedes."""
    errors = sum((one.errors for one in found), Counter[str]())
    if not found:
        return ""
    told = ", ".join(f"{number:,} × {what}" for what, number in errors.most_common())
    return f"errors of {len(found) * CALLERS:,}: {told}" if told else "no errors"


class _Caller(asyncio.Protocol):
    """One connection; it knows when its answer is complete, and whether it is a success."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """The content of the answer."""
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, path: str) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._got = b""
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, content = self._got.partition(b"\r\n\r\n")
        if not end or self.done.done() or not is_whole(head, content):
            return
        status = head.split(b" ", 2)[1].decode()
        if status == "200":
            self.done.set_result(content)
        else:
            self.done.set_exception(Failed(status))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(Failed("closed"))


class Failed(Exception):  # noqa: N818 - it is counted
    """An answer that is no success: its status, or what came instead of one."""


def is_whole(head: bytes, content: bytes) -> bool:
    """Whether all of an answer has come, of one whose length its head tells, or which is chunked."""
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(content) >= int(value)
    return content.endswith(b"0\r\n\r\n")


async def _stampede(port: int, path: str, callers: int, *, several: bool) -> Stampede:
    """From the first request to the last answer; all have connected before, and know which of `several` workers."""
    loop = asyncio.get_running_loop()
    connected = [(await loop.create_connection(_Caller, HOST, port))[1] for _ in range(callers)]
    workers = await _answers(connected, "/worker") if several else [b"the only one"]
    start = perf_counter()
    answers = await _answers(connected, path)
    taken = perf_counter() - start
    for caller in connected:
        caller.transport.close()
    errors = Counter(str(answer) for answer in answers if isinstance(answer, Failed))
    met = Counter(worker for worker in workers if isinstance(worker, bytes))
    return Stampede(taken * MILLI, tuple(met.values()), errors)


async def _answers(callers: Sequence[_Caller], path: str) -> Sequence[bytes | BaseException]:
    """What each of them gets in time."""
    for caller in callers:
        caller.ask(path)
    _, late = await asyncio.wait([caller.done for caller in callers], timeout=PATIENCE)
    for one in late:
        one.set_exception(Failed(f"nothing in {PATIENCE:g} s"))
    return await asyncio.gather(*[caller.done for caller in callers], return_exceptions=True)


_METHOD = (
    f"They have connected before they ask, all at once. The handler waits for {HANDLER_SECONDS:g} s, as for a "
    "database. One worker. Budget of the last: 1.3 × the handler's time + 100 ms. "
)
_RIVALS = (
    "The others with what their documentation has against stampedes: `lock=True` of cashews, `cached_stampede` of "
    f"aiocache, `coalesce=True` of FastAPI-CacheX. An error is an answer other than 200, or none in {PATIENCE:g} s."
)

BENCHMARKS = (
    Benchmark(
        name="stampede",
        title="1,000 callers of one cold key",
        method=_METHOD + _RIVALS,
        rows=rows,
        plotted=True,
        needs=("taskset",),
        peers=tuple(RIVALS.values()),
    ),
    Benchmark(
        name="stampede-redis",
        title="1,000 callers of one cold key, in Redis",
        method=f"{_METHOD}With Redis on the same core; the others may open {POOL:,} connections to it. {_RIVALS}",
        rows=rows_on_redis,
        plotted=True,
        needs=("taskset", "redis-server"),
        peers=tuple(RIVALS.values()),
    ),
    Benchmark(
        name="stampede-workers",
        title=f"1,000 callers of one cold key, {WORKERS} workers",
        method=f"{_METHOD}Here, of {WORKERS} workers of uvicorn, which have one core among them and with Redis. The "
        "system decides which of them accepts whom.",
        rows=several_workers,
        plotted=True,
        needs=("taskset", "redis-server"),
    ),
)
