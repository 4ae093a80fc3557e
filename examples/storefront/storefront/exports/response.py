"""A response whose body is read from a database while it goes out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Streamed(Response):
    """A response that ends between two pieces of its body when nobody listens any more.

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
        try:
            async with aclosing(self._content) as content:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for piece in content:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
