"""The cut that a commit owes."""

import sys
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from sqlalchemy.util.concurrency import await_only, in_greenlet

from tiercel._engine.engine import Engine
from tiercel.errors import NotAcknowledged


class Promise:
    """To cut tags once a commit is over, however it has ended: given to a shared store before, where one can wait.

    A commit neither fails nor is undone because a store does not answer. Here the cut is made at once in any case.
    """

    __slots__ = ("_cache", "_change", "_tags")

    def __init__(self, cache: Engine, tags: tuple[str, ...]) -> None:
        self._cache = cache
        self._tags = tags
        self._change: AbstractAsyncContextManager[object] | None = None

    def __enter__(self) -> None:
        self.give()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.keep()

    def give(self) -> None:
        """Before the commit."""
        if self._change is not None or not self._waits():
            return
        change = self._cache.mutation(self._tags)
        try:
            await_only(change.__aenter__())
        except NotAcknowledged as error:
            self._cache.misled("the promise before a commit", error, "It is committed all the same.")
        else:
            self._change = change

    def keep(self) -> None:
        """After it."""
        if not self._tags:
            return
        if not self._waits():
            self._cache.invalidate_now(self._tags)
            return
        try:
            await_only(self._kept())
        except NotAcknowledged as error:
            self._cache.misled("the invalidation after a commit", error, "It is queued.")
        except BaseException:
            self._cache.invalidate_now(self._tags)
            raise

    async def _kept(self) -> None:
        if self._change is None:
            await self._cache.invalidate(self._tags)
        else:
            await self._change.__aexit__(None, None, None)

    def _waits(self) -> bool:
        """Whether there is a store to be told, and this is code that can await: of an `AsyncSession`."""
        if not self._tags or self._cache.depot is None or "greenlet" not in sys.modules:
            return False
        return in_greenlet()
