"""One running call for all who want its value at the same time: the threads of a process, or the tasks of a loop.

Interleavings that matter. A value that is not stored, three callers A, B, C:

    A: nothing runs                    → begins
    B: A's call runs                   → waits, and gets a copy of its own of what A's call returns
    invalidation while it runs         → C, who asks after it, begins another; what A's call returns is not kept
    A is cancelled                     → the call goes on. If it fails then, B looks again: A may have taken along what
                                         the call worked with, a database session, say
    the call asks for its own value    → is on its own: waiting would be for ever
"""

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, TypeVar

from tiercel._core.calls import Value
from tiercel._engine.engine import Engine
from tiercel._engine.reading import Reads
from tiercel._engine.stamps import Stamps, Verdict
from tiercel._engine.tiers import key_tag
from tiercel._engine.values import Codec
from tiercel.errors import ConfigurationError

Place = asyncio.AbstractEventLoop | None
"""Where those are who can wait for each other: a loop, or all threads."""
TagsOf = Callable[[Any], tuple[str, ...]]
"""Over the value: its tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the values of one function are kept. Durations in seconds."""

    label: str
    codec: Codec
    ttl: float
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    shared: bool = False
    """Whether other processes know the values by the same keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """One value that is wanted: its key, its tags, and how to make it."""

    terms: Terms
    key: bytes
    tags: tuple[str, ...] | TagsOf
    make: Callable[[], Any]
    """Returns the value; an awaitable of it where the function is asynchronous."""
    since: float
    """When it was first wanted, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Unstorable:
    """What no copy can be made of is for the caller that made it, and for nobody else."""

    value: object


async def call(making: Making) -> Any:  # noqa: ANN401 - what the function returns
    made = making.make()
    return await made if inspect.isawaitable(made) else made


def call_now(making: Making) -> Any:  # noqa: ANN401 - what the function returns
    """What a function that is not `async def` returns."""
    value = making.make()
    if not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    name = making.terms.label
    message = (
        f"{name} is not `async def`, but returned something to await, which can be awaited once only. "
        "Put @cache.memoize on the `async def` that it calls, below what is wrapped around that."
    )
    raise ConfigurationError(message)


class Run:
    """One running call of a function."""

    def __init__(self, making: Making, *, place: Place, stamps: Stamps, since: float) -> None:
        self.key = making.key
        self.place = place
        self.reads = Reads()
        self.begin(stamps, since)
        self.tags = None if callable(making.tags) else (*making.tags, key_tag(making.key))
        """None while nobody knows: then any invalidation keeps later callers from waiting for it."""
        self.left = False
        """Whether nobody is there any more for whom it was begun."""
        self.over = False
        self.found = False
        """Whether another process has made it."""
        self.outcome: Value | Unstorable | None = None
        self._error: BaseException = RuntimeError("it is not over")
        self._traceback: TracebackType | None = None

    def begin(self, stamps: Stamps, since: float) -> None:
        """What is called is called now (`since`, monotonic)."""
        self.born, self.revision, self.since = stamps.position, stamps.revision, since

    def end(self, outcome: Value | Unstorable) -> None:
        self.outcome = outcome
        self._signal()

    def fail(self, error: BaseException) -> None:
        self._error, self._traceback = error, error.__traceback__
        self._signal()

    def broken_by(self) -> BaseException:
        """What broke it, as it was when it did: whoever raised it before has left no trace."""
        return self._error.with_traceback(self._traceback)

    def _signal(self) -> None:
        self.over = True


class TaskRun(Run):
    """Waited for by tasks of the loop that it runs on."""

    def __init__(self, making: Making, *, place: Place, stamps: Stamps, since: float) -> None:
        super().__init__(making, place=place, stamps=stamps, since=since)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def settled(self, within: float | None) -> bool:
        """Wait until it is over, or for so many seconds; whether it is over."""
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(self._ended)  # whoever is cancelled leaves the others alone
        except TimeoutError:
            return False
        return True

    def _signal(self) -> None:
        super()._signal()
        self._ended.set_result(None)


class ThreadRun(Run):
    """Waited for by threads."""

    def __init__(self, making: Making, *, place: Place, stamps: Stamps, since: float) -> None:
        super().__init__(making, place=place, stamps=stamps, since=since)
        self._ended = threading.Event()

    def settled(self, within: float | None) -> bool:
        """Wait until it is over, or for so many seconds; whether it is over."""
        return self._ended.wait(within)

    def _signal(self) -> None:
        super()._signal()
        self._ended.set()


R = TypeVar("R", bound=Run)

enclosing: ContextVar[tuple[Run, ...]] = ContextVar("tiercel_enclosing", default=())
"""The calls that the running code is part of, outermost first."""


class Runs:
    """What runs now, by key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[bytes, list[Run]] = {}
        self._changing = threading.Lock()

    def __contains__(self, key: bytes) -> bool:
        return key in self._running

    def __len__(self) -> int:
        return len(self._running)

    def board(self, making: Making, place: Place, kind: type[R]) -> tuple[R, bool] | None:
        """What to wait for, and whether it is the caller's to begin; None for one who would wait for itself."""
        now = self._engine.clock.monotonic()
        with self._changing:
            running = self._running.setdefault(making.key, [])
            for run in running:
                if isinstance(run, kind) and run.place is place and self._joinable(run, now):
                    return None if run in enclosing.get() else (run, False)
            begun = kind(making, place=place, stamps=self._engine.stamps, since=now)
            running.append(begun)
            return begun, True

    def retire(self, run: Run) -> None:
        """Nobody begins to wait for it from now on."""
        with self._changing:
            running = self._running[run.key]
            running.remove(run)
            if not running:
                del self._running[run.key]

    def _joinable(self, run: Run, now: float) -> bool:
        """Whether it returns what a call that begins now would, and has not been given up."""
        stamps, hard = self._engine.stamps, self._engine.limits.hard
        if hard is not None and now - run.since >= hard:
            return False
        if self._engine.tiers.fence is not None and not self._engine.tiers.fence.passes(run.since):
            return False
        reads, born = run.reads, int(min(run.born, run.reads.born))
        if born >= stamps.newest:
            return True
        if stamps.newest < inf and run.revision == stamps.revision and born == run.born:
            return True
        if run.tags is None or reads.unknown:
            return False
        return stamps.verdict((*run.tags, *reads.tags), born) is Verdict.USABLE
