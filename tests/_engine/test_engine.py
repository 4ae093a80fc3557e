"""What all requests of a cache share."""

import asyncio
import threading
from typing import Any

import pytest
from drive import Shop

from tiercel._core import keys
from tiercel._core.entry import Entry, Header, Request
from tiercel._core.events import Event, Invalidated
from tiercel._core.memory import SWEPT, Leaving
from tiercel._core.shards import PARTS
from tiercel._engine.flights import Flight
from tiercel._engine.tiers import VARIANTS, key_tag

pytestmark = pytest.mark.usefixtures("road")


KEY = b"k" * 16


def request(*headers: Header, method: str = "GET") -> Request:
    return Request(method, "http", b"shop", b"/", headers)


def launch(shop: Shop, *headers: Header, method: str = "GET", tags: tuple[str, ...] | None = ()) -> Flight:
    engine = shop.engine
    flight = Flight(
        KEY, born=engine.stamps.position, since=0.0, request=request(*headers, method=method), room=engine.room
    )
    flight.tags = tags
    engine.launch(flight)
    return flight


def board(shop: Shop, *headers: Header, method: str = "GET", names: frozenset[bytes] = frozenset()) -> Flight | None:
    return shop.engine.board(KEY, request(*headers, method=method), (), names)


def entry(*names: bytes, headers: tuple[Header, ...]) -> Entry:
    selecting = keys.selecting(names, headers)
    return Entry(
        method="GET",
        status=200,
        headers=[],
        body=b"",
        selecting=selecting,
        born=0,
        asked_at=0,
        answered_at=0,
        lifetime=9,
    )


@pytest.mark.parametrize(
    ("flying", "asking", "boards"),
    [
        ("GET", "GET", True),
        ("GET", "HEAD", True),
        ("HEAD", "HEAD", True),
        ("HEAD", "GET", False),
        ("QUERY", "GET", False),
    ],
)
async def test_a_fill_is_boarded_by_whom_its_method_answers(flying: str, asking: str, boards: bool) -> None:  # noqa: FBT001
    shop = Shop()
    launch(shop, method=flying)
    assert (board(shop, method=asking) is not None) is boards


async def test_what_is_known_to_select_keeps_apart_who_waits() -> None:
    shop, one, other = Shop(), (b"x", b"1"), (b"x", b"2")
    flight = launch(shop, one)
    assert board(shop, other) is flight  # nobody knows yet that it matters
    assert board(shop, other, names=frozenset({b"x"})) is None
    assert board(shop, one, names=frozenset({b"x"})) is flight
    assert shop.engine.board(KEY, request(other), (entry(b"x", headers=(one,)),), frozenset()) is None
    flight.show(entry(b"x", headers=(one,)))
    assert board(shop, other) is None
    assert board(shop, one) is flight


@pytest.mark.parametrize("end", ["pass_by", "end", "fail"])
async def test_nobody_boards_what_is_not_for_everyone_or_over(end: str) -> None:
    shop = Shop()
    flight = launch(shop)
    getattr(flight, end)(*([ValueError()] if end == "fail" else []))
    assert board(shop) is None


async def test_nobody_boards_what_has_retired() -> None:
    shop = Shop()
    flight, other = launch(shop), launch(shop)
    shop.engine.retire(flight)
    assert board(shop) is other
    shop.engine.retire(other)
    shop.engine.retire(other)
    assert board(shop) is None
    assert not shop.engine._flights


@pytest.mark.parametrize(
    ("tags", "cut", "boards"),
    [
        ((), "elsewhere", True),
        (("t",), "t", False),
        (("t",), "elsewhere", True),
        (None, "elsewhere", False),
        ((), key_tag(KEY), False),
    ],
)
async def test_nobody_boards_what_an_invalidation_has_hit(tags: tuple[str, ...] | None, cut: str, boards: bool) -> None:  # noqa: FBT001
    shop = Shop()
    flight = launch(shop, tags=tags)
    assert board(shop) is flight
    shop.engine.cut([cut])
    assert (board(shop) is flight) is boards


async def test_a_soft_invalidation_keeps_late_comers_out_as_well() -> None:
    shop = Shop()
    launch(shop, tags=("t",))
    shop.engine.cut(["t"], soft=True)
    assert board(shop) is None


async def test_of_a_response_without_declared_tags_the_uri_is_known_from_the_start() -> None:
    shop = Shop()
    flight = launch(shop, tags=None)
    flight.by_uri = True
    shop.engine.cut(["elsewhere"])
    assert board(shop) is flight
    shop.engine.cut([keys.uri_tag("http", b"shop", b"/")])
    assert board(shop) is None


async def test_of_too_many_variants_at_once_each_is_on_its_own() -> None:
    shop = Shop()
    flights = [launch(shop, tags=("t",)) for _ in range(VARIANTS + 10)]
    assert len(shop.engine._flights[KEY]) == VARIANTS
    shop.engine.cut(["t"])
    launch(shop, tags=("t",))  # those that nobody boards any more make room
    assert len(shop.engine._flights[KEY]) == 1
    for flight in flights:
        shop.engine.retire(flight)


async def test_a_fill_is_not_boarded_from_another_event_loop() -> None:
    shop, found = Shop(), list[Flight | None]()
    flight = launch(shop)

    async def elsewhere() -> None:
        found.append(board(shop))

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    while thread.is_alive():  # noqa: ASYNC110 - a thread sets no event of this loop
        await asyncio.sleep(0)
    assert found == [None]
    assert board(shop) is flight


async def test_an_invalidation_is_counted_and_told() -> None:
    shop = Shop()
    assert shop.engine.cut(["a", "b"]) == 1
    assert shop.engine.cut(["c"], soft=True) == 2
    assert shop.engine.cut_all() == 3
    assert shop.counts == {"invalidations": 3}
    expected: list[Event] = [
        Invalidated(id=1, tags=("a", "b"), soft=False),
        Invalidated(id=2, tags=("c",), soft=True),
        Invalidated(id=3, tags=("*",), soft=False),
    ]
    assert shop.events == expected


async def test_clearing_forgets_what_is_stored_and_condemns_what_flies() -> None:
    shop = Shop()
    await shop.get()
    flight = launch(shop)
    shop.engine.cut_all()
    assert len(shop.engine.tiers.memory) == 0
    assert not shop.engine.valid(flight)
    assert (await shop.get()).said == "fwd=uri-miss; stored"


async def test_clearing_much_gives_it_back_a_part_in_each_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    for number in range(20 * SWEPT):
        shop.engine.tiers.store(b"%016d" % number, entry(headers=()), 0.0)
    step, turns = Leaving[Any].step, [0]

    def counted(leaving: Leaving[Any]) -> None:
        turns[-1] += 1
        step(leaving)

    monkeypatch.setattr(Leaving, "step", counted)
    for number in range(5_000):
        shop.engine.cut([f"t{number}"])
    clearing = asyncio.ensure_future(shop.engine.clear())
    while not clearing.done():
        turns.append(0)
        await asyncio.sleep(0)
    assert sum(turns) >= 20 * SWEPT
    assert max(turns) <= 2 * SWEPT
    assert shop.engine.tiers.memory.weight == 0
    assert not shop.engine.stamps.sweep()
    assert len(turns) > 20 * SWEPT // (2 * SWEPT) + PARTS


async def test_a_draw_is_never_0() -> None:
    shop = Shop(draw=0.0)
    assert shop.engine.draw() == 1.0
    shop.random = 1 - 2**-53
    assert shop.engine.draw() > 0
