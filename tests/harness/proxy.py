"""A way to a server on which things go wrong without a word."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Between clients and a server."""

    def __init__(self, port: int) -> None:
        self.there = port
        """The server that the next connections lead to."""
        self._talks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.delay = 0.0
        """Seconds by which each answer comes later."""
        self.delays: dict[int, float] = {}
        """The same for one connection: the first is 1."""
        self._made = 0
        self.answers = 0
        """Pieces that came back, each of which was delayed."""
        self.lost = False
        """Nothing arrives any more on connections that were there before, and nobody is told."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.there)
        self._clients.add(writer)
        self._made += 1
        state = [True]
        ways = (self._pass(reader, there_writer, state, 0), self._pass(there_reader, writer, state, self._made))
        for way in ways:
            task = asyncio.create_task(way)
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, alive: list[bool], back: int
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if self.lost:
                    alive[0] = False
                self.answers += back > 0
                await asyncio.sleep((self.delay + self.delays.get(back, 0.0)) if back else 0.0)
                if alive[0]:
                    writer.write(data)
        finally:
            self._clients.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def say(self, data: bytes) -> None:
        """An answer that the server has not given, on all connections."""
        for client in self._clients:
            client.write(data)

    async def aclose(self) -> None:
        for task in list(self._talks):
            task.cancel()
        if self._talks:
            await asyncio.wait(self._talks)


@asynccontextmanager
async def proxy(port: int) -> AsyncGenerator[Proxy]:
    made = Proxy(port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.aclose()
