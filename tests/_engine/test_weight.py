"""That entries weigh what they take: the bound is one of memory, not of numbers that we made up."""

import gc
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tiercel import Cache
from tiercel._core.entry import Entry, Header
from tiercel._core.headers import shared
from tiercel._core.memory import OVERHEAD
from tiercel._engine.stamps import Stamps
from tiercel._engine.tiers import Tiers, weigh

NOW = 1_800_000_000.0
ENTRIES = 2_000
WITHIN = pytest.approx(1.0, abs=0.2)

draw = random.Random(5)


def made(size: int) -> bytes:
    """Bytes that nobody else has."""
    return draw.randbytes(size)


def hexed(size: int = 16) -> str:
    return made(size).hex()


def response(  # noqa: PLR0913 - what a response may carry
    number: int, *, size: int = 500, alike: int = 2, own: int = 1, tags: int = 1, selecting: int = 0
) -> Entry:
    """One whose parts are new objects, as those of a real one are."""
    names = ("content-type", "cache-control", "vary", "server", "x-frame-options", "referrer-policy")
    lines: list[Header] = [(name.encode(), f"the {name} of all".encode()) for name in names[:alike]]
    lines += [(b"x-own-%d" % one, hexed().encode()) for one in range(own)]
    at = NOW + number * 0.00123
    return Entry(
        method="GET",
        status=200,
        headers=shared(lines),
        body=made(size),
        tags=tuple([f"u:{hexed()}" for _ in range(tags)]),
        selecting=tuple([(b"x-selecting-%d" % one, made(16)) for one in range(selecting)]),
        born=0,
        asked_at=at,
        answered_at=at + 0.0005,
        initial_age=0.0001 * (number + 1),
        lifetime=86_400.0 - number * 0.001,
    )


def taken(fill: Callable[[int], Tiers]) -> float:
    """What is weighed over what is taken, when all that was put in first has been evicted."""
    fill(1_100)  # what is remembered once, of a bounded size, is remembered now
    gc.collect()
    tracemalloc.start()
    try:
        filled = fill(2 * ENTRIES)
        gc.collect()
        return filled.memory.weight / tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "shape",
    [
        {"size": 2_500},
        {"size": 40, "alike": 6, "own": 3},
        {"own": 20},
        {"tags": 12},
        {"selecting": 5},
    ],
    ids=str,
)
def test_a_response_weighs_what_it_takes(shape: dict[str, Any]) -> None:
    def fill(count: int) -> Tiers:
        tiers = Tiers(ENTRIES * (OVERHEAD + 16 + weigh(response(0, **shape))), Stamps())
        for number in range(count):
            at = NOW + number * 0.00123
            assert tiers.store(made(16), response(number, **shape), at) == ""
        return tiers

    assert taken(fill) == WITHIN


@dataclass
class Item:
    """What only a copy keeps apart."""

    name: str
    price: float
    sizes: list[int]


def rows() -> list[dict[str, object]]:
    return [{"id": one + 1_000_000, "name": hexed(8)} for one in range(5)]


def item() -> Item:
    return Item(hexed(8), draw.random(), [1, 2, 3])


def items() -> list[Item]:
    return [item() for _ in range(4)]


def number() -> float:
    return draw.random()


def text() -> str:
    return hexed(200)


@pytest.mark.parametrize(("make", "tags"), [(number, 0), (text, 3), (rows, 0), (item, 0), (items, 1)])
def test_a_value_weighs_what_it_takes(make: Callable[[], object], tags: int) -> None:
    bound: int | None = None

    def fill(count: int) -> Tiers:
        cache = Cache(memory=bound or 1 << 20)

        def function(_: tuple[int]) -> object:  # keys of tuples are not remembered
            return make()

        function.__annotations__["return"] = make.__annotations__["return"]
        call = cache.memoize(ttl=3_600, tags=lambda _, __: [hexed() for _ in range(tags)])(function)
        for one in range(count):
            call((one,))
        return cache.engine.tiers

    some = fill(10).memory
    bound = ENTRIES * some.weight // len(some)
    assert taken(fill) == WITHIN
