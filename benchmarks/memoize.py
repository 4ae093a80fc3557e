"""Hits of memoised functions."""

from asyncio import Runner
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial

from benchmarks import environments
from benchmarks.processes import Answering, answering, python_module
from benchmarks.rows import Benchmark, Measure, Row, Run, value
from benchmarks.timing import on_loop, per_await, per_call
from tiercel import Cache

LIMIT = value("≤", 3.0)
OTHERS = {
    "cachetools, TTLCache, sync, a number": ("policies", "policies", "cachetools_rate"),
    "cachebox, TTLCache, sync, a number": ("policies", "policies", "cachebox_rate"),
    "theine, Memoize, sync, a number": ("policies", "policies", "theine_rate"),
    "cashews, async, a number": ("cashews", "with_cashews", "memoized"),
    "aiocache, async, a number": ("aiocache", "with_aiocache", "memoized"),
    "FastAPI-CacheX, cached, async, a number": ("fastapi-cachex", "with_fastapi_cachex", "memoized"),
    "fastapi-cache2, async, a number": ("fastapi-cache2", "with_fastapi_cache2", "memoized"),
}
"""The environment, the module and the function of each."""


@dataclass(frozen=True, slots=True)
class Rates:
    base: str
    dollars: float
    pounds: float


def rows(run: Run) -> Iterator[Row]:
    count = run.pick(5_000, 20_000)
    with ExitStack() as stack:
        measures = _own(stack.enter_context(on_loop()), count)
        missing = dict[str, str]()
        for name, (environment, module, function) in OTHERS.items():
            try:
                measures[name] = partial(_asked, _calls(stack, environment, module, function), count)
            except environments.NotInstalled as error:
                missing[name] = f"not installed: {error}"
        for measure in measures.values():
            measure()
        budgets = dict.fromkeys([name for name in measures if name.startswith("Tiercel")], LIMIT)
        yield from run.compared(measures, rounds=run.pick(5, 31), unit="µs", budgets=budgets)
    for name, reason in missing.items():
        yield Row(name=name, samples=(), unit="µs", note=reason)


def _own(runner: Runner, count: int) -> dict[str, Measure]:
    """Ours, and the plainest."""
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

    return {
        "functools.lru_cache, a number": lambda: per_call(lambda: plain("EUR", 1), count),
        "Tiercel, sync, a number": lambda: per_call(lambda: rate("EUR", 1), count),
        "Tiercel, async, a number": lambda: per_await(runner, lambda: rate_async("EUR", 1), count),
        "Tiercel, sync, a dataclass": lambda: per_call(lambda: rates("EUR", 1), count),
        "Tiercel, async, a dict": lambda: per_await(runner, lambda: rates_async("EUR", 1), count),
    }


def _calls(stack: ExitStack, environment: str, module: str, function: str) -> Answering:
    interpreter = environments.python(environment)
    command = python_module("benchmarks.peers.calls", module, function, interpreter=interpreter)
    return stack.enter_context(answering(command))


def _asked(process: Answering, count: int) -> float:
    return float(process.ask(str(count)))


BENCHMARKS = (
    Benchmark(
        name="memoize",
        title="Hits of memoised functions",
        method="CPU time of a call with two arguments, its lambda included. lru_cache hands out the very object, which "
        "its callers may change for each other; Tiercel a copy for each. The others in memory, with a lifetime, in a "
        "process and environment of their own, by the decorator of each (`benchmarks/peers`); all that are async have "
        "no other, and fastapi-cache2 turns the value into JSON and back.",
        rows=rows,
        plotted=True,
        peers=tuple(sorted({environment for environment, _, _ in OTHERS.values()})),
    ),
)
