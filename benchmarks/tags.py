"""Invalidating a tag, by how many entries are under it."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks.rows import Benchmark, Row, Run, ratio
from benchmarks.servers import redis, redis_url
from benchmarks.shop import DAY
from benchmarks.timing import MICRO, on_loop, per_await
from tiercel import Cache
from tiercel.spi import Ask, Parcel, Store
from tiercel.testing import RecordingLog

TAG = "all"
TIMES = 200
AT_ONCE = 256
"""Entries that are on their way into a store."""
PATIENCE = 5.0
"""Seconds: it is the time that is measured, and nobody gives up."""
FLAT = ratio("≤", 1.2)


def rows(run: Run) -> Iterator[Row]:
    sizes = [1, 10_000, 100_000] if run.quick else [1, 10_000, 100_000, 1_000_000]
    with on_loop() as runner:
        caches = {size: Cache(memory="4GB") for size in sizes}
        filled = {size: _filling(cache, size) for size, cache in caches.items()}

        def invalidate(size: int) -> float:
            filled[size]()
            held = caches[size].stats().entries
            if held != size:
                raise RuntimeError(f"{held} entries are held, not {size}")
            # The first call hits all of them. Were it slow, the mean of so few would show it.
            return per_await(runner, lambda: caches[size].invalidate(TAG), TIMES)

        measures = {_name(size): partial(invalidate, size) for size in sizes}
        budgets = {_name(size): FLAT for size in sizes[1:]}
        yield from run.compared(measures, rounds=3, unit="µs", budgets=budgets)


def _filling(cache: Cache, size: int) -> Callable[[], None]:
    @cache.memoize(ttl="1d", tags=TAG)
    def number(key: int) -> int:
        return key

    def fill() -> None:
        for key in range(size):
            number(key)

    return fill


# -- in a store that others share ------------------------------------------------------------------------------------


def local(run: Run) -> Iterator[Row]:
    from tiercel.stores.local import LocalStore

    with TemporaryDirectory() as directory:

        def store(size: int) -> Store:
            return LocalStore(Path(directory) / str(size), size=4 << 30)

        yield from _in_store(run, store, lambda: 0.0)


def on_redis(run: Run) -> Iterator[Row]:
    from tiercel.stores.redis import RedisStore

    with redis(run) as server:

        def store(size: int) -> Store:
            return RedisStore(redis_url(server), namespace=str(size))

        yield from _in_store(run, store, server.cpu_seconds)


def _in_store(run: Run, store: Callable[[int], Store], elsewhere: Callable[[], float]) -> Iterator[Row]:
    """By the clock and by CPU time, that which is spent elsewhere included."""
    sizes = [1, 10_000, 100_000] if run.quick else [1, 10_000, 1_000_000]
    by_cpu: dict[str, list[float]] = {_name(size): [] for size in sizes}
    with on_loop() as runner:
        for size in sizes:
            runner.run(_filled(store(size), size))

        def invalidate(size: int) -> float:
            by_clock, cpu = runner.run(_invalidated(store(size), elsewhere))
            by_cpu[_name(size)].append(cpu)
            return by_clock

        measures = {_name(size): partial(invalidate, size) for size in sizes}
        yield from run.compared(measures, rounds=run.pick(7, 15), unit="µs")
    for size in sizes:
        limits = (FLAT,) if size > 1 else ()
        yield Row(name=_name(size), samples=tuple(by_cpu[_name(size)]), unit="CPU µs", budgets=limits)


async def _filled(store: Store, size: int) -> None:
    """It holds so many, and the first invalidation hits all of them."""
    parcel = Parcel(born=0, tags=(TAG,), fresh_for=DAY, retain_for=DAY, blob=bytes(100))
    keys = iter(range(size))

    async def fill() -> None:
        for key in keys:
            await store.put(_ask(key).key, b"", parcel, None)

    async with store.running(RecordingLog(), lambda _: None):
        await asyncio.gather(*[fill() for _ in range(AT_ONCE)])
        for key in {0, size // 2, size - 1}:
            if not (await store.fetch(_ask(key))).kept:
                raise RuntimeError(f"Entry {key} of {size} is not held.")


async def _invalidated(store: Store, elsewhere: Callable[[], float]) -> tuple[float, float]:
    cache = Cache(store, store_timeout=PATIENCE)
    await cache.open()
    clock, spent = perf_counter(), process_time() + elsewhere()
    for _ in range(TIMES):
        await cache.invalidate(TAG)
    taken = perf_counter() - clock, process_time() + elsewhere() - spent
    if (await store.fetch(_ask(0))).kept:
        raise RuntimeError("What was invalidated is still found.")
    await cache.aclose()
    return taken[0] / TIMES * MICRO, taken[1] / TIMES * MICRO


def _ask(key: int) -> Ask:
    return Ask(key=key.to_bytes(16, "big"), fields={})


def _name(size: int) -> str:
    return f"{size:,} entries" if size > 1 else "1 entry"


_SHARED = (
    f"Time of `await cache.invalidate` by the entries under the tag: the mean of {TIMES} calls, one after the other, "
    "by the clock and by CPU time. Each store is filled once, with entries of 100 bytes: the first call hits all. "
)

BENCHMARKS = (
    Benchmark(
        name="tags",
        title="Invalidating a tag",
        method=f"CPU time of `invalidate` by the entries under the tag: the mean of {TIMES} calls in a row, of which "
        "the first finds all of them usable.",
        rows=rows,
    ),
    Benchmark(name="tags-local", title="Invalidating a tag in local://", method=f"{_SHARED}A file each.", rows=local),
    Benchmark(
        name="tags-redis",
        title="Invalidating a tag in redis://",
        method=f"{_SHARED}One server, a namespace each; its CPU time is part of it.",
        rows=on_redis,
        needs=("redis-server", "taskset"),
    ),
)
