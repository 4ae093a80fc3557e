"""Invalidating a tag, by how many entries are under it."""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.rows import Benchmark, Row, Run, ratio
from benchmarks.timing import on_loop, per_await
from tiercel import Cache

TAG = "all"
TIMES = 200


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
        budgets = {_name(size): ratio("≤", 1.2) for size in sizes[1:]}
        yield from run.compared(measures, rounds=3, unit="µs", budgets=budgets)


def _filling(cache: Cache, size: int) -> Callable[[], None]:
    @cache.memoize(ttl="1d", tags=TAG)
    def number(key: int) -> int:
        return key

    def fill() -> None:
        for key in range(size):
            number(key)

    return fill


def _name(size: int) -> str:
    return f"{size:,} entries" if size > 1 else "1 entry"


BENCHMARKS = (
    Benchmark(
        name="tags",
        title="Invalidating a tag",
        method=f"CPU time of `invalidate` by the entries under the tag: the mean of {TIMES} calls in a row, of which "
        "the first finds all of them usable.",
        rows=rows,
    ),
)
