"""Another process for what would keep this one's event loop from everything else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class Workshop:
    """One process, started with the first work that there is. Spawned: a fork would inherit connections and threads."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))

    async def do(self, work: Callable[ParamsT, ResultT], *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ResultT:
        """Call a function of a module there. What it takes and returns is copied."""
        done = self._pool.submit(work, *args, **kwargs)
        return await asyncio.wrap_future(done)

    async def aclose(self) -> None:
        """End the process."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
