"""Hits of memoised functions."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.rows import Benchmark, Measure, Row, Run, value
from benchmarks.timing import on_loop, per_await, per_call
from tiercel import Cache

LIMIT = value("≤", 3.0)


@dataclass(frozen=True, slots=True)
class Rates:
    base: str
    dollars: float
    pounds: float


def rows(run: Run) -> Iterator[Row]:
    cache = Cache()

    @lru_cache
    def plain(base: str, day: int) -> float:
        return day * 1.25

    @cache.memoize(ttl="1h")
    def rate(base: str, day: int) -> float:
        return day * 1.25

    @cache.memoize(ttl="1h", tags="rates:{base}")
    async def rate_async(base: str, day: int) -> float:
        return day * 1.25

    @cache.memoize(ttl="1h", tags="rates:{base}")
    def rates(base: str, day: int) -> Rates:
        return Rates(base, day * 1.25, day * 1.5)

    @cache.memoize(ttl="1h", tags="rates:{base}")
    async def rates_async(base: str, day: int) -> dict[str, float]:
        return {"USD": day * 1.25, "GBP": day * 1.5}

    count = run.pick(5_000, 20_000)
    with on_loop() as runner:
        measures: dict[str, Measure] = {
            "functools.lru_cache, a number": lambda: per_call(lambda: plain("EUR", 1), count),
            "Tiercel, sync, a number": lambda: per_call(lambda: rate("EUR", 1), count),
            "Tiercel, async, a number": lambda: per_await(runner, lambda: rate_async("EUR", 1), count),
            "Tiercel, sync, a dataclass": lambda: per_call(lambda: rates("EUR", 1), count),
            "Tiercel, async, a dict": lambda: per_await(runner, lambda: rates_async("EUR", 1), count),
        }
        for measure in measures.values():
            measure()
        budgets = dict.fromkeys([name for name in measures if name.startswith("Tiercel")], LIMIT)
        yield from run.compared(measures, rounds=run.pick(9, 31), unit="µs", budgets=budgets)


BENCHMARKS = (
    Benchmark(
        name="memoize",
        title="Hits of memoised functions",
        method="CPU time of a call with two arguments, its lambda included. lru_cache hands out the very object, which "
        "its callers may change for each other; Tiercel a copy for each.",
        rows=rows,
    ),
)
