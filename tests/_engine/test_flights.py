"""Running fills, and those who read them."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from drive import turns

from tiercel._core import keys
from tiercel._core.entry import Entry, Header, Request
from tiercel._engine.chunks import Room
from tiercel._engine.flights import STALL, WINDOW, Flight, Phase, PutOffError, Reader


def request(*headers: Header) -> Request:
    return Request("GET", "http", b"shop", b"/", headers)


def flight(*, caller: bool = True) -> Flight:
    return Flight(b"key", born=0, since=0.0, request=request(), room=Room(10_000_000), caller=caller)


def entry(body: bytes = b"", names: Sequence[bytes] = (), headers: Sequence[Header] = ()) -> Entry:
    return Entry(
        method="GET",
        status=200,
        headers=[],
        body=body,
        selecting=keys.selecting(names, headers),
        born=0,
        asked_at=0.0,
        answered_at=0.0,
        lifetime=60.0,
    )


async def drained(reader: Reader, *, pause: float = 0.0) -> list[bytes]:
    """All that it reads."""
    pieces: list[bytes] = []
    try:
        while (piece := await reader.read()) is not None:
            pieces.append(piece)
            await asyncio.sleep(pause)
    finally:
        reader.leave()
    return pieces


async def test_everyone_aboard_reads_the_same_from_the_start() -> None:
    flying = flight()
    early = flying.board(request())
    flying.show(entry())
    flying.feed(b"a")
    late = flying.board(request())
    flying.feed(b"")
    flying.feed(b"b")
    reading = [asyncio.create_task(drained(reader)) for reader in (early, late)]
    await turns()
    flying.feed(b"c")
    await turns()
    flying.land(entry(b"abcd"), stored=True)
    assert await asyncio.gather(*reading) == [[b"a", b"b", b"c", b"d"]] * 2
    assert flying.chunks.weight == 0


async def test_who_has_read_nothing_when_it_lands_is_given_the_very_body_that_is_stored() -> None:
    flying = flight()
    reader = flying.board(request())
    flying.show(entry())
    flying.feed(b"ab")
    landed = entry(b"abcd")
    flying.land(landed, stored=True)
    piece = await reader.read()
    assert piece is landed.body
    assert await reader.read() is None


async def test_what_broke_it_reaches_every_reader_at_once_and_nothing_more_does() -> None:
    flying, error = flight(), ValueError("no")
    flying.show(entry())
    readers = [flying.board(request()) for _ in range(3)]
    flying.feed(b"a")
    assert await readers[0].read() == b"a"
    waiting = asyncio.create_task(readers[0].read())
    await turns()
    flying.fail(error)
    with pytest.raises(ValueError, match="no"):
        await waiting
    for reader in readers[1:]:
        with pytest.raises(ValueError, match="no"):
            await reader.read()
    with pytest.raises(ValueError, match="no"):
        await flying.finished()


async def test_it_is_settled_when_it_is_known_what_kind_of_answer_it_is() -> None:
    flying = flight()
    assert not await flying.settled(5)
    assert flying.loop.time() == 5.0
    waiting = asyncio.create_task(flying.settled())
    timed = asyncio.create_task(flying.settled(5))
    await asyncio.sleep(1)
    flying.pass_by()
    assert await waiting
    assert await timed
    assert flying.loop.time() == 6.0


async def test_a_wait_that_is_cancelled_leaves_nothing_behind() -> None:
    flying = flight()
    waits = [asyncio.create_task(flying.settled()) for _ in range(10)]
    await turns()
    for wait in waits:
        wait.cancel()
    await turns()
    assert not flying._waiting


async def test_those_who_wait_go_on_in_the_order_in_which_they_came() -> None:
    flying, order = flight(), list[int]()

    async def wait(number: int) -> None:
        await flying.settled()
        order.append(number)

    waits = [asyncio.create_task(wait(number)) for number in range(20)]
    await turns()
    flying.pass_by()
    await asyncio.gather(*waits)
    assert order == list(range(20))


async def test_it_is_attended_as_long_as_there_is_a_caller_or_a_reader() -> None:
    emptied: list[int] = []
    flying = flight()
    flying.emptied = lambda: emptied.append(1)
    own, other = flying.board(request(), own=True), flying.board(request())
    own.leave()
    assert (flying.attended, flying.has_caller, emptied) == (True, False, [])
    other.leave()
    assert (flying.attended, emptied) == (False, [1])
    late = flying.board(request())
    assert flying.attended
    late.leave()
    assert emptied == [1, 1]


def show_and_let_go(flying: Flight) -> None:
    flying.show(entry())
    flying.let_go()


STEPS: list[tuple[Callable[[Flight], object], bool]] = [
    (lambda flying: None, False),
    (lambda flying: flying.show(entry()), False),
    (lambda flying: flying.pass_by(), True),
    (show_and_let_go, True),
    (lambda flying: flying.land(entry(), stored=True), True),
    (lambda flying: flying.end(), True),
    (lambda flying: flying.fail(ValueError()), True),
]


@pytest.mark.parametrize(("do", "unwanted"), STEPS)
async def test_without_anybody_aboard_it_is_unwanted_once_nobody_can_come(
    do: Callable[[Flight], object],
    unwanted: bool,  # noqa: FBT001
) -> None:
    flying = flight(caller=False)
    do(flying)
    assert flying.unwanted is unwanted


async def test_of_what_is_let_go_only_that_is_kept_which_somebody_aboard_is_still_to_read() -> None:
    flying = flight()
    flying.show(entry())
    readers = [flying.board(request()) for _ in range(2)]
    for chunk in (b"a", b"b", b"c"):
        flying.feed(chunk)
    weight = flying.chunks.weight
    flying.let_go()
    assert flying.chunks.weight == weight
    for _ in range(2):
        await readers[0].read()
    assert flying.chunks.weight == weight
    await readers[1].read()
    assert flying.chunks.weight == weight * 2 // 3
    readers[1].leave()
    assert flying.chunks.weight == weight // 3
    flying.end()
    assert await readers[0].read() == b"c"
    assert await readers[0].read() is None
    assert flying.chunks.weight == 0


async def test_who_boards_and_has_not_read_yet_loses_nothing_to_a_body_that_outgrows_in_the_same_turn() -> None:
    flying = flight()
    reader = flying.board(request(), own=True)
    flying.show(entry())
    flying.let_go()
    flying.feed(b"a" * WINDOW)
    flying.feed(b"b")
    flying.end()
    assert b"".join(await drained(reader)) == b"a" * WINDOW + b"b"


async def test_a_body_that_is_let_go_waits_for_its_slowest_reader() -> None:
    flying = flight()
    flying.show(entry())
    reading = asyncio.create_task(drained(flying.board(request()), pause=10))
    flying.let_go()
    times: list[float] = []
    for _ in range(3):
        flying.feed(b"x" * WINDOW)
        await flying.kept_up()
        times.append(flying.loop.time())
    flying.end()
    assert len(b"".join(await reading)) == 3 * WINDOW
    assert times == [0.0, 10.0, 20.0]


async def test_whoever_keeps_others_waiting_for_too_long_is_put_off_and_no_other() -> None:
    flying = flight()
    flying.show(entry())
    slow, well = flying.board(request()), flying.board(request())
    reading = asyncio.create_task(drained(well))
    flying.let_go()
    flying.feed(b"x" * WINDOW)
    flying.feed(b"y")
    await flying.kept_up()
    assert flying.loop.time() == STALL
    flying.end()
    assert len(b"".join(await reading)) == WINDOW + 1
    with pytest.raises(PutOffError):
        await slow.read()


async def test_a_trickle_is_no_excuse_for_keeping_others_waiting() -> None:
    flying = flight()
    flying.show(entry())
    slow, well = flying.board(request()), flying.board(request())
    for _ in range(100):
        flying.feed(b"x" * 10_000)
    trickling = asyncio.create_task(drained(slow, pause=STALL - 1))
    reading = asyncio.create_task(drained(well))
    flying.let_go()
    await flying.kept_up()
    assert flying.loop.time() == STALL
    flying.end()
    assert len(b"".join(await reading)) == 1_000_000
    assert isinstance((await asyncio.gather(trickling, return_exceptions=True))[0], PutOffError)


async def test_who_rides_alone_is_never_put_off() -> None:
    flying = flight()
    flying.show(entry())
    reader = flying.board(request())
    flying.let_go()
    flying.feed(b"x" * WINDOW)
    waiting = asyncio.create_task(flying.kept_up())
    await asyncio.sleep(100 * STALL)
    assert not waiting.done()
    assert await reader.read() == b"x" * WINDOW
    await waiting


async def test_who_turns_out_not_to_be_meant_goes_no_further() -> None:
    flying = flight()
    flying.show(entry())
    one, other = flying.board(request((b"x", b"1"))), flying.board(request((b"x", b"2")))
    flying.feed(b"a")
    assert [await one.read(), await other.read()] == [b"a", b"a"]
    flying.narrow(entry(names=[b"x"], headers=[(b"x", b"1")]))
    flying.feed(b"b")
    assert await one.read() == b"b"
    with pytest.raises(PutOffError):
        await other.read()


async def test_who_hangs_up_reads_no_more() -> None:
    flying = flight()
    flying.show(entry())
    reader = flying.board(request())
    reading = asyncio.create_task(drained(reader))
    await turns()
    reader.hang_up()
    assert await reading == []
    assert reader.gone


async def test_what_its_request_selects_by_is_worked_out_once() -> None:
    flying = Flight(b"key", born=0, since=0.0, request=request((b"x", b"1")), room=Room(10))
    names = frozenset({b"x"})
    assert flying.selecting(names) is flying.selecting(frozenset({b"x"}))
    assert flying.selecting(names) == keys.selecting(names, [(b"x", b"1")])
    assert flying.selecting(frozenset()) == ()


async def test_to_abandon_it_is_to_cancel_the_application() -> None:
    flying = flight()
    flying.abandon()
    flying.task = asyncio.create_task(asyncio.sleep(1000))
    flying.abandon()
    await turns()
    assert flying.task.cancelled()
    assert not flying.has_caller
    assert flying.phase is Phase.ASKING
