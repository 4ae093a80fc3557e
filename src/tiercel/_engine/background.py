"""The one owner of tasks that outlive the request that started them."""

import asyncio
from collections.abc import Callable, Coroutine

from tiercel._core.events import Event, Failed

GRACE = 5.0
"""Seconds that an application gets at shutdown for what it still does after a response."""

Work = Coroutine[object, object, None]
Ended = Callable[[asyncio.Task[None]], None]


class Background:
    """Keeps detached tasks alive, reports what they raise, ends them at shutdown."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._tasks: dict[asyncio.Task[None], Ended | None] = {}
        self._owed: set[asyncio.Task[None]] = set()

    def start(self, work: Work, *, where: str, ended: Ended | None = None) -> asyncio.Task[None]:
        """Begin it. `ended` is told when it is over, also where it was cancelled before it began."""
        task = asyncio.get_running_loop().create_task(work, name=f"tiercel {where}")
        self._tasks[task] = ended
        task.add_done_callback(self._ended)
        return task

    def owe(self, task: asyncio.Task[None]) -> None:
        """Its response is complete; what it does now is the application's own work, which gets its time."""
        if task in self._tasks:
            self._owed.add(task)

    def __len__(self) -> int:
        return len(self._tasks)

    async def aclose(self) -> None:
        """End every task of the running loop, and wait until each has ended; but not for ever."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop and task is not asyncio.current_task()]
        owed = [task for task in tasks if task in self._owed]
        for task in tasks:
            if task not in self._owed:
                task.cancel()
        if owed:
            _, late = await asyncio.wait(owed, timeout=GRACE)
            for task in late:
                task.cancel()
        _, deaf = await asyncio.wait(tasks, timeout=GRACE) if tasks else ((), ())
        for task in deaf:
            error = TimeoutError(f"it has been cancelled, and goes on for more than {GRACE} s")
            self._tell(Failed(where=task.get_name(), error=error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        ended = self._tasks.pop(task)
        self._owed.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._tell(Failed(where=task.get_name(), error=error))
            # No caller is left to hear of it: the loop's handler logs it, as it does for any lost exception.
            context = {"message": f"{task.get_name()}: {error!r}", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)
        if ended is not None:
            ended(task)
