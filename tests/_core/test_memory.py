"""The memory tier: what it keeps, what it drops, and that nothing is left behind."""

import gc
import random
import threading
import tracemalloc
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import inf, nan
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tiercel._core.memory import CHANCES, GHOST_SHARE, LARGEST_SHARE, MOST_READS, OVERHEAD, Bucket, Memory, Queue, Slot

V = TypeVar("V")
UNIT = OVERHEAD + 30
"""An entry of weight 30, as it is counted."""


def key(number: int) -> bytes:
    return b"%016d" % number


def room_for(entries: int) -> Memory[int]:
    return Memory(entries * UNIT)


def put(memory: Memory[int], number: int, *, weight: int = 30, expiry: float = inf) -> bool:
    return memory.put(key(number), number, weight, expiry)


def queued(queue: Queue[V]) -> Iterator[Slot[V]]:
    slot, older = queue.oldest, None
    while slot is not None:
        assert slot.older is older
        assert slot.home is queue
        yield slot
        slot, older = slot.newer, slot
    assert queue.newest is older


def bucketed(bucket: Bucket[V]) -> Iterator[Slot[V]]:
    slot, before = bucket.first, None
    while slot is not None:
        assert slot.before is before
        assert slot.bucket is bucket
        yield slot
        slot, before = slot.after, slot


def check_queues(memory: Memory[V]) -> None:
    slots: list[Slot[V]] = []
    for queue in (memory.small, memory.main):
        members = list(queued(queue))
        assert queue.weight == sum(slot.weight for slot in members)
        slots += members
    assert len(slots) == len(memory)
    assert {id(slot) for slot in slots} == {id(slot) for slot in memory.table.values()}
    assert memory.weight == sum(slot.weight for slot in slots)
    assert memory.weight <= memory.bound
    assert all(0 <= slot.freq <= MOST_READS for slot in slots)
    assert all(name == slot.key for name, slot in memory.entries())


def check_ghosts(memory: Memory[V]) -> None:
    assert len(memory.ghosts.hashes) == len(memory.ghosts.order) <= len(memory) // GHOST_SHARE
    assert set(memory.ghosts.order) == memory.ghosts.hashes
    assert not memory.ghosts.hashes & {hash(slot.key) for slot in queued(memory.small)}


def check_buckets(memory: Memory[V]) -> None:
    keys: list[bytes] = []
    for due, bucket in memory.buckets.items():
        for slot in bucketed(bucket):
            assert due <= slot.expiry + 1
            keys.append(slot.key)
    assert sorted(keys) == sorted(memory.table)
    assert sorted(memory._dues) == sorted(memory.buckets)


def check(memory: Memory[V]) -> None:
    check_queues(memory)
    check_ghosts(memory)
    check_buckets(memory)


class Steps(RuleBasedStateMachine):
    """Any order of calls, against a dict that is told what was evicted. Every invariant after every step."""

    numbers = st.integers(0, 60)
    lifetimes = st.one_of(
        st.floats(-10, 200_000), st.sampled_from([0.0, 1.0, 63.0, 64.0, 4096.0, 2.0**53, 1e300, inf, -inf])
    )

    def __init__(self) -> None:
        super().__init__()
        self.memory: Memory[object] = Memory(24 * UNIT, on_evict=self.gone)
        self.model: dict[bytes, tuple[object, int, float]] = {}
        self.evicted: list[float] = []
        self.now = 1_700_000_000.25
        self.memory.expire(self.now)

    def gone(self, name: bytes) -> None:
        self.evicted.append(self.model.pop(name)[2])

    @rule(number=numbers, weight=st.integers(0, 4 * UNIT), lifetime=lifetimes)
    def store(self, number: int, weight: int, lifetime: float) -> None:
        name, value = key(number), object()
        fits = weight + OVERHEAD <= self.memory.bound // LARGEST_SHARE
        self.model.pop(name, None)
        if fits:
            self.model[name] = value, weight + OVERHEAD, self.now + lifetime
        assert self.memory.put(name, value, weight, self.now + lifetime) is fits
        assert (self.memory.peek(name) is value) is fits

    @rule(number=numbers, weights=st.lists(st.integers(0, UNIT), min_size=2, max_size=20))
    def overwrite(self, number: int, weights: list[int]) -> None:
        for weight in weights:
            self.store(number, weight, float(weight))

    @rule(number=numbers, times=st.integers(1, 5))
    def read(self, number: int, times: int) -> None:
        expected = self.model.get(key(number), (None,))[0]
        for _ in range(times):
            assert self.memory.get(key(number)) is expected

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        assert self.memory.delete(key(number)) is (self.model.pop(key(number), None) is not None)

    @rule(seconds=st.one_of(st.floats(0, 3), st.floats(0, 10_000)), limit=st.integers(0, 40))
    def expire(self, seconds: float, limit: int) -> None:
        self.now += seconds
        self.evicted.clear()
        count = self.memory.expire(self.now, limit)
        assert len(self.evicted) == count <= limit
        assert all(expiry <= self.now for expiry in self.evicted)

    @rule()
    def expire_all(self) -> None:
        for _ in range(len(self.memory) + 1):
            self.memory.expire(self.now, 1)
        assert all(slot.expiry > self.now - 1 for _, slot in self.memory.entries())

    @precondition(lambda self: len(self.memory) > 8)
    @rule()
    def clear(self) -> None:
        self.memory.clear()
        self.model.clear()
        assert not self.memory.ghosts.order

    @invariant()
    def everything_holds(self) -> None:
        check(self.memory)
        assert {name: (slot.value, slot.weight, slot.expiry) for name, slot in self.memory.entries()} == self.model


Steps.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestSteps = Steps.TestCase


def test_what_was_never_put_is_none() -> None:
    memory = room_for(8)
    assert memory.get(key(1)) is None
    assert memory.peek(key(1)) is None
    assert not memory.delete(key(1))


@pytest.mark.parametrize(("over", "stored"), [(0, True), (1, False)])
def test_an_entry_above_an_eighth_of_the_bound_is_refused(over: int, stored: bool) -> None:  # noqa: FBT001 - a table
    memory = room_for(100)
    largest = memory.bound // LARGEST_SHARE - OVERHEAD
    assert put(memory, 1, weight=largest + over) is stored
    assert len(memory) == stored
    check(memory)


def test_a_refused_overwrite_drops_the_value_it_supersedes() -> None:
    memory = room_for(100)
    put(memory, 1)
    assert not put(memory, 1, weight=memory.bound)
    assert memory.peek(key(1)) is None
    check(memory)


def test_nothing_fits_a_bound_of_zero() -> None:
    memory: Memory[int] = Memory(0)
    assert not put(memory, 1, weight=0)
    assert memory.weight == len(memory) == 0


def test_reads_are_counted_up_to_three_and_peeks_are_not() -> None:
    memory = room_for(8)
    put(memory, 1)
    for _ in range(9):
        memory.peek(key(1))
    assert memory.table[key(1)].freq == 0
    for _ in range(9):
        memory.get(key(1))
    assert memory.table[key(1)].freq == MOST_READS


def test_an_overwrite_keeps_what_reads_have_earned_and_its_place() -> None:
    memory = room_for(24)
    for number in range(3):
        put(memory, number)
    memory.get(key(0))
    put(memory, 0, weight=40)
    assert memory.table[key(0)].freq == 1
    assert memory.small.oldest is memory.table[key(0)]
    check(memory)


@pytest.mark.parametrize("weight", [30, 31, 30 + UNIT, 30 + 2 * UNIT])
def test_a_put_never_evicts_its_own_key(weight: int) -> None:
    memory = room_for(24)
    for number in range(24):
        put(memory, number)
    assert put(memory, 0, weight=weight)
    assert memory.peek(key(0)) == 0
    assert memory.weight <= memory.bound
    check(memory)


def test_what_was_read_once_leaves_and_what_was_read_twice_is_promoted() -> None:
    memory = room_for(24)
    for number in range(24):
        put(memory, number)
    memory.get(key(0))
    for _ in range(2):
        memory.get(key(1))
    put(memory, 24)
    put(memory, 25)
    assert memory.peek(key(0)) is None
    assert memory.table[key(1)].home is memory.main
    assert memory.table[key(1)].freq == 0


def test_a_ghost_that_comes_back_goes_to_main() -> None:
    memory = room_for(24)
    for number in range(25):
        put(memory, number)
    assert memory.peek(key(0)) is None
    put(memory, 0)
    assert memory.table[key(0)].home is memory.main
    put(memory, 99)
    assert memory.table[key(99)].home is memory.small


def with_main_full() -> Memory[int]:
    """Fill 30 places: 1 to 27 in main, unread since they came there; 29 to 31 in small, which is its share."""
    memory = room_for(30)
    for number in range(30):
        put(memory, number)
    for number in range(27):
        memory.get(key(number))
        memory.get(key(number))
    put(memory, 30)
    put(memory, 31)
    put(memory, 27)
    assert [slot.value for slot in queued(memory.main)] == list(range(1, 28))
    assert [slot.value for slot in queued(memory.small)] == [29, 30, 31]
    return memory


def test_while_small_has_its_share_the_unread_leave_main_and_leave_no_ghost() -> None:
    memory = with_main_full()
    ghosts = list(memory.ghosts.order)
    put(memory, 50)
    assert [memory.peek(key(number)) for number in (1, 2, 29, 50)] == [None, 2, 29, 50]
    assert list(memory.ghosts.order) == ghosts


@pytest.mark.parametrize(("reads", "left"), [(0, None), (1, 0), (2, 1), (3, 2), (4, 2)])
def test_each_of_up_to_three_reads_buys_one_more_round_in_main(reads: int, left: int | None) -> None:
    memory = with_main_full()
    slot = memory.table[key(1)]
    for _ in range(reads):
        memory.get(key(1))
    put(memory, 50)
    assert (slot.freq if memory.main.newest is slot else None) == left
    assert (key(1) in memory.table) is (left is not None)


def test_what_was_deleted_or_has_ended_leaves_no_ghost() -> None:
    memory = room_for(24)
    put(memory, 1)
    put(memory, 2, expiry=5)
    memory.delete(key(1))
    memory.expire(5)
    assert not memory.ghosts.order


def test_only_what_was_evicted_or_has_ended_is_told() -> None:
    told: list[bytes] = []
    memory: Memory[int] = Memory(24 * UNIT, on_evict=told.append)
    for number in range(24):
        put(memory, number, expiry=number)
    put(memory, 3, expiry=3)
    memory.delete(key(4))
    put(memory, 5, weight=memory.bound)
    assert told == []
    memory.expire(1)
    assert told == [key(0), key(1)] or told == [key(1), key(0)]
    told.clear()
    for number in range(30, 35):
        put(memory, number)
    assert told == [key(2)]
    told.clear()
    memory.clear()
    assert told == []


def test_who_is_told_of_an_eviction_may_put_and_delete() -> None:
    def react(name: bytes) -> None:
        told.append(name)
        if len(told) < 50:
            put(memory, 1_000 + len(told))
            memory.delete(key(len(told) + 5))

    told: list[bytes] = []
    memory: Memory[int] = Memory(24 * UNIT, on_evict=react)
    for number in range(60):
        put(memory, number % 40, weight=30 + number % 7 * 40)
        check(memory)
    assert told


@pytest.mark.parametrize(
    ("expiry", "kept_at", "gone_at"),
    [
        (100.0, 99.9, 100.0),
        (100.5, 100.4, 101.0),
        (-100.0, -101.0, -100.0),
        (-inf, None, -1e9),
        (1e300, 1e299, 1.1e300),
        (2.0**53, 2.0**53 - 1, 2.0**53),
        (inf, 1e308, None),
    ],
)
def test_an_entry_is_kept_until_its_end_and_gone_within_a_second(
    expiry: float, kept_at: float | None, gone_at: float | None
) -> None:
    memory = room_for(8)
    put(memory, 1, expiry=expiry)
    if kept_at is not None:
        assert [memory.expire(kept_at) for _ in range(3)] == [0, 0, 0]
        assert memory.peek(key(1)) == 1
    if gone_at is not None:
        assert memory.expire(gone_at) == 1
        assert memory.peek(key(1)) is None


def test_an_end_that_is_no_number_is_an_error_that_changes_nothing() -> None:
    memory = room_for(8)
    put(memory, 1)
    with pytest.raises(ValueError, match="NaN"):
        put(memory, 1, expiry=nan)
    assert memory.peek(key(1)) == 1
    check(memory)


def test_a_clock_that_steps_back_drops_nothing_early_and_loses_nothing() -> None:
    memory = room_for(16)
    memory.expire(1_000_000)
    put(memory, 1, expiry=1_000_500)
    memory.expire(900_000)
    put(memory, 2, expiry=900_500)
    put(memory, 3, expiry=1_000_500)
    assert memory.expire(900_501) == 1
    assert memory.expire(1_000_499) == 0
    assert memory.expire(1_000_500) == 2
    check(memory)


def test_a_call_of_expire_drops_at_most_its_limit() -> None:
    memory = room_for(1_000)
    for number in range(1_000):
        put(memory, number, expiry=number % 7)
    assert [memory.expire(10, limit=300) for _ in range(5)] == [300, 300, 300, 100, 0]


class Watched(float):
    """A retention end that counts how often it is looked at."""

    looks = 0

    def __le__(self, other: float) -> bool:
        Watched.looks += 1
        return float(self) <= other


def test_expiry_looks_at_an_entry_a_few_times_in_its_life_however_long() -> None:
    memory = room_for(2_000)
    draw = random.Random(7)
    memory.expire(0)
    for number in range(2_000):
        put(memory, number, expiry=Watched(draw.uniform(50_000, 100_000)))
    Watched.looks = 0
    for now in range(0, 40_000, 10):
        memory.expire(now)
    assert Watched.looks <= 2_000
    dropped = sum(memory.expire(now) for now in range(40_000, 100_001, 10))
    assert dropped == 2_000
    assert Watched.looks <= 3 * 2_000


def test_overwriting_one_key_leaves_nothing_behind() -> None:
    memory = room_for(24)
    draw = random.Random(7)
    for step in range(20_000):
        put(memory, 1, weight=step % 50, expiry=step + draw.uniform(0, 90_000))
        if step % 3 == 0:
            memory.delete(key(1))
        if step % 10 == 0:
            memory.expire(step)
    put(memory, 1)
    assert len(list(queued(memory.small))) + len(list(queued(memory.main))) == len(memory) == 1
    assert len(memory.buckets) <= 3 * 65 + 1  # 1 s, 64 s and 4096 s wide, and the one that is never due
    check(memory)


class Held:
    """A value that can be seen to go."""


def test_after_clear_nothing_is_left_even_before_garbage_is_collected() -> None:
    memory: Memory[Held] = Memory(150 * UNIT)
    gone: list[weakref.ref[Held]] = []
    gc.disable()
    try:
        for number in range(200):
            value = Held()
            memory.put(key(number), value, 30, number)
            gone.append(weakref.ref(value))
            del value
        memory.clear()
        while memory.sweep():
            pass
        assert not [value for value in gone if value() is not None]
    finally:
        gc.enable()
    assert not memory.ghosts.order
    assert memory.weight == len(memory) == memory.expire(1e9) == 0
    assert memory.put(key(1), Held(), 30, 5)
    assert memory.expire(1e9) == 1
    check(memory)


@pytest.mark.parametrize("entries", [3_700, 5_500])  # below and above two thirds of a power of two
def test_overhead_covers_what_an_entry_costs(entries: int) -> None:
    keys = [key(number) for number in range(3 * entries)]
    tracemalloc.start()
    try:
        memory: Memory[None] = Memory(entries * (OVERHEAD + 600))
        for number, name in enumerate(keys):
            memory.put(name, None, 500 + number % 201, number % 3600 + 0.5)
        per_entry = tracemalloc.get_traced_memory()[0] / len(memory)
    finally:
        tracemalloc.stop()
    assert per_entry <= OVERHEAD


@pytest.mark.parametrize("victims", [1, 2, 3])
def test_a_put_into_a_hot_cache_spends_its_chances_once_for_each_that_goes(victims: int) -> None:
    entries = 4 * CHANCES
    memory = room_for(entries)
    for number in range(entries):
        put(memory, number)
    for _ in range(MOST_READS):
        for name in memory.table:
            memory.get(name)
    assert put(memory, entries, weight=victims * UNIT - OVERHEAD)
    assert len(memory) == entries + 1 - victims
    assert sum(slot.freq == MOST_READS for slot in memory.table.values()) == entries - victims * (CHANCES + 1)
    assert memory.peek(key(CHANCES)) is None
    check(memory)


def test_a_scan_of_one_hit_wonders_leaves_the_hot_set_alone() -> None:
    memory = room_for(1_000)
    hot = range(500)
    for _ in range(3):
        for number in hot:
            if memory.get(key(number)) is None:
                put(memory, number)
    for number in range(10_000, 40_000):
        put(memory, number)
    assert all(memory.peek(key(number)) == number for number in hot)


def lru_hits(trace: Sequence[int], weights: Sequence[int], bound: int) -> int:
    held: OrderedDict[int, int] = OrderedDict()
    weight = hits = 0
    for number in trace:
        if number in held:
            held.move_to_end(number)
            hits += 1
            continue
        held[number] = weights[number] + OVERHEAD
        weight += held[number]
        while weight > bound:
            weight -= held.popitem(last=False)[1]
    return hits


def hits_of(memory: Memory[int], trace: Sequence[int], weights: Sequence[int]) -> int:
    hits = 0
    for number in trace:
        if memory.get(key(number)) is None:
            put(memory, number, weight=weights[number])
        else:
            hits += 1
    return hits


@pytest.mark.parametrize("heaviest", [30, 3_000])
@pytest.mark.parametrize(("share", "better_by"), [(0.01, 0.08), (0.1, 0.05), (0.3, 0.01)])
def test_the_hit_ratio_on_zipf_is_better_than_that_of_lru(heaviest: int, share: float, better_by: float) -> None:
    draw = random.Random(42)
    count = 10_000
    weights = [draw.randint(30, heaviest) for _ in range(count)]
    trace = draw.choices(range(count), cum_weights=list(accumulate((i + 1) ** -0.9 for i in range(count))), k=60_000)
    bound = int(share * (sum(weights) + count * OVERHEAD))
    gained = hits_of(Memory(bound), trace, weights) - lru_hits(trace, weights, bound)
    assert gained / len(trace) > better_by


def test_reads_from_other_threads_find_the_right_value_or_none() -> None:
    memory = room_for(300)
    wrong: list[object] = []
    done = threading.Event()

    def read(seed: int) -> None:
        draw = random.Random(seed)
        while not done.is_set():
            number = draw.randrange(600)
            if memory.get(key(number)) not in {None, number}:
                wrong.append(number)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
    for reader in readers:
        reader.start()
    draw = random.Random(3)
    for step in range(10_000):
        put(memory, draw.randrange(600), weight=draw.randrange(60), expiry=step + draw.randrange(300))
        memory.expire(step)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    check(memory)
