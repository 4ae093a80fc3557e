"""A cluster: which server has which slot is learnt from the servers, and what was learnt wrongly is corrected by them.

The log is in one slot, and the connections on which it is followed and written are made to whoever has that slot.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from tiercel.errors import StoreError
from tiercel.stores.redis._line import Line
from tiercel.stores.redis._places import (
    Address,
    AskError,
    Connection,
    MovedError,
    RedisError,
    ResponseError,
    key_slot,
    opened,
)

HOPS: Final = 4
"""Servers that are asked for one answer: each may say that another has it."""

Connect = Callable[[Address], Connection]


class Cluster:
    """Lines to the servers of a cluster, by slot."""

    def __init__(self, seeds: list[Address], connect: Connect, where: str) -> None:
        self._seeds = seeds
        self._connect = connect
        self._where = where
        self._slots: dict[int, Address] = {}
        self._lines: dict[Address, tuple[Line, asyncio.Task[None]]] = {}

    def address(self, key: bytes) -> Address:
        """Who has a key, as far as is known."""
        return self._slots.get(key_slot(key)) or self._seeds[0]

    async def learn(self) -> None:
        """Ask who has which slot.

        Raises:
            StoreError: Nobody says.
        """
        why = ""
        for seed in dict.fromkeys([*self._seeds, *self._slots.values()]):
            connection = self._connect(seed)
            try:
                await opened(connection)
                await connection.send_command("CLUSTER", "SLOTS")
                self._learnt(seed, await connection.read_response())
            except (RedisError, OSError, TimeoutError) as error:
                why = str(error)
            else:
                return
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
        message = f"{self._where}: nobody says who has which slot. {why}"
        raise StoreError(message)

    def moved(self, error: MovedError) -> None:
        """A server has said who has a slot."""
        self._slots[int(error.slot_id)] = _there(error)

    async def ask(self, key: bytes, *command: bytes | str | int) -> Any:  # noqa: ANN401 - whatever the server says
        """The answer of whoever has the key.

        Raises:
            StoreError: There is none.
        """
        address, asking = self.address(key), False
        for _ in range(HOPS):
            try:
                return await self._line(address).ask(*command, asking=asking)
            except StoreError as error:
                match error.__cause__:
                    case MovedError() as moved:
                        self.moved(moved)
                        address, asking = self.address(key), False
                    case AskError() as asked:
                        address, asking = _there(asked), True
                    case ResponseError():
                        raise
                    case _:
                        self._forget(address)
                        raise
        message = f"{self._where}: {HOPS} servers have said that another one has the key"
        raise StoreError(message)

    async def aclose(self) -> None:
        """Give all connections up."""
        lines, self._lines = list(self._lines.values()), {}
        for _, task in lines:
            task.cancel()
        if lines:
            await asyncio.wait([task for _, task in lines])

    def _line(self, address: Address) -> Line:
        if address not in self._lines:
            line = Line(lambda: self._connect(address), f"{self._where} at {address[0]}:{address[1]}")
            self._lines[address] = line, asyncio.get_running_loop().create_task(line.run(), name="tiercel redis")
        return self._lines[address][0]

    def _learnt(self, asked: Address, ranges: list[list[Any]]) -> None:
        for first, last, primary, *_ in ranges:
            host = (primary[0] or b"").decode() or asked[0]
            self._slots.update(dict.fromkeys(range(first, last + 1), (host, int(primary[1]))))

    def _forget(self, address: Address) -> None:
        """It does not answer: others are asked who has what it had."""
        self._slots = {slot: holder for slot, holder in self._slots.items() if holder != address}
        if self._seeds[0] == address:
            self._seeds.append(self._seeds.pop(0))


def _there(error: Any) -> Address:  # noqa: ANN401 - redis-py does not say
    return str(error.host), int(error.port)
