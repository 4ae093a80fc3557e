"""The longest that one call keeps the event loop from everything else, with a million responses in memory."""

from __future__ import annotations

import asyncio
import gc
import random
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from time import thread_time

from benchmarks.rows import Benchmark, Row, Run, value
from benchmarks.timing import on_loop
from tiercel import Cache
from tiercel._core.entry import Entry
from tiercel._core.headers import shared
from tiercel._core.memory import LARGEST_SHARE, OVERHEAD
from tiercel._engine.stamps import CUTS
from tiercel._engine.tiers import weigh

LIMIT = value("≤", 5.0)
SEED = 42
TAG = "all"
BODY = bytes(200)
DAY = 86_400
NOW = 1_800_000_000.0
CALLS = 20_000
LOGGED = 2 * CUTS
MILLI = 1e3
ROUNDS = 3

Call = Callable[[], object]


def rows(run: Run) -> Iterator[Row]:
    entries = run.pick(50_000, 1_000_000)
    run.planned(ROUNDS)
    least: dict[str, array[float]] = {}
    for _ in range(ROUNDS):
        for name, taken in _taken(entries):
            least[name] = array("d", map(min, least.get(name, taken), taken))
        run.stepped("pauses")
    for name, calls in least.items():
        # When it collects is the interpreter's decision, and the program's: docs/settings.md.
        limits = () if name.startswith("gc") else (LIMIT,)
        yield Row(name=f"{entries:,} entries: {name}", samples=(max(calls),), unit="CPU ms", budgets=limits)


def _taken(entries: int) -> Iterator[tuple[str, array[float]]]:
    """CPU time of each call, in the same order each time."""
    draw = random.Random(SEED)
    bound = entries * (weigh(_response(draw, 0)) + OVERHEAD + 16)
    cache = Cache(memory=bound)
    tiers, keys = cache.engine.tiers, [draw.randbytes(16) for _ in range(entries + CALLS)]

    def stored(keys: Iterable[bytes]) -> Iterator[Call]:
        return (partial(tiers.store, key, _response(draw, at), NOW) for at, key in enumerate(keys))

    gc.disable()
    try:
        yield "put, while it fills", _each(stored(keys[:entries]))
        yield "get", _each(partial(tiers.shelf, key) for key in draw.choices(keys[:entries], k=CALLS))
        yield "put, evicting", _each(stored(keys[entries:]))
        large = _response(draw, 0, body=bytes(bound // LARGEST_SHARE - 2_000))
        yield "put of 1/8 of the bound", _each([partial(tiers.store, keys[0], large, NOW)])
        yield "expire, when all have ended", _each([partial(tiers.memory.expire, NOW + 2 * DAY)])
        with on_loop() as runner:
            yield "invalidate a tag of all", runner.run(_turns(cache.invalidate(TAG)))
            yield "cut, each another tag", _each(partial(cache.engine.cut, (f"tag:{at}",)) for at in range(LOGGED))
            yield "gc.collect()", _each([gc.collect])
            yield "clear", runner.run(_turns(cache.clear()))
    finally:
        gc.enable()


def _response(draw: random.Random, number: int, *, body: bytes = BODY) -> Entry:
    fields = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-cache"),
        (b"etag", draw.randbytes(16).hex().encode()),
    ]
    return Entry(
        method="GET",
        status=200,
        headers=shared(fields),
        body=body,
        tags=(TAG,),
        born=0,
        asked_at=NOW,
        answered_at=NOW + number * 1e-6,
        lifetime=DAY + number % DAY,
    )


def _each(calls: Iterable[Call]) -> array[float]:
    return array("d", map(_milliseconds, calls))


def _milliseconds(call: Call) -> float:
    start = thread_time()
    call()
    return (thread_time() - start) * MILLI


async def _turns(work: Awaitable[object]) -> array[float]:
    """Those of the loop while something is awaited."""
    task, turns = asyncio.ensure_future(work), array("d")
    while not task.done():
        start = thread_time()
        await asyncio.sleep(0)
        turns.append((thread_time() - start) * MILLI)
    await task
    return turns


BENCHMARKS = (
    Benchmark(
        name="pauses",
        title="The longest calls",
        method="CPU time of the longest of all calls of a kind, with responses of 200 bytes, all under one tag, and "
        "without the garbage collector; of what is awaited, the longest turn of the loop. Of each call the least of "
        "three runs: what is long each time is the call's own doing, and not that of whoever else was on the machine.",
        rows=rows,
    ),
)
