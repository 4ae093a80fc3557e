"""The way to a shared store: open, bounded in time, and left alone while it is in trouble."""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tiercel._core.events import Event, Failed
from tiercel._engine.background import GRACE
from tiercel._engine.breaker import Breaker
from tiercel._engine.patience import patience
from tiercel._engine.stamps import Stamps
from tiercel.errors import StoreError, TiercelError
from tiercel.spi import Clock, Store

_log = logging.getLogger("tiercel")
T = TypeVar("T")


class _ElsewhereError(StoreError):
    """It is in use by another event loop: nothing that the store has done, nor a reason to leave it alone."""


class Reach:
    """Of one store, from one process."""

    def __init__(
        self, store: Store, *, stamps: Stamps, clock: Clock, tell: Callable[[Event], None], deadline: float
    ) -> None:
        self.store = store
        self.deadline = deadline
        """Seconds."""
        self.first: Callable[[], Awaitable[None]] = _nothing
        """What is asked of the store before anything else."""
        self._stamps = stamps
        self._tell = tell
        self._breaker = Breaker(clock.monotonic)
        self._failing = False
        """Whether the log has been told of trouble that is not over."""
        self._session: Session | None = None
        self._opening = threading.Lock()

    @property
    def session(self) -> "Session | None":
        """The store as it was opened last."""
        return self._session

    async def open(self) -> None:
        """Open the store in this process and loop, unless it is.

        Raises:
            TiercelError: It cannot be opened.
        """
        loop = asyncio.get_running_loop()
        with self._opening:
            session = self._session
            if session is not None and session.is_elsewhere:
                message = "it is open in another event loop of this process, and cannot be in two"
                raise _ElsewhereError(message)
            if session is None or session.loop is not loop or session.is_over:
                session = self._session = Session(self.store, self._stamps, self._tell, loop)
        await session.opened()

    async def aclose(self) -> None:
        """Close it."""
        session = self._session
        if session is not None and session.loop is asyncio.get_running_loop():
            await session.aclose()

    async def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Within the deadline, and only while the store is not left alone.

        Raises:
            StoreError: It was not done, or nobody knows.
        """
        if not self._breaker.allows():
            message = "the store is left alone for a moment: it has failed several times in a row"
            raise StoreError(message)
        try:
            async with patience(self.deadline):
                await self.open()
                await self.first()
                done = await work()
        except _ElsewhereError as error:
            self._breaker.left()
            self._tell(Failed(where="store", error=error))
            raise
        except (TiercelError, TimeoutError) as error:
            self._breaker.failed()
            why = str(error) or f"no answer within {self.deadline} s"
            failure = error if isinstance(error, StoreError) else StoreError(why)
            self._tell(Failed(where="store", error=failure))
            if not self._failing:
                self._failing = True
                _log.warning(
                    "The shared store does not do what it is asked to: %s. Requests go on without it.",
                    str(failure).rstrip("."),
                )
            raise failure from error
        except BaseException:
            self._breaker.left()
            raise
        self._breaker.succeeded()
        if self._failing:
            self._failing = False
            _log.warning("The shared store does again what it is asked to.")
        return done

    async def greet(self) -> None:
        """Do what waits to be done. Raises as `do`."""
        await self.do(_nothing)


class Session:
    """A store that is open, in a task of its own: whatever it enters, it leaves in the same task."""

    def __init__(
        self, store: Store, log: Stamps, tell: Callable[[Event], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self._pid = os.getpid()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._closing = asyncio.Event()
        self._task = loop.create_task(self._run(store, log, tell), name="tiercel store")

    @property
    def is_here(self) -> bool:
        """Whether the running code is in its loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is open in a loop that runs in another thread; after a fork no thread of the parent's runs."""
        return not self.is_here and not self.is_over and self.loop.is_running() and self._pid == os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether it is closed, or could not be opened."""
        return self._task.done()

    async def opened(self) -> None:
        """Wait until it is. Raises what keeps it from that."""
        await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """Wait until it is closed; not for a store that does not answer."""
        self._closing.set()
        if not self._opened.done():
            self._task.cancel()
        await asyncio.wait([self._task], timeout=GRACE)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, store: Store, log: Stamps, tell: Callable[[Event], None]) -> None:
        try:
            async with store.running(log, tell):
                self._opened.set_result(None)
                await self._closing.wait()
        except asyncio.CancelledError:
            self._not_opened(StoreError("the cache is closed"))
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            if self._opened.done():
                tell(Failed(where="store", error=error))
            else:
                self._not_opened(error)

    def _not_opened(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # there may be nobody left to hear of it


async def _nothing() -> None: ...
