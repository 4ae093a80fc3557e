"""Claims of `tiercel.testing`: nothing sleeps, order is exact, and a test that would hang says why."""

import asyncio
import threading
import time
from functools import partial

import anyio.from_thread
import anyio.to_thread
import pytest

from tiercel.clock import SystemClock
from tiercel.spi import Clock
from tiercel.testing import StuckError, VirtualClock, VirtualLoop, run_virtual

DAY = 86_400.0


async def test_async_tests_run_in_virtual_time_by_default() -> None:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.realtime
async def test_the_realtime_marker_chooses_real_time() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


def test_a_year_takes_no_real_time() -> None:
    before = time.monotonic()
    run_virtual(asyncio.sleep(365 * DAY))
    assert time.monotonic() - before < 10


async def test_timers_fire_in_order_at_their_moments() -> None:
    fired: list[tuple[float, str]] = []
    loop = asyncio.get_running_loop()

    async def fire(delay: float, name: str) -> None:
        await asyncio.sleep(delay)
        fired.append((loop.time(), name))

    await asyncio.gather(fire(0.3, "c"), fire(0.1, "a"), fire(0.2, "b"))
    assert fired == [(0.1, "a"), (0.2, "b"), (0.3, "c")]


@pytest.mark.parametrize("step", [0.1, 1 / 3, 1e-7, 3.3333333333333333e-10, 2**-53])
async def test_who_waits_until_a_moment_gets_there(step: float) -> None:
    loop = asyncio.get_running_loop()
    for count in range(1, 100):
        moment = loop.time() + step * count
        while loop.time() < moment:
            reached = loop.create_future()
            loop.call_at(moment, reached.set_result, None)
            await reached


async def test_time_stands_still_while_tasks_are_ready() -> None:
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() == 0


async def test_a_time_limit_falls_at_its_moment() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == 30


def test_a_wait_that_nothing_ends_is_an_error_that_names_the_task() -> None:
    async def forgotten() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match=r"Task-\d+: .*forgotten \(test_testing\.py:\d+\) > Event\.wait \(locks\.py:"):
        run_virtual(forgotten())


def test_tasks_are_cancelled_after_being_stuck() -> None:
    ended: list[str] = []

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(StuckError):
        run_virtual(forgotten())
    assert ended == ["cancelled"]


async def test_time_stands_still_while_a_thread_of_asyncio_works() -> None:
    async with asyncio.timeout(1):
        await asyncio.to_thread(threading.Event().wait, 0.3)
    assert asyncio.get_running_loop().time() == 0


async def test_time_stands_still_while_a_thread_of_anyio_works() -> None:
    async with asyncio.timeout(1):
        await anyio.to_thread.run_sync(threading.Event().wait, 0.3)
    assert asyncio.get_running_loop().time() == 0


def test_a_thread_may_wait_for_a_timer_of_the_loop() -> None:
    async def roundabout() -> float:
        await anyio.to_thread.run_sync(anyio.from_thread.run, asyncio.sleep, 3600)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=partial(VirtualLoop, patience=0.05)) as runner:
        assert runner.run(roundabout()) == 3600


def test_a_thread_that_stays_silent_does_not_keep_a_stuck_loop_alive() -> None:
    async def forgotten() -> None:
        await asyncio.to_thread(time.monotonic)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=partial(VirtualLoop, patience=0.05)) as runner, pytest.raises(StuckError):
        runner.run(forgotten())


async def test_idle_threads_of_anyio_hold_nothing_up() -> None:
    await anyio.to_thread.run_sync(time.monotonic)
    before = time.monotonic()
    for _ in range(1_000):
        await asyncio.sleep(1)
    assert time.monotonic() - before < 10
    assert asyncio.get_running_loop().time() == 1_000


async def test_a_socket_is_heard_before_time_moves_on() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, asyncio.timeout(1):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"heard\n")
        assert await reader.read() == b"heard\n"
        writer.close()
        await writer.wait_closed()
    assert asyncio.get_running_loop().time() == 0


async def test_the_clock_reads_the_loop() -> None:
    clock = VirtualClock()
    await asyncio.sleep(1.5)
    assert (clock.time(), clock.monotonic()) == (1_800_000_001.5, 1.5)


def test_a_clock_made_before_the_loop_reads_it_too(clock: VirtualClock) -> None:
    async def later() -> float:
        await asyncio.sleep(5)
        return clock.monotonic()

    assert run_virtual(later()) == 5


async def test_the_clock_reads_the_loop_from_a_worker_thread() -> None:
    clock = VirtualClock()
    await asyncio.sleep(7)
    assert await asyncio.to_thread(clock.monotonic) == 7


def test_the_clock_never_steps_back_from_loop_to_loop(clock: VirtualClock) -> None:
    async def after(delay: float) -> float:
        await asyncio.sleep(delay)
        return clock.monotonic()

    assert [run_virtual(after(2)), clock.monotonic(), run_virtual(after(1)), clock.monotonic()] == [2, 2, 3, 3]


async def test_advancing_the_clock_fires_no_timer(clock: VirtualClock) -> None:
    sleeper = asyncio.ensure_future(asyncio.sleep(10))
    await asyncio.sleep(0)
    clock.advance(60)
    await asyncio.sleep(1)
    assert (clock.monotonic(), sleeper.done()) == (61, False)
    sleeper.cancel()


def test_the_clock_cannot_be_moved_back(clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match="give 0 or more seconds"):
        clock.advance(-1)


@pytest.mark.parametrize("make", [SystemClock, VirtualClock])
def test_both_clocks_are_clocks(make: type[SystemClock | VirtualClock]) -> None:
    clock: Clock = make()
    assert clock.time() > 1_600_000_000
    assert clock.monotonic() <= clock.monotonic()


def test_the_system_clock_reads_the_machine() -> None:
    before = time.time()
    assert before <= SystemClock().time() <= time.time() + 1
