"""Tasks that outlive their request."""

import asyncio
from contextlib import suppress

import pytest
from drive import losses, turns

from tiercel._core.events import Event, Failed
from tiercel._engine.background import GRACE, Background


async def test_a_task_that_nobody_holds_runs_to_its_end() -> None:
    background, done = Background(lambda _: None), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(10)
        done.set()

    background.start(work(), where="test")
    assert len(background) == 1
    await done.wait()
    await turns()
    assert len(background) == 0


async def test_what_a_task_raises_is_told_and_reaches_the_loop() -> None:
    told: list[Event] = []
    background, error = Background(told.append), ValueError("no")

    async def work() -> None:
        raise error

    with losses() as lost:
        background.start(work(), where="test")
        await turns()
    assert lost == [error]
    assert told == [Failed(where="tiercel test", error=error)]


async def test_closing_ends_every_task_and_waits_for_it() -> None:
    background, ended = Background(lambda _: None), list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append("work")

    task = background.start(work(), where="test")
    await turns()
    await background.aclose()
    assert ended == ["work"]
    assert task.cancelled()
    await turns()
    assert len(background) == 0


@pytest.mark.parametrize(("needs", "finishes"), [(GRACE - 1, True), (GRACE + 1, False)])
async def test_what_is_owed_to_an_application_gets_its_time_but_not_for_ever(needs: float, finishes: bool) -> None:  # noqa: FBT001
    background, done = Background(lambda _: None), list[str]()

    async def work() -> None:
        await asyncio.sleep(needs)
        done.append("work")

    task = background.start(work(), where="test")
    background.owe(task)
    other = background.start(asyncio.sleep(1000), where="test")
    await background.aclose()
    assert bool(done) is finishes
    assert other.cancelled()


async def test_what_does_not_listen_is_left_behind_with_an_event() -> None:
    told: list[Event] = []
    background, done = Background(told.append), asyncio.Event()

    async def deaf() -> None:
        while not done.is_set():
            with suppress(asyncio.CancelledError):
                await done.wait()

    task = background.start(deaf(), where="test")
    await turns()
    await background.aclose()
    assert [(type(event), event.where) for event in told if isinstance(event, Failed)] == [(Failed, "tiercel test")]
    done.set()
    await task


async def test_a_task_that_has_ended_is_owed_nothing() -> None:
    background = Background(lambda _: None)
    task = background.start(asyncio.sleep(0), where="test")
    await task
    await turns()
    background.owe(task)
    assert not background._owed
    await background.aclose()


async def test_closing_from_within_does_not_wait_for_itself() -> None:
    background = Background(lambda _: None)
    task = background.start(background.aclose(), where="test")
    await asyncio.wait_for(task, 1)
    assert not task.cancelled()
