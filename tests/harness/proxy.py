"""A way to a server on which things go wrong without a word."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Between clients and a server."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._talks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay = 0.0
        """Seconds by which each answer comes later."""
        self.lost = False
        """Nothing arrives any more on connections that were there before, and nobody is told."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._there)
        state = [True]
        ways = (self._pass(reader, there_writer, state, 0), self._pass(there_reader, writer, state, 1))
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
                await asyncio.sleep(self.delay * back)
                if alive[0]:
                    writer.write(data)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

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
