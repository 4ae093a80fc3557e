"""uvicorn's protocol, with a desk in front."""

import logging
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.server import ServerState

from tiercel._engine.call import Scope
from tiercel._engine.ready import METHODS
from tiercel.server._desk import Asked, Desk, First, desk_of
from tiercel.server._wire import Pieces

_END: Final = b"\r\n\r\n"
_NEVER: Final = frozenset({b"content-length", b"expect", b"transfer-encoding", b"upgrade"})
"""Fields of requests that are not answered here: what follows the head is uvicorn's business."""
_FAILED: Final = "a hit could not be answered at once: the application is asked"
_UNKEPT: Final = "an answer could not be kept: it is worked out again"
_log = logging.getLogger("tiercel")
_desks: WeakKeyDictionary[Config, Desk | None] = WeakKeyDictionary()


class HitProtocol(HttpToolsProtocol):
    """Answers from the cache what is fresh and in front; all else goes uvicorn's own way.

    Nothing is answered before the parser has accepted the whole request. Bytes that were one whole request are
    remembered: where the same come between two requests, the parser would only say the same again.
    """

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:  # noqa: ANN401 - as uvicorn's
        super().__init__(config, server_state, app_state, _loop)
        if config not in _desks:
            _desks[config] = desk_of(config)
        self._desk = _desks[config] if config.limit_concurrency is None else None
        self._begun = self._ended = 0
        """Requests of this connection."""
        self._held: Asked | None = None
        """A request that may be answered here once it has ended."""
        self._first: First | None = None
        """How the last one was answered, if it was here, until the bytes that have come are read."""
        self._answered_at = 0.0

    # -- what comes in -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what has come, as the transport hands it over."""
        before = self._begun
        desk = self._desk if before == self._ended and not self.access_log else None
        if desk is not None and self._is_idle() and (found := self._again(desk, data)) is not None:
            self._write(found)
            return
        super().data_received(data)
        first, self._first = self._first, None  # it holds what may be evicted
        if desk is not None and first is not None and self._begun == self._ended == before + 1 and _is_one(data):
            self._remember(desk, data, first)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._begun += 1
        self._unset_keepalive_if_required()  # an answer before it, of the same bytes, may have set the timer
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hold a request that may be answered here until it has ended; hand any other on."""
        self._held = self._candidate()
        if self._held is None:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Answer the request that was held, or hand it on after all."""
        self._ended += 1
        held, self._held = self._held, None
        if held is not None:
            if self._answer(held):
                return
            super().on_headers_complete()
        super().on_message_complete()

    def _candidate(self) -> Asked | None:
        """The request, if nobody waits for an answer before it, and it has no body nor wishes for the connection."""
        parser: Any = self.parser
        if self._desk is None or not self._is_idle() or not parser.should_keep_alive() or parser.should_upgrade():
            return None
        method = parser.get_method().decode("ascii")
        if method not in METHODS or parser.get_http_version() != "1.1":
            return None
        if any(name in _NEVER for name, _ in self.headers):
            return None
        return Asked(method, self.url, self.headers, cast("Scope", self.scope))

    def _is_idle(self) -> bool:
        """Whether no earlier request is still being answered, and the client takes what it is sent."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return (cycle is None or cycle.response_complete) and not self.flow.write_paused

    # -- what goes out -----------------------------------------------------------------------------------------------

    def _again(self, desk: Desk, data: bytes) -> Pieces | None:
        """The answer to bytes that were a whole request before."""
        try:
            return desk.answers.get(data, self.server_state.default_headers)
        except Exception:  # noqa: BLE001 - whatever it is, the request is answered
            _log.exception(_FAILED)
            return None

    def _remember(self, desk: Desk, data: bytes, first: First) -> None:
        """Keep the answer to bytes that were a whole request. It has been given."""
        try:
            desk.remember(data, first)
        except Exception:  # noqa: BLE001 - as above
            _log.exception(_UNKEPT)

    def _answer(self, asked: Asked) -> bool:
        """Answer a request, if the desk can."""
        try:
            found = None if self._desk is None else self._desk.first(asked, self.server_state.default_headers)
        except Exception:  # noqa: BLE001 - as above
            _log.exception(_FAILED)
            return False
        if found is None:
            return False
        self._first = found
        if self.access_log:
            scope = cast("HTTPScope", found.scope)
            self.access_logger.info(
                '%s - "%s %s HTTP/%s" %d',
                get_client_addr(scope),
                asked.method,
                get_path_with_query_string(scope),
                "1.1",
                found.status,
            )
        self._write(found.pieces)
        return True

    def _write(self, answer: Pieces) -> None:
        """Send it, and wait for the next request no longer than uvicorn does."""
        self.server_state.total_requests += 1
        if isinstance(answer, bytes):
            self.transport.write(answer)
        else:  # not by `writelines`, of which some releases of Python lose count when the client does not read
            for piece in answer:
                self.transport.write(piece)
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_until(self._answered_at + self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it was used since the timer was set: to set it for every answer takes time."""
        until = self._answered_at + self.timeout_keep_alive
        if until > self.loop.time():
            self._wait_until(until)
        else:
            super().timeout_keep_alive_handler()

    def _wait_until(self, moment: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_at(moment, self.timeout_keep_alive_handler)


def _is_one(data: bytes) -> bool:
    """Whether a head ends where the bytes end, and nowhere else."""
    return data.find(_END) == len(data) - len(_END)
