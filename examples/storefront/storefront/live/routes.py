"""The stock as it changes, over HTTP and WebSocket. The cache passes both on as they come."""

import contextlib
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket, WebSocketDisconnect

from storefront.errors import StorefrontError, TooOften
from storefront.live.events import LiveEvents
from storefront.live.feed import Listener
from storefront.live.schemas import Hello, Stock, Told
from storefront.live.telling import last_word, tell
from storefront.parts import Parts
from storefront.problems import Problem

GOING_AWAY, TRY_AGAIN = 1001, 1013
"""Why a WebSocket is closed: RFC 6455 §7.4.1, and the registry of IANA."""

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `hello`, first and once, and `stock`, for ever. Each has an `id`, and JSON as `data`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: stock\ndata: {"product_id":2,"stock":0,"price":326,"version":2}\nid: 17-1\n\n',
            }
        },
    },
    429: {"description": "Too many of this address listen."},
}


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application. Everybody may listen."""
    routes = APIRouter(prefix="/live", tags=["live"])
    feed, settings = parts.events.feed, parts.settings
    heartbeat = settings.live_heartbeat.total_seconds()

    @routes.get("/stock/events", status_code=200, response_class=LiveEvents, responses=STREAM)
    async def listen_by_events(
        request: Request, last_event_id: Annotated[str | None, Header(max_length=64)] = None
    ) -> Response:
        """Listen to the stock. Begin to listen first and read products then: so nothing is missed in between.

        A browser that was cut off sends the `Last-Event-ID` by itself. The event `hello` says whether everything since
        then follows; where it does not, read again what you show.
        """
        return LiveEvents(partial(feed.listening, _address(request), last_event_id), heartbeat)

    @routes.websocket("/stock")
    async def listen_by_websocket(
        websocket: WebSocket, after: Annotated[str | None, Query(max_length=64)] = None
    ) -> None:
        """Listen to the stock; after the message of this id, where you have heard some before."""
        if not _may_listen(websocket, settings.cors_origins):
            await websocket.send_denial_response(Problem(403, "pages of this origin may not listen"))
            return
        try:
            with feed.listening(_address(websocket), after) as listener:
                await websocket.accept()
                await _tell(websocket, listener, heartbeat)
        except TooOften as error:
            await websocket.send_denial_response(Problem(429, str(error), headers={"Retry-After": str(error.seconds)}))
        except StorefrontError as error:
            await websocket.send_denial_response(Problem(503, str(error)))

    return routes


async def _tell(websocket: WebSocket, listener: Listener, heartbeat: float) -> None:
    async def emit(told: Told | None) -> None:
        await websocket.send_json({"type": "heartbeat"} if told is None else _message(told))

    async def gone() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass  # whatever it says, nobody has asked

    with contextlib.suppress(WebSocketDisconnect):  # while it was told something: nobody is left to tell
        await tell(listener, emit, gone(), heartbeat)
        if listener.over.is_set():
            await last_word(websocket.close(GOING_AWAY if listener.why == "closing" else TRY_AGAIN))


def _message(told: Told) -> dict[str, object]:
    said: Stock | Hello = told.says
    return {"type": told.kind, "id": told.id, **said.model_dump()}


def _address(connection: Request | WebSocket) -> str:
    return connection.client.host if connection.client else "unknown"


def _may_listen(websocket: WebSocket, origins: tuple[str, ...]) -> bool:
    """Tell whether the page that asks may: browsers let any page connect, and say whose it is."""
    origin = websocket.headers.get("origin")
    return origin is None or origin in origins or urlsplit(origin).netloc == websocket.headers.get("host")
