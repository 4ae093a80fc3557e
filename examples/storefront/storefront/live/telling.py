"""How a listener is told, until it goes, falls behind, or the server ends: the same for both ways of telling."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from storefront.live.feed import Listener
from storefront.live.schemas import Told

LAST_WORD = 1.0
"""Seconds for what is said to a client that is let go; one that does not read is not waited for."""

Emit = Callable[[Told | None], Awaitable[None]]


async def tell(listener: Listener, emit: Emit, gone: Awaitable[None], heartbeat: float) -> None:
    """Have everything emitted, and None where nothing was for `heartbeat` seconds, until it is over or `gone` is."""
    # Each in a task of its own: a client that does not read keeps `emit` waiting, and nothing else.
    tasks = [asyncio.ensure_future(each) for each in (_emit_all(listener, emit, heartbeat), gone, _over(listener))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def last_word(word: Awaitable[None]) -> None:
    """Say something to a client that is let go, if it listens."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORD):
            await word


async def _emit_all(listener: Listener, emit: Emit, heartbeat: float) -> None:
    while True:
        told: Told | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(heartbeat):
                told = await listener.next()
        await emit(told)


async def _over(listener: Listener) -> None:
    await listener.over.wait()
