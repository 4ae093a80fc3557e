"""Telling a shared store what is cut: surely, or later, or never without saying so.

asked for → told ──────────────▶ acknowledged
↳ the store is away → cut here, and queued: the first thing that it is told when it is back
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from tiercel._engine.background import Background
from tiercel._engine.breaker import LONGEST
from tiercel._engine.reach import Reach
from tiercel._engine.stamps import Stamps
from tiercel.errors import NotAcknowledged, StoreError
from tiercel.spi import Holds, Witnesses

_log = logging.getLogger("tiercel")

HELD: Final = 30.0
"""Seconds that a change may take before its tags are cut although nobody has said that it is over."""
WITNESSED: Final = 5.0
"""Seconds that other processes get to apply a cut that is waited for."""
TOGETHER: Final = 100
"""Invalidations that are told at once when the store is back."""
QUEUED: Final = 1_000
"""Invalidations that wait for the store to come back; beyond that, everything is cut instead."""


@dataclass(slots=True)
class Promise:
    """A cut that the store will make should nobody else do it."""

    store: Holds
    tokens: list[bytes]
    """Of the holds that are not over."""
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Queued:
    """An invalidation of which the store has not been told. No other is the same."""

    tags: tuple[str, ...]
    soft: bool


class Telling:
    """Of one store, by one process."""

    def __init__(self, reach: Reach, *, stamps: Stamps, background: Background) -> None:
        self._reach = reach
        self._stamps = stamps
        self._background = background
        self._queued: deque[_Queued] = deque()
        """Invalidations of which the store has not been told."""
        self._errands: deque[Callable[[], Awaitable[None]]] = deque()
        self._making_good: asyncio.Task[None] | None = None
        reach.first = self._catch_up

    async def append(self, tags: tuple[str, ...], *, soft: bool = False) -> int:
        """Cut tags for all; no tags: everything.

        Raises:
            NotAcknowledged: The store did not answer; here it is done, and it is queued for the others.
        """
        session = self._reach.session
        if session is not None and session.is_elsewhere:
            there = asyncio.run_coroutine_threadsafe(self.append(tags, soft=soft), session.loop)
            return await asyncio.wrap_future(there)
        named = ", ".join(tags) or "everything"
        return await self._told(
            partial(self._reach.store.append, tags, soft=soft),
            tags,
            soft=soft,
            otherwise=f"{named}: invalidated in this process, but the store has not acknowledged it.",
        )

    async def promise(self, tags: tuple[str, ...]) -> "Promise | None":
        """Have the store hold the tags, and cut them should nobody do it. None: it is not one that can.

        Raises:
            NotAcknowledged: The store did not answer; nothing has been done.
        """
        store = self._reach.store
        if not isinstance(store, Holds):
            return None
        try:
            return Promise(store, [await self._reach.do(partial(store.hold, tags, HELD))], tags)
        except StoreError as error:
            message = f"{', '.join(tags)}: the store did not answer, so the change has not begun. {error}"
            raise NotAcknowledged(message) from error

    async def lengthen(self, promise: "Promise") -> None:
        """Have it promised anew, over and over: the store keeps each promise when its time is over."""
        while True:
            await asyncio.sleep(HELD / 3)
            with contextlib.suppress(StoreError):  # told already; what was promised last stands
                promise.tokens.append(await self._reach.do(partial(promise.store.hold, promise.tags, HELD)))
                await self._reach.do(partial(promise.store.release, promise.tokens[0], promise.tags))
                del promise.tokens[0]

    async def keep(self, promise: "Promise") -> int:
        """Make the cut that was promised. Raises as `append` does; then the store makes it when its time is over."""

        async def release() -> int:
            for token in promise.tokens[:-1]:
                await promise.store.release(token, promise.tags)
            return await promise.store.release(promise.tokens[-1], promise.tags)

        return await self._told(
            release,
            promise.tags,
            soft=False,
            otherwise=f"{', '.join(promise.tags)}: invalidated in this process only, for now.",
        )

    async def applied(self, cut: int) -> tuple[str, ...]:
        """The processes that have applied a cut, or do not trust their memory; none where the store does not know.

        Raises:
            NotAcknowledged: One has not, within the time.
        """
        store = self._reach.store
        if not isinstance(store, Witnesses):
            return ()
        try:
            return await store.applied(self._stamps.shared(cut), WITNESSED)
        except StoreError as error:
            message = f"it is not known that every process has applied the invalidation {cut}. {error}"
            raise NotAcknowledged(message) from error

    def append_soon(self, tags: tuple[str, ...]) -> None:
        """As `append`, from code that cannot await; it is waited for where that does not stop the loop."""
        session = self._reach.session
        if session is not None and session.is_elsewhere:
            self._stamps.cut_meanwhile(tags, soft=False)
            work = asyncio.run_coroutine_threadsafe(self._append_quietly(tags), session.loop)
            with contextlib.suppress(TimeoutError):  # it goes on, and what fails is queued
                work.result(2.0 * self._reach.deadline)
            return
        self._put_off(tags, soft=False)
        if session is not None and session.is_here:
            self._background.owe(self._background.start(self._told_now(), where="invalidation"))

    async def _told_now(self) -> None:
        with contextlib.suppress(StoreError):  # told already, and tried again
            await self._reach.greet()

    async def _append_quietly(self, tags: tuple[str, ...]) -> None:
        with contextlib.suppress(NotAcknowledged):  # told already, and queued
            await self.append(tags)

    async def _told(
        self, work: Callable[[], Awaitable[int]], tags: tuple[str, ...], *, soft: bool, otherwise: str
    ) -> int:
        """Tell the store of a cut, also if whoever asks for that goes away: a change that was made is made."""
        return await asyncio.shield(self._begin_telling(work, tags, soft=soft, otherwise=otherwise))

    def _begin_telling(
        self, work: Callable[[], Awaitable[int]], tags: tuple[str, ...], *, soft: bool, otherwise: str
    ) -> "asyncio.Future[int]":
        """What is not told is put off. `otherwise` is said to who waits for it; the id of the cut, if all is well."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def tell() -> None:
            try:
                answer.set_result(await self._reach.do(partial(self._in_one_log, work)))
            except StoreError as error:
                self._put_off(tags, soft=soft)
                failure = NotAcknowledged(f"{otherwise} {error}")
                failure.__cause__ = error
                answer.set_exception(failure)
                answer.exception()  # there may be nobody left to hear of it

        def unless_told(_: object) -> None:
            if not answer.done():  # the loop ends, perhaps before its first step
                self._queue(tags, soft=soft)
                answer.cancel()

        task = self._background.start(tell(), where="invalidation")
        self._background.owe(task)
        task.add_done_callback(unless_told)
        return answer

    async def _in_one_log(self, work: Callable[[], Awaitable[int]]) -> int:
        """The id of a cut in the log that is followed here: made once more where another has begun meanwhile."""
        while True:
            generation = self._stamps.generation
            cut = await work()
            if self._stamps.generation == generation:
                return self._stamps.own(cut)

    def _put_off(self, tags: tuple[str, ...], *, soft: bool) -> None:
        """Until the store is back; here and now it is done."""
        self._queue(tags, soft=soft)
        self._make_good()

    def _queue(self, tags: tuple[str, ...], *, soft: bool) -> None:
        if len(self._queued) >= QUEUED:
            self._queued.clear()
            tags, soft = (), False
        self._queued.append(_Queued(tags, soft))
        self._stamps.cut_meanwhile(tags, soft=soft)

    def _make_good(self) -> None:
        """See to it that the store is told when it is back, whether or not anybody asks it for something."""
        session = self._reach.session
        if session is not None and (self._making_good is None or self._making_good.done()):
            work = self._made_good()
            try:
                asyncio.get_running_loop()
            except RuntimeError:  # a thread: whoever asks the store next does it
                work.close()
            else:
                self._making_good = self._background.start(work, where="store")

    async def _made_good(self) -> None:
        while self._queued or self._errands:
            await asyncio.sleep(LONGEST / 4)
            with contextlib.suppress(StoreError):  # told already; and tried again
                await self._reach.greet()

    def later(self, errand: Callable[[], Awaitable[None]]) -> None:
        """Something else to ask of the store when it is back."""
        if len(self._errands) < QUEUED:
            self._errands.append(errand)
            self._make_good()

    async def _catch_up(self) -> None:
        """The store is back: what waits goes first. It waits until it is told, lest another ask for what it cuts."""
        while self._queued:
            together = self._first_queued()
            tags = tuple(dict.fromkeys([tag for one in together for tag in one.tags]))
            await self._in_one_log(partial(self._reach.store.append, tags, soft=together[0].soft))
            for one in together:
                with contextlib.suppress(ValueError):  # somebody else was at it
                    self._queued.remove(one)
        while self._errands:
            errand = self._errands[0]
            await errand()
            with contextlib.suppress(ValueError):
                self._errands.remove(errand)

    def _first_queued(self) -> list["_Queued"]:
        """What one cut tells of: of one kind, and no more than `TOGETHER`; one of everything stands alone."""
        waiting = list(self._queued)
        found = waiting[:1]
        for one in waiting[1:TOGETHER]:
            if not found[0].tags or not one.tags or one.soft is not found[0].soft:
                break
            found.append(one)
        return found

    async def aclose(self) -> None:
        """Tell the store what it has not been told yet; or the log, that it was not."""
        session = self._reach.session
        if self._making_good is not None and self._making_good.get_loop() is asyncio.get_running_loop():
            self._making_good.cancel()
            await asyncio.wait([self._making_good])
        if self._queued and session is not None and session.is_here and not session.is_over:
            with contextlib.suppress(StoreError):  # told already
                await self._reach.greet()
        if self._queued:
            _log.error("%d invalidations end with this process: the store has not taken them.", len(self._queued))
