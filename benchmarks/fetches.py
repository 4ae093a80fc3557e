"""Reads of what is in Redis, 64 at a time: the store's, and those of redis-py."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import cycle, islice
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

from benchmarks.hits import KEYS, LITTLE
from benchmarks.processes import HOST, Running
from benchmarks.rows import Benchmark, Row, Run, value
from benchmarks.servers import redis, redis_url
from benchmarks.shop import BODY, DAY, raw
from benchmarks.timing import MICRO, asked, nothing_more, on_loop, scope_of, unheard
from tiercel import Cache, CacheMiddleware, Policy
from tiercel.spi import Ask, Parcel, Store
from tiercel.testing import RecordingLog

AT_ONCE = 64
ALONE = 500
"""Reads one after the other, of which the median time is taken."""
PIPELINE = f"redis-py, {AT_ONCE} in a pipeline"
PATIENCE = 5.0
"""Seconds: it is the rate that is measured, and nobody gives up."""
TRIPS = 1_000
ONE = value("≤", 1.05)
"""What follows the log reads now and then, too."""


class Reading(NamedTuple):
    """A way to read."""

    keys: Callable[[Iterator[int]], Awaitable[None]]
    """All of these."""
    key: Callable[[int], Awaitable[None]] | None = None
    """One alone, where it can."""


class Rates(NamedTuple):
    """Reads per second: of the clock, of this process's CPU time, and of the server's."""

    by_clock: float
    by_cpu: float
    by_server: float


def rows(run: Run) -> Iterator[Row]:
    ways = {
        "redis-py, its pool": _pool,
        PIPELINE: _pipeline,
        "Tiercel, the store's fetch": _fetches,
        "Tiercel, a whole response": _responses,
    }
    found: dict[str, list[Rates]] = {name: [] for name in ways}
    with redis(run) as server, on_loop() as runner:
        runner.run(_fill(server))

        def rate(name: str) -> float:
            found[name].append(runner.run(_rates(server, ways[name](server), run.pick(9_600, 25_600))))
            return found[name][-1].by_clock

        for name in ways:
            rate(name)
            found[name].clear()
        measures = {name: partial(rate, name) for name in ways}
        yield from run.compared(measures, rounds=run.pick(3, 11), unit="reads/s")
        for name, rates in found.items():
            yield Row(name=name, samples=tuple(one.by_cpu for one in rates), unit="reads/CPU s")
        for name, rates in found.items():
            yield Row(name=name, samples=tuple(one.by_server for one in rates), unit="reads/CPU s of Redis")

        def latency(name: str) -> float:
            return runner.run(_alone(ways[name](server)))

        alone = {name: partial(latency, name) for name in ways if name != PIPELINE}
        yield from run.compared(alone, rounds=run.pick(3, 11), unit="µs, p50")
        places = [KEYS + TRIPS * turn for turn in range(run.pick(3, 5))]  # where nothing is stored
        hits = tuple(runner.run(_trips(server, 0, lease=0.0)) for _ in places)
        misses = tuple(runner.run(_trips(server, place, lease=60.0)) for place in places)
        for name, trips in (("a hit", hits), ("a miss, with leave to produce it", misses)):
            yield Row(name=f"Tiercel, the store's fetch: {name}", samples=trips, unit="round trips", budgets=(ONE,))


async def _rates(server: Running, way: AbstractAsyncContextManager[Reading], reads: int) -> Rates:
    async with way as read:
        clock, own, others = perf_counter(), process_time(), server.cpu_seconds()
        await read.keys(islice(cycle(range(KEYS)), reads))
        by_clock, by_cpu = reads / (perf_counter() - clock), reads / (process_time() - own)
        return Rates(by_clock, by_cpu, reads / (server.cpu_seconds() - others))


async def _alone(way: AbstractAsyncContextManager[Reading]) -> float:
    """Microseconds of a read while nothing else is asked."""
    taken = list[float]()
    async with way as reading:
        if reading.key is None:
            raise RuntimeError("It reads no key alone.")
        for key in range(ALONE):
            start = perf_counter()
            await reading.key(key)
            taken.append(perf_counter() - start)
    return median(taken) * MICRO


# -- the ways to read ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _pool(server: Running) -> AsyncGenerator[Reading]:
    async with _client(server) as client:

        async def read(key: int) -> None:
            _expect(await client.get(str(key)) == BODY)

        yield _at_once(read)


@asynccontextmanager
async def _pipeline(server: Running) -> AsyncGenerator[Reading]:
    async with _client(server) as client:

        async def read(keys: Iterator[int]) -> None:
            while together := list(islice(keys, AT_ONCE)):
                pipeline = client.pipeline(transaction=False)
                for key in together:
                    pipeline.get(str(key))
                _expect(await pipeline.execute() == [BODY] * len(together))

        yield Reading(read)


@asynccontextmanager
async def _fetches(server: Running) -> AsyncGenerator[Reading]:
    async with _store(server) as store:

        async def read(key: int) -> None:
            found = await store.fetch(_ask(key))
            _expect(len(found.kept) == 1 and found.kept[0].parcel.blob == BODY)

        yield _at_once(read)


@asynccontextmanager
async def _responses(server: Running) -> AsyncGenerator[Reading]:
    cache = Cache(redis_url(server), memory=LITTLE, namespace="responses", store_timeout=PATIENCE)
    app = _around(cache)
    await cache.open()
    try:
        _, headers, body = await asked(app, "/items/0")
        _expect(b"; hit" in headers[b"cache-status"] and body == BODY)
        yield _at_once(lambda key: app(scope_of(f"/items/{key}"), nothing_more, unheard))
        _expect(not cache.stats().fills)
    finally:
        await cache.aclose()


def _at_once(read: Callable[[int], Awaitable[None]]) -> Reading:
    async def all_of(keys: Iterator[int]) -> None:
        for key in keys:
            await read(key)

    async def reading(keys: Iterator[int]) -> None:
        await asyncio.gather(*[all_of(keys) for _ in range(AT_ONCE)])

    return Reading(reading, read)


# -- what is read ----------------------------------------------------------------------------------------------------


async def _fill(server: Running) -> None:
    """The same bytes for all: plainly, as parcels, and as responses."""
    async with _client(server) as client:
        for key in range(KEYS):
            await client.set(str(key), BODY)
    async with _store(server) as store:
        parcel = Parcel(born=0, tags=("items",), fresh_for=DAY, retain_for=DAY, blob=BODY)
        for key in range(KEYS):
            await store.put(_ask(key).key, b"", parcel, None)
    cache = Cache(redis_url(server), namespace="responses", store_timeout=PATIENCE)
    app = _around(cache)
    await cache.open()
    for key in range(KEYS):
        await app(scope_of(f"/items/{key}"), nothing_more, unheard)
    await cache.aclose()


def _around(cache: Cache) -> CacheMiddleware:
    return CacheMiddleware(raw(), cache=cache, default=Policy(ttl=DAY))


def _ask(key: int, lease: float = 0.0) -> Ask:
    return Ask(key=key.to_bytes(16, "big"), fields={}, lease=lease)


def _client(server: Running) -> Any:
    from redis.asyncio import Redis

    return Redis(host=HOST, port=server.port)


@asynccontextmanager
async def _store(server: Running) -> AsyncGenerator[Store]:
    from tiercel.stores.redis import RedisStore

    store = RedisStore(redis_url(server), namespace="fetches")
    async with store.running(RecordingLog(), lambda _: None):
        yield store


def _expect(as_it_should_be: object) -> None:
    if not as_it_should_be:
        raise RuntimeError("What was read is not what was stored.")


async def _trips(server: Running, first: int, *, lease: float) -> float:
    """How often the server reads for a fetch; one after the other, so that none travel together."""
    async with _client(server) as client, _store(server) as store:
        before = await client.info("stats")
        for key in range(first, first + TRIPS):
            found = await store.fetch(_ask(key, lease))
            _expect(found.lease if lease else found.kept)
        after = await client.info("stats")
    # The second question for these figures is one of the reads.
    return float(after["total_reads_processed"] - before["total_reads_processed"] - 1) / TRIPS


BENCHMARKS = (
    Benchmark(
        name="fetches",
        title="Hits in Redis, 64 at a time",
        method=f"2.5 KB under each of {KEYS:,} keys, read by {AT_ONCE} tasks of one process: GET through the pool of "
        f"redis-py, {AT_ONCE} of them in one of its pipelines, our store's fetch, and a whole response through the "
        f"middleware, whose memory holds a dozen of them. By the clock, by the CPU time of this process, and by that "
        "of the server. A GET knows nothing of tags, variants, lifetimes and leases, which a fetch judges in the "
        "server. p50: the time of one read while nothing else is asked, one round trip each. "
        "Round trips: how often the server reads per fetch, one fetch after the other.",
        rows=rows,
        needs=("redis-server", "taskset"),
    ),
)
