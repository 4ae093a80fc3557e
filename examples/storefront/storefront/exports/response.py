"""A response whose body is read from a database while it goes out."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

LONGEST = 300.0
"""Seconds for a whole body: eight megabytes at 30 kB a second. Who reads slower would have its connection for ever."""

_log = logging.getLogger("storefront.exports")


class Streamed(Response):
    """A response that ends between two pieces of its body when nobody listens any more, or has not read it in time.

    The one of Starlette ends within a piece: it cancels who reads, again and again until that has ended. A connection
    that is cancelled while it reads is closed by SQLAlchemy, and where that is cancelled, too, aiosqlite leaves a task
    which never ends, and for which a server waits when it is to stop.
    """

    def __init__(self, content: AsyncGenerator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        self._content = content
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(headers)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        gone = asyncio.ensure_future(_left(receive))
        until = asyncio.get_running_loop().time() + LONGEST

        async def took(message: Message) -> bool:
            try:
                async with asyncio.timeout_at(until):  # around what waits for the client, and never around a read
                    await send(message)
            except TimeoutError:
                _log.warning("an export was broken off: it was not read in %s s", LONGEST)
                return False
            return True

        try:
            async with aclosing(self._content) as content:
                start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                if not await took(start):
                    return
                async for piece in content:
                    if gone.done() or not await took({"type": "http.response.body", "body": piece, "more_body": True}):
                        return
            await took({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
