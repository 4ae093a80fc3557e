"""Clients that listen to the stock, by both ways."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Message = dict[str, Any]

ENDS = (1001, 1012, 1013)
"""Why a server ends it: it goes, it starts again, or the client is to try again."""


class ByEvents:
    """One that listens by server-sent events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()
        self._messages = self._all()

    def next(self) -> Message:
        return next(self._messages)

    def rest(self) -> list[Message]:
        """What else comes until the server ends it."""
        return list(self._messages)

    def _all(self) -> Iterator[Message]:
        message: Message = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line == "":
                yield message
                message = {}
            elif name == "data":
                message.update(json.loads(value))
            else:
                message[{"event": "type", "": "comment"}.get(name, name)] = value


class ByWebSocket:
    """One that listens by WebSocket."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def next(self) -> Message:
        said: Message = json.loads(self.connection.recv(timeout=20))
        return said

    def rest(self) -> list[Message]:
        """What else comes until the server ends it."""
        said: list[Message] = []
        with suppress(ConnectionClosed):
            while True:
                said.append(self.next())
        assert self.connection.close_code in ENDS
        return said


@contextmanager
def by_events(url: str, after: str | None = None) -> Generator[ByEvents]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with httpx.stream("GET", f"{url}/api/v1/live/stock/events", headers=headers, timeout=20) as answer:
        yield ByEvents(answer)


@contextmanager
def by_websocket(url: str, after: str | None = None, origin: str | None = None) -> Generator[ByWebSocket]:
    query = "" if after is None else f"?after={after}"
    where = f"{url.replace('http', 'ws', 1)}/api/v1/live/stock{query}"
    with connect(where, origin=origin, open_timeout=20, close_timeout=5) as connection:  # type: ignore[arg-type]
        yield ByWebSocket(connection)
