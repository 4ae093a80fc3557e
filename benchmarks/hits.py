"""Hits through the middleware: around the application, and installed on it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.rows import Benchmark, Row, Run, ratio
from benchmarks.servers import Peer, throughput, uvicorn

KEYS = 3_000


def one_key(run: Run) -> Iterator[Row]:
    peers = [
        uvicorn("raw ASGI", "raw"),
        uvicorn("Tiercel around the app", "around", hits=True, budgets=(ratio("≥", 0.9),)),
        uvicorn("Tiercel installed on it", "installed", hits=True, budgets=(ratio("≥", 0.65),)),
        uvicorn("FastAPI, nothing cached", "uncached"),
    ]
    return _beside_uncached(run, peers, keys=0)


def many_keys(run: Run) -> Iterator[Row]:
    peers = [
        uvicorn("raw ASGI", "raw"),
        uvicorn("Tiercel around the app", "around", hits=True, budgets=(ratio("≥", 0.8),)),
        uvicorn("Tiercel installed on it", "installed", hits=True),
        uvicorn("FastAPI, nothing cached", "uncached"),
    ]
    return _beside_uncached(run, peers, keys=KEYS)


def _beside_uncached(run: Run, peers: Sequence[Peer], *, keys: int) -> Iterator[Row]:
    """The last peer is what a hit spares."""
    found = list(throughput(run, peers, "/items", keys=keys))
    spared = {row.unit: row for row in found if row.name == peers[-1].name}
    ours = {peer.name for peer in peers if peer.hits}
    for row in found:
        note = f"{median(row.over(spared[row.unit])):.1f} × uncached" if row.name in ours else ""
        yield replace(row, note=note)


_METHOD = (
    "Requests per second of one worker (uvicorn, uvloop, httptools) with 32 connections: a list of 20 small items, "
    "2.5 KB of JSON, behind two dependencies. Raw ASGI sends the same constant bytes and does nothing else. "
    "By the clock, and by the CPU time of the server: the same while it has its core to itself. Budgets go by the "
    "latter."
)

BENCHMARKS = (
    Benchmark(name="hits", title="Hits, one key", method=_METHOD, rows=one_key, plotted=True, needs=("wrk", "taskset")),
    Benchmark(
        name="hits-3000",
        title="Hits, 3,000 random keys",
        method=f"{_METHOD} Each request asks for one of 3,000 paths at random.",
        rows=many_keys,
        plotted=True,
        needs=("wrk", "taskset"),
    ),
)
