"""Tests that wait for nobody: an event loop whose time jumps to the next timer, and a clock that reads it.

>>> async def an_hour() -> float:
...     await asyncio.sleep(3600)
...     return VirtualClock().monotonic()
>>> run_virtual(an_hour())
3600.0

With pytest, anyio's plugin runs `async def` tests in virtual time when `conftest.py` tells it so:

    @pytest.fixture
    def anyio_backend() -> tuple[str, dict[str, object]]:
        return "asyncio", {"loop_factory": VirtualLoop}

`StoreContract` is what every store has to keep to, as tests; `SimulatedStore` one that several processes in one loop
may share, and whose server can be frozen.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from tiercel.errors import TiercelError
from tiercel.testing._contract import RecordingLog, StoreContract
from tiercel.testing._simulated import SimulatedServer, SimulatedStore

__all__ = [
    "RecordingLog",
    "SimulatedServer",
    "SimulatedStore",
    "StoreContract",
    "StuckError",
    "VirtualClock",
    "VirtualLoop",
    "run_virtual",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_EPOCH = 1_800_000_000.0
_GRACE = 0.2


class StuckError(TiercelError):
    """Every task of a virtual loop waits, no timer is set, and nothing outside woke one.

    The message names each task and where it waits: a test that would have hung says why instead.

    Example:
        >>> async def forgotten() -> None:
        ...     await asyncio.Event().wait()
        >>> try:
        ...     run_virtual(forgotten())
        ... except StuckError as stuck:
        ...     print("forgotten" in str(stuck))
        True
    """


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose `time()` starts at 0 and jumps to the next timer when every task waits.

    `asyncio.sleep`, `asyncio.timeout` and `loop.call_later` take no real time, and their order is exact. Time stands
    still while a worker thread of asyncio or anyio is at work. Other threads and open sockets get 0.2 real seconds
    before each jump, for nobody can know whether they are about to say something; a test that talks to a real server
    is better off in real time.

    Args:
        patience: real seconds. How long time stands still for a worker thread, which may itself wait for a timer of
            this loop; and, when no timer is set, how long threads and sockets may take before the loop counts as
            stuck.

    Raises:
        StuckError: from whatever runs the loop, when no task can go on.

    Example:
        >>> with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ...     runner.run(asyncio.sleep(86_400))
        ...     runner.get_loop().time()
        86400.0
    """

    def __init__(self, *, patience: float = 5.0) -> None:
        """Start at 0."""
        self._virtual = _VirtualSelector(self, patience)
        self._at_work = 0
        super().__init__(self._virtual)
        self._clock_resolution = 1e-7  # asyncio fires what is due before time() + this: a difference for 34 years

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As any loop does; time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        future.add_done_callback(self._work_done)
        return future

    def _work_done(self, _: asyncio.Future[Any]) -> None:
        self._at_work -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's own
        """As any loop does, but without a time limit: in virtual time it would pass at once."""
        del timeout
        self._at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._at_work -= 1

    def has_working_threads(self) -> bool:
        """Whether a worker thread of asyncio or anyio is at work for this loop."""
        return bool(self._at_work) or not all(_is_idle(thread) for thread in self._anyio_threads())

    def has_listeners(self) -> bool:
        """Whether something outside could wake this loop: a socket other than its own, a thread that is not idle."""
        others = set(threading.enumerate()) - set(self._anyio_threads()) - {threading.current_thread()}
        return bool(others) or len(self._virtual.get_map()) > 1

    def _anyio_threads(self) -> Iterator[threading.Thread]:
        return (thread for thread in threading.enumerate() if getattr(thread, "loop", None) is self)

    def waiting(self) -> str:
        """Each unfinished task and where it waits, innermost call last."""
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        return "\n".join(f"  {task.get_name()}: {' > '.join(_frames(task.get_coro()))}" for task in tasks)


class _VirtualSelector(selectors.DefaultSelector):
    """The one place where a loop waits: instead of waiting, moves the time."""

    def __init__(self, loop: VirtualLoop, patience: float) -> None:
        super().__init__()
        self.now = 0.0
        self._loop = loop
        self._patience = patience

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if real := self._real_seconds(timeout):
            ready = super().select(real)
            if ready:
                return ready
        if timeout is None:
            message = f"nothing is scheduled and nothing woke the loop at {self.now} s. These wait for ever:"
            raise StuckError(f"{message}\n{self._loop.waiting()}")
        then = self.now + timeout
        # Whole nanoseconds, but never before what was waited for: whoever asks whether it is time would ask for ever.
        self.now = max(then, round(then, 9))
        return []

    def _real_seconds(self, timeout: float | None) -> float:
        if self._loop.has_working_threads():
            return self._patience
        if not self._loop.has_listeners():
            return 0.0
        return self._patience if timeout is None else _GRACE


def _is_idle(thread: threading.Thread) -> bool:
    """Whether anyio's worker thread has nothing to do; anyio keeps this to itself, thus by attribute."""
    return thread in getattr(thread, "idle_workers", (thread,))


def _frames(awaitable: object) -> Iterator[str]:
    """Follow the awaits of a suspended coroutine down to what it waits for."""
    while (frame := getattr(awaitable, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
        awaitable = getattr(awaitable, "cr_await", None)


class VirtualClock:
    """A `Clock` that reads the running virtual loop: `monotonic()` its time, `time()` the same counted from `epoch`.

    Outside a virtual loop it stands still; `advance` moves it there. It never steps back, also from loop to loop.

    Args:
        epoch: what `time()` is at the start, in seconds since the Unix epoch: Fri, 15 Jan 2027 08:00:00 GMT.

    Example:
        >>> clock = VirtualClock()
        >>> clock.advance(90)
        >>> clock.time(), clock.monotonic()
        (1800000090.0, 90.0)
    """

    __slots__ = ("_epoch", "_loop", "_passed")

    def __init__(self, *, epoch: float = _EPOCH) -> None:
        """Start at `epoch`."""
        self._epoch = epoch
        self._passed = 0.0
        self._loop = _running_loop()

    def time(self) -> float:
        """Virtual seconds since the Unix epoch."""
        return self._epoch + self.monotonic()

    def monotonic(self) -> float:
        """Virtual seconds since the start."""
        loop = _running_loop()
        if loop is not None and loop is not self._loop:
            self._passed += self._loop.time() if self._loop else 0.0
            self._loop = loop
        return self._passed + (self._loop.time() if self._loop else 0.0)

    def advance(self, seconds: float) -> None:
        """Move this clock alone: the timers of a running loop stay where they are.

        Args:
            seconds: by how much; not negative.

        Raises:
            ValueError: for less than 0: a monotonic clock does not step back.
        """
        if seconds < 0:
            raise ValueError(f"VirtualClock.advance({seconds!r}): give 0 or more seconds")
        self._passed += seconds


def _running_loop() -> VirtualLoop | None:
    """Return the virtual loop of this thread; a worker thread has none and its clock keeps to the last one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, VirtualLoop) else None


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, like `asyncio.run` in real time.

    Args:
        main: the coroutine.

    Returns:
        What it returns.

    Raises:
        StuckError: when it waits for something that cannot happen.

    Example:
        >>> run_virtual(asyncio.sleep(3600, "an hour later"))
        'an hour later'
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
