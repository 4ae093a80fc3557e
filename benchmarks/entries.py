"""What a stored response and a memoised value take beyond their own bytes."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator

from benchmarks import shop
from benchmarks.rows import Benchmark, Row, Run, value
from benchmarks.timing import asked, nothing_more, on_loop, scope_of, unheard
from tiercel import Cache, CacheMiddleware, Policy
from tiercel._core.memory import OVERHEAD
from tiercel.asgi import PLACES

LIMIT = value("≤", 400)
KEY = 16


def rows(run: Run) -> Iterator[Row]:
    # The gate remembers PLACES URLs at most: as many of them before as after.
    grown = run.pick(1, 4) * PLACES
    run.planned(3)
    for name, measure in (("a memoised number", _numbers), ("a response", _responses)):
        size, own = measure(grown)
        run.stepped(name)
        yield Row(name=name, samples=(size - own,), unit="B", budgets=(LIMIT,), note=f"of {size:,.0f}")
    yield Row(name="of which the memory tier, at the worst", samples=(OVERHEAD,), unit="B", budgets=(LIMIT,))


def _numbers(grown: int) -> tuple[float, float]:
    cache = Cache(memory="4GB")

    @cache.memoize(ttl="1d")
    def number(key: int) -> float:
        return key * 1.25

    return _per_entry(number, grown), KEY


def _responses(grown: int) -> tuple[float, float]:
    app = CacheMiddleware(shop.raw(), cache=Cache(memory="4GB"), default=Policy(ttl=shop.DAY))
    with on_loop() as runner:
        _, headers, _ = runner.run(asked(app, "/items/-1"))

        async def ask(key: int) -> None:
            await app(scope_of(f"/items/{key}"), nothing_more, unheard)

        # The body is one constant, which all entries share.
        own = KEY + sum(len(name) + len(line) for name, line in headers.items())
        return _per_entry(lambda key: runner.run(ask(key)), grown), own


def _per_entry(store: Callable[[int], object], grown: int) -> float:
    for key in range(PLACES):
        store(key)
    gc.collect()
    tracemalloc.start()
    for key in range(PLACES, PLACES + grown):
        store(key)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return taken / grown


BENCHMARKS = (
    Benchmark(
        name="entry-size",
        title="Bytes an entry",
        method="Beyond key, fields and body, by tracemalloc: the whole library, not the memory tier alone.",
        rows=rows,
    ),
)
