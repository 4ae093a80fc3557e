"""Hits through the middleware: around the application, and installed on it."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.rows import Benchmark, Budget, Row, Run, ratio
from benchmarks.servers import Peer, redis, redis_url, throughput, uvicorn

KEYS = 3_000
LITTLE = "64KB"
"""The least that memory can be bound to: a dozen of the responses."""
LOCAL = ratio("≥", 0.8)


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


def shared_one_key(run: Run) -> Iterator[Row]:
    with _stores(run) as (local, server):
        yield from throughput(run, _in_memory(local, server), "/items")


def shared_many_keys(run: Run) -> Iterator[Row]:
    with _stores(run) as (local, server):
        peers = [
            *_in_memory(local, server),
            _sharing("Tiercel, local://, from the file", local, memory=LITTLE),
            _sharing("Tiercel, redis://, from the server", server, memory=LITTLE),
        ]
        yield from throughput(run, peers, "/items", keys=KEYS)


def decorator(run: Run) -> Iterator[Row]:
    with redis(run) as server:
        there = {"TIERCEL_URL": redis_url(server), "TIERCEL_MEMORY": LITTLE}
        common = "fastapi-cache2, from the server"
        peers = [
            uvicorn(common, "decorated", environment=there),
            uvicorn(
                "Tiercel installed on it, from the server",
                "installed_shared",
                hits=True,
                budgets=(ratio("≥", 3.0, over=common),),
                environment=there,
            ),
            uvicorn("FastAPI, nothing cached", "uncached"),
        ]
        yield from throughput(run, peers, "/items", keys=KEYS)


@contextmanager
def _stores(run: Run) -> Generator[tuple[str, str]]:
    """Their URLs."""
    with TemporaryDirectory() as directory, redis(run) as server:
        yield f"local://{directory}", redis_url(server)


def _in_memory(local: str, server: str) -> list[Peer]:
    return [
        _sharing("Tiercel, memory://", "memory://"),
        _sharing("Tiercel, local://, from memory", local, LOCAL),
        _sharing("Tiercel, redis://, from memory", server),
    ]


def _sharing(name: str, url: str, *budgets: Budget, memory: str = "256MB") -> Peer:
    told = {"TIERCEL_URL": url, "TIERCEL_MEMORY": memory}
    return uvicorn(name, "around_shared", hits=True, budgets=budgets, environment=told)


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
_SHARED = (
    "Requests per second of one worker with 32 connections, as above, through the middleware around the app: what it "
    "costs that others share the store. By the clock Redis takes its part of the servers' core; CPU time is the "
    "worker's own."
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
    Benchmark(
        name="hits-shared",
        title="Hits with a shared store, one key",
        method=_SHARED,
        rows=shared_one_key,
        needs=("wrk", "taskset", "redis-server"),
    ),
    Benchmark(
        name="hits-shared-3000",
        title="Hits with a shared store, 3,000 random keys",
        method=f"{_SHARED} Each request asks for one of 3,000 paths at random. From the file, or from the server: "
        f"memory is bound to {LITTLE}, which holds a dozen of them, so that nearly every hit is read from the store.",
        rows=shared_many_keys,
        plotted=True,
        needs=("wrk", "taskset", "redis-server"),
    ),
    Benchmark(
        name="hits-decorator",
        title="Hits in Redis, and the decorator that most people use",
        method="Requests per second of one worker with 32 connections, over 3,000 random keys. The same application, "
        "under the decorator of fastapi-cache2 with its Redis backend, as its documentation says, and under "
        f"`@cache.response`. Memory is bound to {LITTLE}, so that nearly every hit is read from the server, as all of "
        "the decorator's are.",
        rows=decorator,
        needs=("wrk", "taskset", "redis-server"),
    ),
)
