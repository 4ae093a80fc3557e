"""Values of functions: looked up, and made once for all who want one at the same time.

The value itself never travels: each caller decodes one of its own. Synchronous functions run in the thread that calls
them, asynchronous ones in a task that belongs to no caller.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Final, assert_never

from tiercel._core import calls
from tiercel._core.calls import Value
from tiercel._core.events import Answered
from tiercel._engine.depot import Depot, Lease
from tiercel._engine.engine import Engine
from tiercel._engine.joining import (
    Making,
    Place,
    R,
    Run,
    Runs,
    TagsOf,
    TaskRun,
    Terms,
    ThreadRun,
    Unstorable,
    call,
    call_now,
    enclosing,
)
from tiercel._engine.keeping import Keeper
from tiercel._engine.reading import Reads, reading
from tiercel._engine.stamps import Verdict
from tiercel._engine.tiers import Shelf, key_tag
from tiercel._engine.values import ValueNotStorable

REFRESHERS = 4
"""Threads that renew values of synchronous functions behind their callers."""

EARLY: Final = 1e9
"""Times its cost: whatever is found is to be renewed."""
SAME: Final = 0.01
"""Seconds by which the moments differ at which two processes think that one value was made."""

_NOTHING: Final = object()


class Recall:
    """The values of one cache."""

    def __init__(self, engine: Engine) -> None:
        self.keeper = Keeper(engine)
        self._engine = engine
        self._runs = Runs(engine)
        self._pooling = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def wanted(self, terms: Terms, key: bytes, tags: tuple[str, ...] | TagsOf, make: Callable[[], Any]) -> Making:
        """What is to be found or made, from now on."""
        return Making(terms=terms, key=key, tags=tags, make=make, since=self._engine.clock.monotonic())

    def look(self, key: bytes) -> calls.Hit | calls.HitRefresh | calls.Stale | calls.Miss:
        """What is stored under a key, and what to do about it."""
        engine = self._engine
        found = engine.tiers.value(key)
        if found is None:
            return calls.on_call(None, 0.0)
        value, soft = found
        return calls.on_call(value, engine.clock.time(), draw=engine.draw(), soft=soft)

    def fresh(self, label: str, key: bytes) -> Value | None:
        """A value that is fresh for certain: the shortest way to a hit."""
        engine = self._engine
        value = engine.tiers.memory.get(key)
        if type(value) is not Value or engine.clock.time() >= value.certain_until:
            return None
        if engine.tiers.fence is not None and not engine.tiers.fence.current():
            return None
        stamps = engine.stamps
        if value.born < stamps.newest and stamps.verdict((*value.tags, key_tag(key)), value.born) is not Verdict.USABLE:
            return None
        engine.counts.hits += 1
        if engine.observers:
            engine.tell(Answered(key=label, result="hit"))
        self._hand_on(key, value)
        return value

    async def recall(self, making: Making) -> Any:  # noqa: ANN401 - what the function returns
        """The value of an asynchronous function."""
        loop = asyncio.get_running_loop()
        while True:
            answer = self._at_hand(making, self._renew_in_task)
            if answer is not _NOTHING:
                return answer
            boarded = self._board(making, loop, TaskRun)
            if isinstance(boarded, str):
                return await self._alone(making, boarded)
            run, mine = boarded
            if mine:
                self._begin(run, making)
            answer = await self._waited(run, making, mine=mine)
            if answer is not _NOTHING:
                return answer
            if run.outcome is not None:
                return await self._alone(making, "not-storable")

    def recall_now(self, making: Making) -> Any:  # noqa: ANN401 - what the function returns
        """The value of a synchronous function."""
        while True:
            answer = self._at_hand(making, self._renew_in_thread)
            if answer is not _NOTHING:
                return answer
            boarded = self._board(making, None, ThreadRun)
            if isinstance(boarded, str):
                return self._alone_now(making, boarded)
            run, mine = boarded
            if mine:
                self._produce_now(run, making)
            elif _on_a_loop():
                # What it would wait for may itself be waiting for this very loop.
                return self._alone_now(making, "on-loop")
            answer = self._waited_now(run, making, mine=mine)
            if answer is not _NOTHING:
                return answer
            if run.outcome is not None:
                return self._alone_now(making, "not-storable")

    def answer(self, making: Making, value: Value, result: str) -> Any:  # noqa: ANN401 - what the function returns
        """The caller's own copy of a stored value; counted."""
        self.count(making, result)
        self._hand_on(making.key, value)
        return making.terms.codec.decode(value.payload)

    def count(self, making: Making, result: str, detail: str = "") -> None:
        engine = self._engine
        match result:
            case "hit":
                engine.counts.hits += 1
            case "stale":
                engine.counts.stale += 1
            case "collapsed":
                engine.counts.collapsed += 1
            case "bypass":
                engine.counts.bypassed += 1
            case _:
                pass  # fills were counted when they began
        if engine.observers:
            engine.answered(making.terms.label, result, detail, engine.clock.monotonic() - making.since)

    def _hand_on(self, key: bytes, value: Value) -> None:
        """What is made of a value falls when the value does."""
        reads = reading.get()
        if reads is not None:
            reads.take(key_tag(key), value, self._engine.stamps)

    def _name(self, making: Making, value: object) -> None:
        """What is made of a value that is not stored falls by the tags that it would have."""
        reads = reading.get()
        if reads is None:
            return
        tags = self.keeper.tags_of(making, value)
        reads.name((*(tags or ()), key_tag(making.key)))
        if tags is None:
            reads.doubt("tags-unknown")

    def is_making(self, key: bytes) -> bool:
        """Whether a call for it is running."""
        return key in self._runs

    async def aclose(self) -> None:
        """End the threads, once what they are at is done; what they have not begun is not begun."""
        with self._pooling:
            pool, self._pool = self._pool, None
        if pool is not None:
            ending = partial(pool.shutdown, cancel_futures=True)
            await asyncio.get_running_loop().run_in_executor(None, ending)

    # -- finding ------------------------------------------------------------------------------------------------------

    def _at_hand(self, making: Making, renew: Callable[[Making], None]) -> Any:  # noqa: ANN401 - or _NOTHING
        """The answer from store; if that is due, it is renewed behind."""
        found = self.look(making.key)
        match found:
            case calls.Hit(value=value):
                return self.answer(making, value, "hit")
            case calls.HitRefresh(value=value):
                renew(making)
                return self.answer(making, value, "hit")
            case calls.Stale(value=value):
                renew(making)
                return self.answer(making, value, "stale")
            case calls.Miss():
                return _NOTHING
            case _:
                assert_never(found)

    def _board(self, making: Making, place: Place, kind: type[R]) -> tuple[R, bool] | str:
        """What to wait for, and whether it is the caller's to begin; or why the caller is on its own."""
        marker = self._engine.tiers.memory.peek(making.key)
        if isinstance(marker, Shelf) and self._engine.clock.time() < marker.pass_until:
            return "not-storable"
        boarded = self._runs.board(making, place, kind)
        if boarded is None:
            return "re-entrant"
        if boarded[1]:
            self._engine.counts.fills += 1
        return boarded

    async def _waited(self, run: TaskRun, making: Making, *, mine: bool) -> Any:  # noqa: ANN401 - or _NOTHING
        try:
            while not await run.settled(self._patience(making)):
                if (stale := self._fallback(making)) is not None:
                    return self.answer(making, stale, "stale")
        finally:
            run.left = run.left or (mine and not run.over)
        return self._taken(run, making, mine=mine)

    def _waited_now(self, run: ThreadRun, making: Making, *, mine: bool) -> Any:  # noqa: ANN401 - or _NOTHING
        while not run.settled(self._patience(making)):
            if (stale := self._fallback(making)) is not None:
                return self.answer(making, stale, "stale")
        return self._taken(run, making, mine=mine)

    def _taken(self, run: Run, making: Making, *, mine: bool) -> Any:  # noqa: ANN401 - or _NOTHING
        """What a run that is over has for one caller."""
        result = "hit" if run.found and mine else "miss" if mine else "collapsed"
        reads = reading.get() or Reads()
        match run.outcome:
            case Value() as value:
                reads.doubt(run.reads.unknown)
                return self.answer(making, value, result)
            case Unstorable(value=value):
                if not mine:
                    return _NOTHING
                reads.join(run.reads)
                self._name(making, value)
                self.count(making, result, "not-storable")
                return value
            case None:
                pass
        if (stale := self._fallback(making)) is not None:
            return self.answer(making, stale, "stale")
        if run.left and not mine:
            return _NOTHING
        reads.join(run.reads)  # that it failed may be caught, and answered otherwise
        reads.older(run.born)
        reads.name(run.tags or ())
        self.count(making, result, "failed")
        raise run.broken_by()

    def _fallback(self, making: Making) -> Value | None:
        """What may stand in for a call that fails."""
        found = self._engine.tiers.value(making.key)
        stale = calls.on_call_failure(found[0] if found else None, self._engine.clock.time())
        return stale.value if stale else None

    def _patience(self, making: Making) -> float | None:
        """Seconds to wait for a value: for ever, unless a stale one can stand in."""
        return self._engine.limits.soft if self._fallback(making) else None

    # -- making -------------------------------------------------------------------------------------------------------

    def _begin(self, run: TaskRun, making: Making) -> None:
        self._engine.keep_back(run.key, run.tags or ())
        task = self._engine.background.start(self._produce(run, making), where=making.terms.label)
        # A task that is cancelled before its first step never reaches its own `except`.
        task.add_done_callback(lambda _: self._unless_over(run, making))

    async def _produce(self, run: TaskRun, making: Making) -> None:
        enclosing.set((*enclosing.get(), run))
        reading.set(run.reads)
        depot, lease = self._engine.depot, None
        if depot is not None and making.terms.shared:
            found = await self._sought(making, depot)
            if isinstance(found, Value):
                self._adopt(run, found)
                return
            lease = found
            run.begin(self._engine.stamps, self._engine.clock.monotonic())  # it is only now that it is called
        try:
            value = await call(making)
        except Exception as error:  # noqa: BLE001 - every caller gets it
            self._failed(run, making, error)
        else:
            self._finish(run, making, value)
        finally:
            if depot is not None and making.terms.shared:
                await depot.put_value(making.key, making.terms.codec, self.keeper.kept(making, run.outcome), lease)

    async def _sought(self, making: Making, depot: Depot) -> Value | Lease | None:
        """What another process has made; else leave to make it, unless the store does not say."""
        key, codec, looks, early = making.key, making.terms.codec, 0, 0.0
        while not self._engine.keeps_back(key):
            sought = await depot.seek(key, codec, make=True, early=early)
            value, here = sought.value, self._engine.tiers.value(key)
            if sought.lease is not None:
                return sought.lease
            if value is not None and self._engine.clock.time() < value.fresh_until:
                if here is None or value.made_at > here[0].made_at + SAME:
                    self.keeper.adopt(making, value, since=sought.since)
                    return value
                if early or sought.wait > 0.0:
                    return value
                early = EARLY  # it is here, and to be renewed
            elif sought.wait <= 0.0:
                return None
            else:
                await depot.pause(sought.wait, looks)
                looks += 1
        return None

    def _adopt(self, run: TaskRun, value: Value) -> None:
        self._engine.counts.fills -= 1
        run.found = True
        self._runs.retire(run)
        run.end(value)

    def _produce_now(self, run: ThreadRun, making: Making) -> None:
        token, reads = enclosing.set((*enclosing.get(), run)), reading.set(run.reads)
        try:
            value = call_now(making)
        except Exception as error:  # noqa: BLE001 - every caller gets it
            self._failed(run, making, error)
        else:
            self._finish(run, making, value)
        finally:
            enclosing.reset(token)
            reading.reset(reads)
            self._unless_over(run, making)

    def _renew_in_task(self, making: Making) -> None:
        boarded = self._board(making, asyncio.get_running_loop(), TaskRun)
        if not isinstance(boarded, str) and boarded[1]:
            boarded[0].left = True
            self._begin(boarded[0], making)

    def _renew_in_thread(self, making: Making) -> None:
        boarded = self._board(making, None, ThreadRun)
        if isinstance(boarded, str) or not boarded[1]:
            return
        run = boarded[0]
        run.left = True
        try:
            work = self._refreshers().submit(copy_context().run, self._produce_now, run, making)
        except RuntimeError as error:  # there are no more threads to be had, or the interpreter is about to end
            self._failed(run, making, error)
        else:
            work.add_done_callback(lambda _: self._unless_over(run, making))

    async def _alone(self, making: Making, detail: str) -> Any:  # noqa: ANN401 - what the function returns
        """Call the function for one caller only, who gets what it returns itself."""
        try:
            value = await call(making)
        except Exception as error:  # noqa: BLE001 - raised again, unless a stale value stands in
            return self._stand_in(making, error)
        self.count(making, "bypass", detail)
        self._name(making, value)
        return value

    def _alone_now(self, making: Making, detail: str) -> Any:  # noqa: ANN401 - what the function returns
        try:
            value = call_now(making)
        except Exception as error:  # noqa: BLE001 - raised again, unless a stale value stands in
            return self._stand_in(making, error)
        self.count(making, "bypass", detail)
        self._name(making, value)
        return value

    def _stand_in(self, making: Making, error: Exception) -> Any:  # noqa: ANN401 - what the function returns
        stale = self._fallback(making)
        if stale is None:
            raise error
        self.keeper.tell(making, error)
        return self.answer(making, stale, "stale")

    # -- what becomes of it -------------------------------------------------------------------------------------------

    def _finish(self, run: Run, making: Making, value: object) -> None:
        cost = self._engine.clock.monotonic() - run.since
        outcome: Value | Unstorable
        try:
            payload = making.terms.codec.encode(value)
            tags = self.keeper.tags_of(making, value)
            outcome = self.keeper.keep(making, payload, tags, born=run.born, cost=cost, reads=run.reads)
            self._engine.keep_back(run.key, (*(tags or ()), *run.reads.tags, key_tag(run.key)))
        except ValueNotStorable as error:
            self.keeper.refuse(making, error)
            outcome = Unstorable(value)
        except Exception as error:  # noqa: BLE001 - that it is not annotated is a mistake of the program's
            self._failed(run, making, error)
            return
        self._runs.retire(run)
        run.end(outcome)

    def _failed(self, run: Run, making: Making, error: BaseException) -> None:
        self._engine.counts.failed += 1
        self.keeper.tell(making, error)
        self._runs.retire(run)
        run.fail(error)

    def _unless_over(self, run: Run, making: Making) -> None:
        """Its thread was interrupted, or its task cancelled: nothing else is going to end it."""
        if run.over:
            return
        run.left = run.left or isinstance(run, ThreadRun)
        self._failed(run, making, RuntimeError(f"{making.terms.label} was cut short, as at the end of the application"))

    def _refreshers(self) -> ThreadPoolExecutor:
        with self._pooling:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(REFRESHERS, thread_name_prefix="tiercel-refresh")
            return self._pool


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
