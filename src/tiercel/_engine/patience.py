"""A deadline for what comes from elsewhere, which a busy loop of our own does not eat up.

Where the loop has been busy, a question may not even have been sent, or its answer wait to be read. So once the time is
over the loop gets some turns, in which everything that has arrived is heard; turns that take long do not count.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

TURNS: Final = 10
LONG: Final = 0.005
"""Seconds. A loop with nothing to do turns in much less."""
AT_MOST: Final = 4
"""Times the deadline, however busy the loop is."""


@asynccontextmanager
async def patience(seconds: float) -> AsyncGenerator[None]:
    """Raise TimeoutError if what is inside takes longer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + AT_MOST * seconds
    over = False
    async with asyncio.timeout(None) as limit:

        def last_call(turns: int, before: float) -> None:
            now = loop.time()
            if turns and now < end:
                loop.call_soon(last_call, turns - (now - before < LONG), now)
            elif not over:
                limit.reschedule(now)

        timer = loop.call_later(seconds, last_call, TURNS, loop.time() + seconds)
        try:
            yield
        finally:
            over = True
            timer.cancel()
