"""A cluster: which server has which slot is learnt from the servers, and what was learnt wrongly is corrected by them.

The log is in one slot, and the connections on which it is followed and written are made to whoever has that slot.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tiercel.errors import StoreError
from tiercel.stores.redis._line import AGAIN, Line
from tiercel.stores.redis._places import (
    HANDSHAKE,
    Address,
    AskError,
    Connection,
    MovedError,
    RedisError,
    key_slot,
    opened,
)

HOPS: Final = 4
"""Servers that are asked for one answer: each may say that another has it."""

Connect = Callable[[Address], Connection]


class Cluster:
    """Lines to the servers of a cluster, by slot."""

    def __init__(self, seeds: list[Address], connect: Connect, where: str, ended: Callable[[Exception], None]) -> None:
        self._seeds = self._nodes = seeds
        """The servers that are known; those that have failed last."""
        self._connect = connect
        self._where = where
        self._ended = ended
        self._slots: dict[int, Address] = {}
        self._learning: asyncio.Task[None] | None = None
        self._lines: dict[Address, tuple[Line, asyncio.Task[None]]] = {}

    def address(self, key: bytes) -> Address:
        """Who has a key, as far as is known."""
        return self._slots.get(key_slot(key)) or self._nodes[0]

    async def learn(self) -> None:
        """Ask who has which slot.

        Raises:
            StoreError: Nobody says.
        """
        why = ""
        for node in list(self._nodes):
            try:
                await self._learn_from(node)
            except Exception as error:  # noqa: BLE001 - whatever it is, another one may know
                why = str(error) or type(error).__name__
            else:
                return
        message = f"{self._where}: nobody says who has which slot. {why}"
        raise StoreError(message)

    async def _learn_from(self, node: Address) -> None:
        connection = self._connect(node)
        try:
            async with asyncio.timeout(HANDSHAKE):
                await opened(connection)
                await connection.send_command("CLUSTER", "SLOTS")
                self._learnt(node, await connection.read_response())
        finally:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def moved(self, error: MovedError, asked: Address) -> None:
        """A server that was asked has said who has a slot."""
        self._slots[int(error.slot_id)] = _there(error, asked)

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
                        self.moved(moved, address)
                        address, asking = self.address(key), False
                    case AskError() as asked:
                        address, asking = _there(asked, address), True
                    case _:
                        raise
        message = f"{self._where}: {HOPS} servers have said that another one has the key"
        raise StoreError(message)

    async def aclose(self) -> None:
        """Give all connections up."""
        tasks = [task for _, task in self._lines.values()]
        if self._learning is not None:
            tasks.append(self._learning)
        self._lines, self._learning = {}, None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _line(self, address: Address) -> Line:
        if address not in self._lines:
            where = f"{self._where} at {address[0]}:{address[1]}"
            line = Line(lambda: self._connect(address), where, partial(self._forget, address))
            self._lines[address] = line, asyncio.get_running_loop().create_task(line.run(), name="tiercel redis")
        return self._lines[address][0]

    def _learnt(self, asked: Address, ranges: list[list[Any]]) -> None:
        slots, nodes = dict[int, Address](), [asked]
        for first, last, *servers in ranges:
            here = [_address((host or b"").decode(), port, asked) for host, port, *_ in servers]
            slots.update(dict.fromkeys(range(first, last + 1), here[0]))
            nodes += here
        if not slots:
            message = f"{asked[0]}:{asked[1]} knows of no slots"
            raise StoreError(message)
        self._slots, self._nodes = slots, list(dict.fromkeys([*nodes, *self._seeds]))

    def _forget(self, address: Address, error: Exception) -> None:
        """It does not answer: others are asked who has what it had."""
        self._ended(error)
        self._slots = {slot: holder for slot, holder in self._slots.items() if holder != address}
        self._nodes = [*[node for node in self._nodes if node != address], address]
        if self._learning is None or self._learning.done():
            self._learning = asyncio.get_running_loop().create_task(self._learn_again(), name="tiercel redis cluster")

    async def _learn_again(self) -> None:
        with contextlib.suppress(StoreError):  # whoever asks for what it had is told
            await self.learn()
        await asyncio.sleep(AGAIN)  # until another one has taken over, nobody knows more


def _there(error: Any, asked: Address) -> Address:  # noqa: ANN401 - redis-py does not say
    return _address(str(error.host), error.port, asked)


def _address(host: str, port: int, asked: Address) -> Address:
    """A server that does not know by which name it is reached leaves that out, or says '?': its own is meant."""
    return (asked[0] if host in {"", "?"} else host), int(port)
