"""Empties the outbox while the application runs: at once after a commit of its own, and now and then for the others."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from storefront.database import Database
from storefront.events import queries
from storefront.events.bus import Bus
from storefront.events.outbox import Outbox

REMEMBERED = timedelta(days=30)
"""For so long it is known that an event was handled; it does not come again so late."""

PAUSE = 1.0
"""Seconds until it is tried again when the database or Redis has failed."""

AGAIN = 0.1
"""Seconds until what goes on although it was cancelled is cancelled once more."""

_log = logging.getLogger("storefront.events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Where a process dies, what it has committed is found by the next that starts, or at the others' next `sweep`."""

    database: Database
    outbox: Outbox
    bus: Bus
    sweep: timedelta

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Forward events while this is entered."""
        async with self.database.sessions() as session:
            if await queries.next_due(session) is not None:
                self.outbox.nudged.set()
        async with meanwhile(self._run()):
            yield

    async def _run(self) -> None:
        longest = self.sweep.total_seconds()
        wait = longest
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.outbox.nudged.wait()
            nudged = self.outbox.nudged.is_set()
            self.outbox.nudged.clear()
            try:
                wait = min(await self.bus.forward(), longest)
                if not nudged and wait == longest:
                    await self._tidy()
            except Exception:  # noqa: BLE001 - nothing is lost by it, and nobody else would begin this again
                _log.exception("events wait: it is tried again in %s s", PAUSE)
                wait = PAUSE

    async def _tidy(self) -> None:
        async with self.database.sessions() as session, session.begin():
            await queries.forget_handled(session, datetime.now(UTC) - REMEMBERED)


@asynccontextmanager
async def meanwhile(work: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """Let something run that has no end, while this is entered; where it ends by itself the log says so."""
    task = asyncio.create_task(work)
    task.add_done_callback(_said)
    try:
        yield
    finally:
        # One cancellation may get lost: where it comes just as an answer does, redis-py has been seen to swallow it.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=AGAIN)


def _said(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        _log.error("%s has ended, and nobody begins it again", task.get_coro(), exc_info=task.exception())
