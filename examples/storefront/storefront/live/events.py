"""Server-sent events.

FastAPI has a response for them, which waits for ever for a client that does not read, and knows of no end of the
server. This one lets both go; the format is FastAPI's.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from storefront.live.feed import Listener
from storefront.live.schemas import Told
from storefront.live.telling import last_word, tell

RETRY = 2_000
"""Milliseconds until a browser that was cut off comes back."""

_log = logging.getLogger("storefront.live")


class LiveEvents(Response):
    """What a feed tells, for as long as the client listens."""

    media_type = "text/event-stream"

    def __init__(self, listening: Callable[[], AbstractContextManager[Listener]], heartbeat: float) -> None:
        # For this client, and now: no cache is to keep it, and no proxy to hold it back until it is long enough.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._listening = listening
        self._heartbeat = heartbeat

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def emit(told: Told | None) -> None:
            body = KEEPALIVE_COMMENT if told is None else _written(told)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        with self._listening() as listener:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await tell(listener, emit, gone(), self._heartbeat)
            if listener.over.is_set():
                if listener.why == "slow":
                    _log.info("a client was dropped: it does not read")
                await last_word(send({"type": "http.response.body", "body": b""}))


def _written(told: Told) -> bytes:
    retry = RETRY if told.kind == "hello" else None
    return format_sse_event(data_str=told.says.model_dump_json(), event=told.kind, id=told.id, retry=retry)
