"""That no call of the memory tier does more than so many steps, however much there is."""

import random
from collections.abc import MutableSet
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercel._core import memory as tier
from tiercel._core.memory import CHANCES, EVICTIONS, LARGEST_SHARE, LOOKS, MOST_READS, OVERHEAD, SPARED, SWEPT, Memory
from tiercel._core.shards import PARTS, Numbers, Table
from tiercel._core.slots import Queue, Slot

UNIT = OVERHEAD + 30
MOST = 20 * EVICTIONS


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")[::-1]


class Steps:
    """Counts how often a slot leaves its queue: once for each that goes, or is spared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        remove = Queue[int].remove

        def counted(queue: Queue[int], slot: Slot[int]) -> None:
            self.count += 1
            remove(queue, slot)

        monkeypatch.setattr(Queue, "remove", counted)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def full(entries: int = MOST, *, reads: int = 0, expiry: float = inf) -> Memory[int]:
    memory: Memory[int] = Memory(entries * UNIT)
    for number in range(entries):
        memory.put(key(number), number, 30, expiry)
    for number in range(entries if reads else 0):
        for _ in range(reads):
            memory.get(key(number))
    return memory


def largest(memory: Memory[int]) -> int:
    return memory.bound // LARGEST_SHARE - OVERHEAD


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("reads", [0, 1, MOST_READS])
def test_for_one_entry_so_many_others_go_at_most(steps: Steps, reads: int, *, there: bool) -> None:
    memory = full(reads=reads)
    wanted = key(0 if there else MOST)
    steps.count = 0
    assert not memory.put(wanted, -1, largest(memory), inf)
    assert EVICTIONS <= steps.count <= EVICTIONS + SPARED + 1
    assert memory.peek(wanted) is None
    assert len(memory) == MOST - EVICTIONS - there


def test_what_was_refused_for_want_of_room_fits_when_it_is_tried_often_enough() -> None:
    memory = full()
    tries = next(tries for tries in range(1, 100) if memory.put(key(MOST), -1, largest(memory), inf))
    assert tries == -(-largest(memory) // UNIT // EVICTIONS)
    assert memory.peek(key(MOST)) == -1


def test_who_is_hot_is_spared_so_often_in_one_call_and_then_goes(steps: Steps) -> None:
    memory = full(reads=MOST_READS)
    victims = SPARED // CHANCES + 10
    steps.count = 0
    assert memory.put(key(MOST), -1, victims * UNIT - OVERHEAD, inf)
    assert steps.count == victims + SPARED


def test_of_what_has_ended_so_much_goes_in_one_call(steps: Steps) -> None:
    memory = full(expiry=5.0)
    steps.count = 0
    assert memory.expire(10.0) == steps.count == LOOKS


def test_who_is_behind_says_so_until_all_that_has_ended_is_gone() -> None:
    memory = full(3 * LOOKS + 1, expiry=5.0)
    assert not memory.behind
    for left in (2 * LOOKS + 1, LOOKS + 1, 1):
        memory.expire(10.0)
        assert (len(memory), memory.behind) == (left, True)
    memory.expire(10.0)
    assert (len(memory), memory.behind) == (0, False)


def test_looking_again_later_counts_as_a_look_too(steps: Steps) -> None:
    memory = full(2 * LOOKS, expiry=200.0)
    due = min(memory.buckets)
    assert due < 200.0
    assert (memory.expire(due), memory.behind) == (0, True)
    assert steps.count == 0
    memory.clear()
    assert not memory.behind


class Left:
    """Counts the steps in which what was cleared goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        step = tier.Leaving[int].step

        def counted(leaving: tier.Leaving[int]) -> None:
            self.count += 1
            step(leaving)

        monkeypatch.setattr(tier.Leaving, "step", counted)


def test_what_is_cleared_is_gone_at_once_and_weighs_until_it_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left, memory = Left(monkeypatch), full()
    for number in range(MOST, MOST + 5_000):
        memory.put(key(number), number, 30, inf)
    memory.clear()
    assert left.count == SWEPT
    assert len(memory) == 0
    assert not memory.ghosts.order
    assert all(memory.peek(key(number)) is None for number in range(MOST + 5_000))
    assert (MOST - SWEPT) * UNIT <= memory.weight < MOST * UNIT
    calls = 1
    while memory.sweep():
        calls += 1
        assert left.count <= calls * SWEPT
    assert memory.weight == 0
    assert left.count <= MOST + 2 * PARTS + 2


def test_what_was_cleared_goes_before_anything_that_came_later(steps: Steps) -> None:
    memory = full()
    memory.clear()
    steps.count = 0
    for number in range(MOST):
        assert memory.put(key(number), number, 30, inf)
        assert memory.weight <= memory.bound
    assert steps.count == 0
    assert len(memory) == MOST


def test_what_was_cleared_is_no_ones_victim_and_large_ones_wait_for_it() -> None:
    memory = full()
    memory.clear()
    memory.put(key(1), 1, 30, inf)
    tries = next(tries for tries in range(1, 100) if memory.put(key(2), 2, largest(memory), inf))
    assert 1 < tries <= MOST // LARGEST_SHARE // SWEPT + 2
    assert (memory.peek(key(1)), memory.peek(key(2))) == (1, 2)


@given(st.integers(1, 300), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3_000)), max_size=60))
@settings(max_examples=40, deadline=None)
def test_however_sizes_mix_a_call_takes_bounded_steps(entries: int, puts: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tier, "EVICTIONS", 5)
        patch.setattr(tier, "CHANCES", 3)
        patch.setattr(tier, "SPARED", 7)
        steps, memory = Steps(patch), full(entries, reads=random.Random(entries).randrange(4))
        for number, weight in puts:
            steps.count = 0
            memory.put(key(number), number, weight, inf)
            assert steps.count <= 5 + 7 + 1
            assert memory.weight <= memory.bound


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=3)), max_size=200))
def test_a_table_in_parts_is_a_dict(changes: list[tuple[bool, bytes]]) -> None:
    table, model = Table[int](), dict[bytes, int]()
    for number, (adding, name) in enumerate(changes):
        if adding and name not in model:
            table.add(name, number)
            model[name] = number
        elif not adding and name in model:
            table.remove(name)
            del model[name]
        assert (len(table), table.get(name)) == (len(model), model.get(name))
    assert dict(table) == model


@given(st.lists(st.tuples(st.booleans(), st.integers(-600, 600)), max_size=200))
def test_a_set_in_parts_is_a_set(changes: list[tuple[bool, int]]) -> None:
    numbers: MutableSet[int] = Numbers()
    model = set[int]()
    for adding, number in changes:
        (numbers.add if adding else numbers.discard)(number)
        (model.add if adding else model.discard)(number)
        assert (number in numbers, len(numbers)) == (number in model, len(model))
    assert numbers == model


def test_no_part_of_a_table_is_much_larger_than_the_others() -> None:
    draw = random.Random(3)
    table = Table[None]()
    for _ in range(50_000):
        table.add(draw.randbytes(16), None)
    assert max(map(len, table.parts)) < 2 * 50_000 / PARTS
