"""The memory tier beside a plain dict and an LRU of the same bound: reads, writes, size and pauses."""

import gc
import random
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, repeat
from time import perf_counter, process_time_ns

from benchmarks.rows import Benchmark, Measure, Row, Run, ratio, value
from tiercel._core.memory import LOOKS, MOST_READS, OVERHEAD, Memory

SEED = 42
WEIGHT = 1_000 - OVERHEAD
VALUE = b"value"
DAY = 86_400
READS = 20_000


class Lru:
    """What most caches in memory are: an OrderedDict, weighed the same."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.weight = 0
        self.held: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def get(self, key: bytes) -> bytes | None:
        found = self.held.get(key)
        if found is None:
            return None
        self.held.move_to_end(key)
        return found[0]

    def put(self, key: bytes, value: bytes, weight: int, expiry: float) -> bool:
        old = self.held.pop(key, None)
        self.weight += weight + OVERHEAD - (old[1] if old else 0)
        self.held[key] = value, weight + OVERHEAD
        while self.weight > self.bound:
            self.weight -= self.held.popitem(last=False)[1][1]
        return True

    def delete(self, key: bytes) -> bool:
        old = self.held.pop(key, None)
        self.weight -= old[1] if old else 0
        return old is not None


def reads(run: Run) -> Iterator[Row]:
    small, large = 1_000, run.pick(100_000, 1_000_000)
    measures: dict[str, Measure] = {}
    for entries in (small, large):
        keys = _keys(entries)
        getters = _filled(keys)
        for pattern, wanted in _patterns(keys).items():
            copies = [bytes(bytearray(key)) for key in wanted]  # the key of a request is a new object
            for peer, get in getters.items():
                measures[f"{pattern}, {entries:,} entries: {peer}"] = partial(_nanoseconds, get, copies)
    growth = {
        name: ratio("≤", 3.0, over=name.replace(f"{large:,}", f"{small:,}"))
        for name in measures
        if f"{large:,}" in name and "Tiercel" in name
    }
    yield from run.compared(measures, rounds=run.pick(5, 15), unit="ns", budgets=growth)


def _filled(keys: Sequence[bytes]) -> dict[str, Callable[[bytes], object]]:
    memory: Memory[bytes] = Memory(2_000 * len(keys))
    lru = Lru(2_000 * len(keys))
    for number, key in enumerate(keys):
        memory.put(key, VALUE, WEIGHT, number % DAY)
        lru.put(key, VALUE, WEIGHT, number % DAY)
    return {"dict": dict.fromkeys(keys, VALUE).get, "LRU": lru.get, "Tiercel": memory.get}


def _patterns(keys: Sequence[bytes]) -> dict[str, list[bytes]]:
    draw = random.Random(SEED)
    return {
        "Zipf 0.9": _zipf(keys, READS),
        "uniform": draw.choices(keys, k=READS),
        "not there": [draw.randbytes(16) for _ in range(READS)],
    }


def writes(run: Run) -> Iterator[Row]:
    entries, rounds = run.pick(20_000, 100_000), run.pick(3, 7)
    keys = _keys(2 * entries)
    taken: dict[str, list[float]] = {}
    run.planned(rounds)
    for _ in range(rounds):
        for peer, cache in (("LRU", Lru(1_000 * entries)), ("Tiercel", Memory[bytes](1_000 * entries))):
            for phase, nanoseconds in _write_times(cache, keys).items():
                taken.setdefault(f"{phase}: {peer}", []).append(nanoseconds)
        run.stepped("writes")
    for name in sorted(taken, key=lambda name: (_PHASES.index(name.partition(":")[0]), name)):
        yield Row(name=name, samples=tuple(taken[name]), unit="ns")


_PHASES: list[str] = ["put, new", "put, overwriting", "put, evicting", "delete"]


def _write_times(cache: Lru | Memory[bytes], keys: Sequence[bytes]) -> dict[str, float]:
    old, new = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    ends = [float(number % DAY) for number in range(len(old))]
    puts = [_spent(map(cache.put, names, repeat(VALUE), repeat(WEIGHT), ends), len(old)) for names in (old, old, new)]
    return dict(zip(_PHASES, [*puts, _spent(map(cache.delete, new), len(new))], strict=True))


def sizes(run: Run) -> Iterator[Row]:
    """While a cache fills, and when all that was in it has been evicted twice."""
    entries = run.pick(20_000, 100_000)
    keys = _keys(3 * entries)
    for peer, make in (("LRU", Lru), ("Tiercel", Memory[bytes])):
        for phase, size in _bytes_per_entry(keys, make, entries).items():
            limit = (value("≤", 400),) if peer == "Tiercel" else ()
            yield Row(name=f"{peer}, {phase}", samples=(size,), unit="B", budgets=limit)


def _bytes_per_entry(keys: Sequence[bytes], make: Callable[[int], Lru | Memory[bytes]], held: int) -> dict[str, float]:
    tracemalloc.start()
    cache = make(1_000 * held)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    found: dict[str, float] = {}
    phases = {held * 95 // 100: "filling", len(keys): "turned over"}
    for number, key in enumerate(keys, 1):
        cache.put(key, VALUE, WEIGHT - 50 + number % 101, number % DAY + 0.5)
        if number in phases:
            found[phases[number]] = (tracemalloc.get_traced_memory()[0] - before) / min(number, held)
    tracemalloc.stop()
    return found


def pauses(run: Run) -> Iterator[Row]:
    entries = run.pick(20_000, 1_000_000)
    keys = _keys(entries + 1)
    memory: Memory[bytes] = Memory(1_000 * entries)
    memory.expire(0)
    for number, key in enumerate(keys[:-1]):
        memory.put(key, VALUE, WEIGHT, DAY + number % DAY)
    for _ in range(MOST_READS):
        for key in keys:
            memory.get(key)
    calls: dict[str, Callable[[], object]] = {
        "put, when every entry is hot": lambda: memory.put(keys[-1], VALUE, WEIGHT, DAY),
        "expire, nothing due": lambda: memory.expire(DAY // 4),
        f"expire, {LOOKS:,} looks": lambda: memory.expire(3 * DAY),
        "clear": memory.clear,
    }
    for name, call in calls.items():
        limits = () if name == "clear" else (value("≤", 5.0),)
        yield Row(name=f"{entries:,} entries: {name}", samples=(_milliseconds(call),), unit="ms", budgets=limits)


def _keys(count: int) -> list[bytes]:
    draw = random.Random(SEED)
    return [draw.randbytes(16) for _ in range(count)]


def _zipf(keys: Sequence[bytes], reads: int, exponent: float = 0.9) -> list[bytes]:
    weights = list(accumulate((i + 1) ** -exponent for i in range(len(keys))))
    return random.Random(SEED).choices(keys, cum_weights=weights, k=reads)


def _nanoseconds(get: Callable[[bytes], object], keys: Sequence[bytes]) -> float:
    return _spent(map(get, keys), len(keys))


def _spent(calls: Iterable[object], count: int) -> float:
    start = process_time_ns()
    for _ in calls:
        pass
    return (process_time_ns() - start) / count


def _milliseconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return (perf_counter() - start) * 1e3


BENCHMARKS = (
    Benchmark(
        name="memory-reads",
        title="The memory tier: reads",
        method="CPU time of a `get`. The LRU is an OrderedDict of the same bound.",
        rows=reads,
    ),
    Benchmark(name="memory-writes", title="The memory tier: writes", method="CPU time of a call.", rows=writes),
    Benchmark(
        name="memory-size",
        title="The memory tier: bytes an entry",
        method="Beyond its key and value, by tracemalloc.",
        rows=sizes,
    ),
    Benchmark(
        name="memory-pauses",
        title="The memory tier: the longest calls",
        method="One call each, by the clock.",
        rows=pauses,
    ),
)
