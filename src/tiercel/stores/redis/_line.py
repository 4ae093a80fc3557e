"""One connection for all that a process asks: what is asked in one turn of the loop travels together.

    ask, ask, ask │ one write │ … │ one read, three answers

A connection that has failed, or on which nothing is heard for `SILENCE` while answers are due, is given up, and with it
all that was asked on it. The next question opens another: nobody tries again on his own account.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from tiercel.errors import StoreError
from tiercel.stores.redis._places import (
    Command,
    Connection,
    RedisError,
    ResponseError,
    is_of_another,
    opened,
)

SILENCE: Final = 2.0
"""Seconds without an answer after which a connection is given up."""
LIMIT: Final = 10_000
"""Questions that may wait for an answer."""
AGAIN: Final = 0.1
"""Seconds until something is tried again that nobody waits for, or that has failed in a way that nobody thought of."""
EXPECTED: Final = (RedisError, OSError, TimeoutError)
"""What a connection may end by; whoever has asked is told."""

Pending = asyncio.Future[Any]


class Line:
    """Asks and answers in order."""

    def __init__(self, connection: Callable[[], Connection], where: str, ended: Callable[[Exception], None]) -> None:
        self._connection = connection
        self._where = where
        self._ended = ended
        """Told of what each connection has ended by."""
        self._outbox: list[tuple[Command, Pending]] = []
        self._unanswered: deque[Pending] = deque()
        self._asked = asyncio.Event()
        self._dropped = asyncio.Event()
        self._heard = 0.0

    async def ask(self, *command: bytes | str | int, asking: bool = False) -> Any:  # noqa: ANN401 - what the server says
        """The answer; `asking`: also of a server of a cluster that is about to take the slot over.

        Raises:
            StoreError: There is none.
        """
        if len(self._outbox) + len(self._unanswered) >= LIMIT:
            message = f"{self._where}: {LIMIT} questions wait for an answer already"
            raise StoreError(message)
        pending: Pending = asyncio.get_running_loop().create_future()
        if asking:
            self._outbox.append((("ASKING",), asyncio.get_running_loop().create_future()))
        self._outbox.append((command, pending))
        self._asked.set()
        return await pending

    def drop(self) -> None:
        """Give the connection up; the next question opens another."""
        self._dropped.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._asked.wait()
                await self._connected()
        finally:
            self._fail("it is closed")

    async def _connected(self) -> None:
        """One connection, from its beginning to its end."""
        self._dropped.clear()
        try:
            connection = self._connection()
            try:
                await opened(connection)
                await self._exchange(connection)
            finally:
                with suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next question opens another connection
            self._fail(str(error) or type(error).__name__)
            self._ended(error)
            if not isinstance(error, EXPECTED):
                await asyncio.sleep(AGAIN)

    async def _exchange(self, connection: Connection) -> None:
        """Write, read and listen, until one of them ends."""
        works = [self._write(connection), self._read(connection), self._listen(), self._dropped.wait()]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        self._fail("it has forgotten what it knew")

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            outbox, self._outbox = self._outbox, []
            commands = [command for command, pending in outbox if not pending.done()]
            if not self._unanswered:
                self._heard = asyncio.get_running_loop().time()
            self._unanswered.extend([pending for _, pending in outbox if not pending.done()])
            if commands:
                packed = connection.pack_commands(commands)
                await connection.send_packed_command(packed, check_health=False)

    async def _read(self, connection: Connection) -> None:
        while True:
            try:
                answer, error = await connection.read_response(), None
            except ResponseError as refusal:
                if is_of_another(refusal):
                    raise  # the next connection finds the one that is the primary, and loads the scripts
                answer, error = None, StoreError(f"{self._where}: {refusal}")
                error.__cause__ = refusal
            self._heard = asyncio.get_running_loop().time()
            if not self._unanswered:
                message = "an answer came that nobody had asked for"
                raise StoreError(message)
            pending = self._unanswered.popleft()
            if pending.done():
                continue
            if error is None:
                pending.set_result(answer)
            else:
                pending.set_exception(error)

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(SILENCE / 4)
            if self._unanswered and asyncio.get_running_loop().time() - self._heard > SILENCE:
                message = f"nothing was heard for {SILENCE} s"
                raise TimeoutError(message)

    def _fail(self, why: str) -> None:
        """Whoever waits for an answer gets none."""
        waiting = [*self._unanswered, *[pending for _, pending in self._outbox]]
        self._unanswered.clear()
        self._outbox.clear()
        self._asked.clear()
        for pending in waiting:
            if not pending.done():
                pending.set_exception(StoreError(f"{self._where}: {why}"))
