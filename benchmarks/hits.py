"""Hits in this process: through the middleware, around the application and installed on it, and through its rivals."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.rows import Benchmark, Budget, Row, Run, ratio
from benchmarks.servers import (
    Peer,
    nginx,
    redis,
    redis_url,
    rival,
    served,
    throughput,
    uvicorn,
    varnish,
)

KEYS = 3_000
LITTLE = "64KB"
"""The least that memory can be bound to: a dozen of the responses."""
PATIENT = {"TIERCEL_STORE_TIMEOUT": "5"}
"""It is the rate that is measured, and nobody gives up."""
LOCAL = ratio("≥", 0.8)
COMMON = "fastapi-cache2"
"""What most people use."""
RIVALS = {
    COMMON: COMMON,
    "cashews": "cashews",
    "aiocache": "aiocache",
    "FastAPI-CacheX": "fastapi-cachex",
    "hishel": "hishel",
    "fastapi-redis-sdk": "fastapi-redis-sdk",
}
"""The environment of each."""
UNCACHED = "FastAPI, nothing cached"


def one_key(run: Run) -> Iterator[Row]:
    return _beside_uncached(run, _own(0.9, 0.65), keys=0)


def many_keys(run: Run) -> Iterator[Row]:
    return _beside_uncached(run, _own(0.8), keys=KEYS)


def unchanged(run: Run) -> Iterator[Row]:
    with redis(run) as server:
        peers = [
            *_own(),
            rival("fastapi-cache2", "fastapi-cache2", "memory"),
            rival("cashews, CacheEtagMiddleware", "cashews", "conditional"),
            rival("aiocache", "aiocache", "memory"),
            rival("FastAPI-CacheX", "fastapi-cachex", "memory"),
            rival("hishel", "hishel", "memory"),
            rival("fastapi-redis-sdk, on Redis", "fastapi-redis-sdk", "on_redis", redis_url(server)),
        ]
        yield from throughput(run, peers, "/items", unchanged=True)


def large(run: Run, items: int) -> Iterator[Row]:
    with TemporaryDirectory() as place:
        origin = uvicorn("the application", "tagged")
        peers = [
            *_own(),
            served("tiercel serve", "installed"),
            nginx("nginx, proxy_cache", origin, Path(place)),
            varnish("Varnish", origin, Path(place)),
            *in_memory("memory"),
            uvicorn(UNCACHED, "uncached"),
        ]
        yield from throughput(run, [peer.told({"BENCHMARK_ITEMS": str(items)}) for peer in peers], "/items", seconds=2)


def shared_one_key(run: Run) -> Iterator[Row]:
    with _stores(run) as (local, server):
        yield from throughput(run, _sharing_memory(local, server), "/items")


def shared_many_keys(run: Run) -> Iterator[Row]:
    with _stores(run) as (local, server):
        peers = [
            *_sharing_memory(local, server),
            _sharing("Tiercel, local://, from the file", local, memory=LITTLE),
            _sharing("Tiercel, redis://, from the server", server, memory=LITTLE),
        ]
        yield from throughput(run, peers, "/items", keys=KEYS)


def from_redis(run: Run) -> Iterator[Row]:
    with redis(run) as server:
        there = redis_url(server)
        own = {"TIERCEL_URL": there, "TIERCEL_MEMORY": LITTLE, **PATIENT}
        budget = ratio("≥", 3.0, over=COMMON)
        peers = [
            rival(COMMON, COMMON, "on_redis", there),
            uvicorn("Tiercel installed on it", "installed_shared", hits=True, budgets=(budget,), environment=own),
            *on_redis("on_redis", there)[1:],
            uvicorn(UNCACHED, "uncached"),
            uvicorn(
                "Tiercel installed on it, memory in front",
                "installed_shared",
                hits=True,
                environment={"TIERCEL_URL": there, "TIERCEL_NAMESPACE": "in-front", **PATIENT},
            ),
            rival("cashews, client_side", "cashews", "client_side", there),
        ]
        yield from throughput(run, peers, "/items", keys=run.pick(300, KEYS))


def in_memory(factory: str) -> list[Peer]:
    """All that can do without a server."""
    return [rival(name, package, factory) for name, package in RIVALS.items() if package != "fastapi-redis-sdk"]


def on_redis(factory: str, server: str) -> list[Peer]:
    return [rival(name, package, factory, server) for name, package in RIVALS.items()]


def _own(around: float | None = None, installed: float | None = None) -> list[Peer]:
    """Raw ASGI, and what it bounds; with their budgets, if they have any here."""
    least = [() if limit is None else (ratio("≥", limit),) for limit in (around, installed)]
    return [
        uvicorn("raw ASGI", "raw"),
        uvicorn("Tiercel around the app", "around", hits=True, budgets=least[0]),
        uvicorn("Tiercel installed on it", "installed", hits=True, budgets=least[1]),
    ]


@contextmanager
def _stores(run: Run) -> Generator[tuple[str, str]]:
    """Their URLs."""
    with TemporaryDirectory() as directory, redis(run) as server:
        yield f"local://{directory}", redis_url(server)


def _sharing_memory(local: str, server: str) -> list[Peer]:
    return [
        _sharing("Tiercel, memory://", "memory://"),
        _sharing("Tiercel, local://, from memory", local, LOCAL),
        _sharing("Tiercel, redis://, from memory", server),
    ]


def _sharing(name: str, url: str, *budgets: Budget, memory: str = "256MB") -> Peer:
    told = {"TIERCEL_URL": url, "TIERCEL_MEMORY": memory, **PATIENT}
    return uvicorn(name, "around_shared", hits=True, budgets=budgets, environment=told)


def _beside_uncached(run: Run, own: Sequence[Peer], *, keys: int) -> Iterator[Row]:
    """And beside the rivals. The last peer is what a hit spares."""
    peers = [*own, *in_memory("memory"), uvicorn(UNCACHED, "uncached")]
    found = list(throughput(run, peers, "/items", keys=keys))
    spared = {row.unit: row for row in found if row.name == UNCACHED}
    for row in found:
        if row.name not in {peers[0].name, UNCACHED} and row.samples:
            times = f"{median(row.over(spared[row.unit])):.2g} × uncached"
            yield replace(row, note="; ".join(filter(None, (times, row.note))))
        else:
            yield row


_METHOD = (
    "Requests per second of one worker (uvicorn, uvloop, httptools) with 32 connections: a list of 20 small items, "
    "2.5 KB of JSON, behind two dependencies. Raw ASGI sends the same constant bytes and does nothing else. "
    "By the clock, and by the CPU time of the server: the same while it has its core to itself. Budgets go by the "
    "latter."
)
_RIVALS = (
    " The other caches are in memory, each as its documentation says (`benchmarks/peers`): decorators of the endpoint, "
    "hishel's middleware around the application, over SQLite in memory, as it has no other. fastapi-redis-sdk has "
    "Redis only."
)
_SHARED = (
    "Requests per second of one worker with 32 connections, as above, through the middleware around the app: what it "
    "costs that others share the store. By the clock Redis takes its part of the servers' core; CPU time is the "
    "worker's own."
)
_LARGE = (
    " As above, but one answer is {size}, a list of {items:,} items, and nginx and Varnish stand in front of the same "
    "bytes. Two seconds a round."
)
_LOAD = ("wrk", "taskset")
_IN_FRONT = (*_LOAD, "nginx", "varnishd")
_ALL = tuple(RIVALS.values())


def _of_size(name: str, size: str, items: int) -> Benchmark:
    def rows(run: Run) -> Iterator[Row]:
        return large(run, items)

    method = f"{_METHOD}{_RIVALS}{_LARGE.format(size=size, items=items)}"
    return Benchmark(
        name=name, title=f"Hits, {size}", method=method, rows=rows, plotted=True, needs=_IN_FRONT, peers=_ALL
    )


BENCHMARKS = (
    Benchmark(
        name="hits",
        title="Hits, one key",
        method=_METHOD + _RIVALS,
        rows=one_key,
        plotted=True,
        needs=_LOAD,
        peers=_ALL,
    ),
    Benchmark(
        name="hits-3000",
        title="Hits, 3,000 random keys",
        method=f"{_METHOD}{_RIVALS} Each request asks for one of 3,000 paths at random.",
        rows=many_keys,
        plotted=True,
        needs=_LOAD,
        peers=_ALL,
    ),
    _of_size("hits-100k", "100 KB", 800),
    _of_size("hits-1m", "1 MB", 7_800),
    Benchmark(
        name="hits-304",
        title="Hits, 304",
        method=f"{_METHOD} Each request has an If-None-Match of the ETag that the peer has given, where it gives one. "
        "The note is how it answers that, as measured. nginx, Varnish and `tiercel serve`: see there.",
        rows=unchanged,
        plotted=True,
        needs=(*_LOAD, "redis-server"),
        peers=_ALL,
    ),
    Benchmark(
        name="hits-shared",
        title="Hits with a shared store, one key",
        method=_SHARED,
        rows=shared_one_key,
        needs=(*_LOAD, "redis-server"),
    ),
    Benchmark(
        name="hits-shared-3000",
        title="Hits with a shared store, 3,000 random keys",
        method=f"{_SHARED} Each request asks for one of 3,000 paths at random. From the file, or from the server: "
        f"memory is bound to {LITTLE}, which holds a dozen of them, so that nearly every hit is read from the store.",
        rows=shared_many_keys,
        plotted=True,
        needs=(*_LOAD, "redis-server"),
    ),
    Benchmark(
        name="hits-redis",
        title="Hits in Redis",
        method="Requests per second of one worker with 32 connections, over 3,000 random keys: the same application "
        "under each cache with its Redis backend, as its documentation says, first of all the decorator that most "
        f"people use. Our memory is bound to {LITTLE}, so that nearly every hit is read from the server, as all of "
        "theirs are. The last two keep what they have read in memory, too, and Redis tells them what has changed. "
        "fastapi-redis-sdk asks for Redis 7.4 or later.",
        rows=from_redis,
        plotted=True,
        needs=(*_LOAD, "redis-server"),
        peers=_ALL,
    ),
)
