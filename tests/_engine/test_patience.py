"""A deadline for what comes from elsewhere: as long as it says, and a busy loop does not count."""

import asyncio
import socket
import threading
import time

import pytest

from tiercel._engine.patience import patience


async def test_what_takes_longer_is_given_up_after_so_long() -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with patience(0.05):
            await asyncio.sleep(60)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.05)


async def test_what_is_done_in_time_is_left_alone() -> None:
    async with patience(0.05):
        await asyncio.sleep(0.04)
    await asyncio.sleep(1)


async def test_what_goes_wrong_inside_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        async with patience(0.05):
            raise ZeroDivisionError


@pytest.mark.realtime
async def test_an_answer_that_came_while_the_loop_was_busy_has_come_in_time() -> None:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    answering = threading.Timer(0.02, there.sendall, [b"answer"])
    answering.start()
    asyncio.get_running_loop().call_later(0.01, time.sleep, 0.2)
    async with patience(0.05):
        assert await reader.read(6) == b"answer"
    writer.close()
    await writer.wait_closed()
    there.close()
    answering.join()
