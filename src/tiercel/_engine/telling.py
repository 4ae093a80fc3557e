"""Telling a shared store what is cut: surely, or later, or never without saying so.

asked for → told ──────────────▶ acknowledged
↳ the store is away → cut here, and queued: the first thing that it is told when it is back
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from tiercel._engine.background import Background
from tiercel._engine.breaker import LONGEST
from tiercel._engine.reach import Reach
from tiercel._engine.stamps import Stamps
from tiercel.errors import NotAcknowledged, StoreError
from tiercel.spi import Holds, Witnesses

_log = logging.getLogger("tiercel")
T = TypeVar("T")

HELD: Final = 30.0
"""Seconds that a change may take before its tags are cut although nobody has said that it is over."""
WITNESSED: Final = 5.0
"""Seconds that other processes get to apply a cut that is waited for."""
ALONE: Final = 2.0
"""Seconds that a program without an event loop tries to tell the store."""
TOGETHER: Final = 100
"""Invalidations that are told at once when the store is back."""
QUEUED: Final = 1_000
"""Invalidations that wait for the store to come back; beyond that, everything is cut instead."""


@dataclass(slots=True)
class Promise:
    """A cut that the store will make should nobody else do it."""

    store: Holds
    tags: tuple[str, ...]
    holds: dict[bytes, frozenset[int]] = field(default_factory=dict[bytes, frozenset[int]])
    """Those that are not over, by their tokens: the id of each here, or none where it may be another's."""
    cuts: set[int] = field(default_factory=set[int])
    """Ids of what was cut by holding and by releasing; but for the last release, and what may be another's."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time holds anew or releases, in the loop of the store."""
    over: bool = False
    """Nobody is left to release a hold that the store tells of now."""


@dataclass(frozen=True, slots=True, eq=False)
class _Queued:
    """An invalidation of which the store has not been told. No other is the same."""

    tags: tuple[str, ...]
    soft: bool
    promise: Promise | None = None
    """What is over by it."""


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
        self._alone = threading.Lock()
        """One thread at a time tells the store in an event loop of its own."""
        reach.first = self._catch_up

    async def append(self, tags: tuple[str, ...], *, soft: bool = False) -> int:
        """Cut tags for all; no tags: everything.

        Raises:
            NotAcknowledged: The store did not answer; here it is done, and it is queued for the others.
        """
        told = await self._told_there(partial(self.append, tags, soft=soft))
        if told is not None:
            return told
        named = ", ".join(tags) or "everything"
        return await self._told(
            partial(self._do, partial(self._reach.store.append, tags, soft=soft)),
            _Queued(tags, soft),
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
        there = self._in_its_loop(partial(self.promise, tags))
        if there is not None:
            return await there
        promise = Promise(store, tags)
        try:
            await self._reach.do(partial(self._hold, promise))
        except BaseException as error:
            self._give_up(promise)
            if not isinstance(error, StoreError):
                raise
            message = f"{', '.join(tags)}: the store did not answer, so the change has not begun. {error}"
            raise NotAcknowledged(message) from error
        return promise

    async def lengthen(self, promise: "Promise") -> None:
        """Have it promised anew, over and over: the store keeps each promise when its time is over."""
        while True:
            await asyncio.sleep(HELD / 3)
            there = self._in_its_loop(partial(self._lengthen, promise))
            await (there or self._lengthen(promise))

    async def keep(self, promise: "Promise") -> int:
        """Make the cut that was promised. Raises as `append` does; then the store makes it when its time is over."""
        told = await self._told_there(partial(self.keep, promise))
        if told is not None:
            return told
        return await self._told(
            partial(self._release, promise),
            _Queued(promise.tags, soft=False, promise=promise),
            otherwise=f"{', '.join(promise.tags)}: invalidated in this process only, for now.",
        )

    async def _hold(self, promise: "Promise") -> None:
        """It goes on where nobody waits so long: what the store holds would be held until its time is over."""
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def hold() -> None:
            try:
                await self._held(promise)
            except StoreError as error:
                if not held.done():
                    held.set_exception(error)
            else:
                if not held.done():
                    held.set_result(None)

        task = self._background.start(hold(), where="mutation")
        self._background.owe(task)
        task.add_done_callback(lambda _: held.cancel())
        await held

    async def _held(self, promise: "Promise") -> None:
        """Others may hold the same tags: which hold is ours is known where no other has begun meanwhile."""
        generation, before = self._stamps.generation, self._stamps.holds(promise.tags)
        token = await promise.store.hold(promise.tags, HELD)
        begun = self._stamps.holds(promise.tags) - before
        is_known = len(begun) == 1 and self._stamps.generation == generation
        promise.holds[token] = begun if is_known else frozenset()
        promise.cuts |= promise.holds[token]
        if promise.over:
            await self._let_go(promise, token)

    def _give_up(self, promise: "Promise") -> None:
        """Whoever wanted it waits no longer. What is held is released, now or when the store tells of it."""
        promise.over = True
        for token in promise.holds:
            self._background.start(self._let_go(promise, token), where="mutation")

    async def _let_go(self, promise: "Promise", token: bytes) -> None:
        with contextlib.suppress(StoreError):  # told already; the store does it when its time is over
            await self._reach.do(partial(promise.store.release, token, promise.tags))

    async def _lengthen(self, promise: "Promise") -> None:
        """Once. Whoever ends the change waits for what is under way: else nobody would know of the hold, and end it."""
        task = self._background.start(self._once_more(promise), where="mutation")
        self._background.owe(task)
        await asyncio.shield(task)

    async def _once_more(self, promise: "Promise") -> None:
        async with promise.asking:
            with contextlib.suppress(StoreError):  # told already; what was promised last stands
                await self._reach.do(partial(self._hold, promise))
                first = next(iter(promise.holds))
                promise.cuts.add(await self._do(partial(promise.store.release, first, promise.tags)))
                del promise.holds[first]

    async def _release(self, promise: "Promise") -> int:
        async def release() -> int:
            *others, last = promise.holds
            for token in others:
                promise.cuts.add(self._stamps.own(await promise.store.release(token, promise.tags)))
            return await promise.store.release(last, promise.tags)

        async with promise.asking:
            promise.over = True
            return await self._do(release)

    async def applied(self, cut: int) -> tuple[str, ...]:
        """The processes that have applied a cut, or do not trust their memory; none where the store does not know.

        Raises:
            NotAcknowledged: One has not, within the time.
        """
        store = self._reach.store
        if not isinstance(store, Witnesses):
            return ()
        there = self._in_its_loop(partial(self.applied, cut))
        if there is not None:
            return await there
        try:
            return await store.applied(self._stamps.shared(cut), WITNESSED)
        except StoreError as error:
            message = f"it is not known that every process has applied the invalidation {cut}. {error}"
            raise NotAcknowledged(message) from error

    def append_soon(self, tags: tuple[str, ...]) -> None:
        """As `append`, from code that cannot await; it is waited for where that does not stop the loop."""
        self._queue(_Queued(tags, soft=False))
        if self._tells_there():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with self._alone:
                if self._queued and not self._tells_there():
                    asyncio.run(self._told_at_once())
        else:
            self._background.owe(self._background.start(self._told_now(), where="invalidation"))

    def _tells_there(self) -> bool:
        """Whether the store is told in the event loop in which it is open, if that is another."""
        session, work = self._reach.session, self._begin_there(self._told_now)
        if session is None or work is None:
            return False
        with contextlib.suppress(TimeoutError, CancelledError):
            work.result(2.0 * self._reach.deadline)
        return not work.cancelled() and (work.done() or session.is_elsewhere)  # else that loop has ended

    def _in_its_loop(self, work: Callable[[], Coroutine[object, object, T]]) -> "asyncio.Future[T] | None":
        """What is begun there, where the store is open in another event loop."""
        begun = self._begin_there(work)
        return None if begun is None else asyncio.wrap_future(begun)

    def _begin_there(self, work: Callable[[], Coroutine[object, object, T]]) -> "Future[T] | None":
        session = self._reach.session
        if session is None or not session.is_elsewhere:
            return None
        begun = work()
        try:
            return asyncio.run_coroutine_threadsafe(begun, session.loop)
        except RuntimeError:  # it was closed just now
            begun.close()
            return None

    async def _told_there(self, work: Callable[[], Coroutine[object, object, int]]) -> int | None:
        """In the loop of the store, if that is another; None also where that loop ends before it has."""
        there = self._in_its_loop(work)
        try:
            return None if there is None else await asyncio.shield(there)
        except asyncio.CancelledError:
            if there is None or not there.cancelled():
                raise
            return None

    async def _told_now(self) -> None:
        with contextlib.suppress(StoreError):  # told already, and tried again
            await self._reach.greet()
        if self._queued:
            self._make_good()

    async def _told_at_once(self) -> None:
        """From a thread without an event loop, while the store is open in none: this may be a program that has none."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ALONE
        try:
            while self._queued and loop.time() < end:
                with contextlib.suppress(StoreError):  # told already
                    await self._reach.greet()
                    continue
                await asyncio.sleep(ALONE / 40)
        finally:
            await self._reach.aclose()
        if self._queued:
            _log.error("%d invalidations are lost if this process ends before the store answers.", len(self._queued))

    async def _told(self, work: Callable[[], Awaitable[int]], cut: "_Queued", *, otherwise: str) -> int:
        """Tell the store of a cut, also if whoever asks for that goes away: a change that was made is made."""
        return await asyncio.shield(self._begin_telling(work, cut, otherwise=otherwise))

    def _begin_telling(
        self, work: Callable[[], Awaitable[int]], cut: "_Queued", *, otherwise: str
    ) -> "asyncio.Future[int]":
        """What is not told is put off. `otherwise` is said to who waits for it; the id of the cut, if all is well."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def tell() -> None:
            try:
                answer.set_result(await work())
            except StoreError as error:
                self._put_off(cut)
                failure = NotAcknowledged(f"{otherwise} {error}")
                failure.__cause__ = error
                answer.set_exception(failure)
                answer.exception()  # there may be nobody left to hear of it

        def unless_told(_: object) -> None:
            if not answer.done():  # the loop ends, perhaps before its first step
                self._queue(cut)
                answer.set_exception(NotAcknowledged(f"{otherwise} The cache was closed before that."))
                answer.exception()  # as above

        task = self._background.start(tell(), where="invalidation")
        self._background.owe(task)
        task.add_done_callback(unless_told)
        return answer

    async def _do(self, work: Callable[[], Awaitable[int]]) -> int:
        return await self._reach.do(partial(self._in_one_log, work))

    async def _in_one_log(self, work: Callable[[], Awaitable[int]]) -> int:
        """The id of a cut in the log that is followed here: made once more where another has begun meanwhile."""
        while True:
            generation = self._stamps.generation
            cut = await work()
            if self._stamps.generation == generation:
                return self._stamps.own(cut)

    def _put_off(self, cut: "_Queued") -> None:
        """Until the store is back; here and now it is done."""
        self._queue(cut)
        self._make_good()

    def _queue(self, cut: "_Queued") -> None:
        over = () if cut.promise is None else [hold for holds in cut.promise.holds.values() for hold in holds]
        if len(self._queued) >= QUEUED:
            self._queued.clear()
            cut = _Queued((), soft=False)
        self._queued.append(cut)
        self._stamps.cut_meanwhile(cut.tags, soft=cut.soft, releases=over)

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
