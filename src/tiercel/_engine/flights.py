"""Running fills: one per key, which everyone who waits for the key reads while it grows.

Interleavings that matter. A cold key, three callers A, B, C:

    A: nothing stored, nothing flying    → takes off; the fill is a task of its own
    B: nothing stored, a flight          → boards: waits for its head, then reads the same chunks as A
    A: goes away                         → the flight does not notice
    fill: last chunk                     → stored first, then handed out: whoever asks from now on hits
    invalidation while it flies          → C, who asks after it, does not board (`Stamps`); what lands is condemned

Who rides is known from the moment of boarding, not from the first read: of a body that is too large to be kept only
that is let go which everybody aboard has read.
"""

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final

from tiercel._core import keys
from tiercel._core.entry import Entry, Header, Request, Selecting
from tiercel._engine.chunks import Chunks, Room
from tiercel._engine.reading import Reads

Message = MutableMapping[str, Any]
"""An ASGI message."""

WINDOW = 64 * 1024
"""Bytes that a body which outgrew the cache may be ahead of its slowest reader."""
STALL = 30.0
"""Seconds that the slowest reader of such a body may keep the others waiting."""


class Phase(Enum):
    """How far a flight has come."""

    ASKING = "asking"
    """No head yet."""
    GROWING = "growing"
    """The head is out, chunks follow, all may read."""
    PASSING = "passing"
    """Not for the cache: messages go to the caller that started it, and to nobody else."""
    LANDED = "landed"
    """A complete response is there for everyone."""
    ENDED = "ended"
    """The answer is complete, but was not stored."""
    FAILED = "failed"


class PutOffError(ConnectionError):
    """A reader could not be taken any further; the others go on."""


class Reader:
    """One who rides: a client, and how far it has read."""

    __slots__ = ("_error", "_offset", "_own", "at", "flight", "gone", "request")

    def __init__(self, flight: "Flight", request: Request, *, own: bool) -> None:
        self.flight = flight
        self.request = request
        self.at = 0
        """Chunks that it has read."""
        self.gone = False
        """The client has hung up."""
        self._own = own
        self._offset = 0
        self._error: PutOffError | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to read without waiting."""
        flight = self.flight
        return flight.over or self.gone or self._error is not None or self.at < len(flight.chunks)

    async def read(self) -> bytes | None:
        """The next piece of the body; None after the last. Raises what broke the fill."""
        while not self.ready:
            await self.flight.changed()
        if self._error is not None:
            raise self._error
        if self.gone:
            return None
        piece = self.flight.piece(self.at, self._offset)
        if piece is not None:
            self.at += 1
            self._offset += len(piece)
            self.flight.trim()
        return piece

    def put_off(self, why: str) -> None:
        """Take it no further."""
        self._error = PutOffError(why)

    def hang_up(self) -> None:
        """The client has gone."""
        self.gone = True
        self.flight.wake()

    def leave(self) -> None:
        """It wants no more."""
        self.flight.left(self, own=self._own)


CACHE_STATUS: Final = b"cache-status"


class Flight:
    """One running fill: what is known of the answer so far, and who reads it."""

    phase = Phase.ASKING
    over = False
    """Whether the answer is complete, or will never be: LANDED, ENDED or FAILED."""
    tags: tuple[str, ...] | None = None
    """What an invalidation can name. None while nobody knows: then any keeps later callers from boarding."""
    by_uri = False
    """The URI is a tag of the response, whatever else will be."""
    entry: Entry | None = None
    """The response as it will be stored; complete once LANDED."""
    stored = False
    reason = ""
    """Why it was not stored."""
    fallback = False
    """Landed on a stale response, because the application failed."""
    status: int | None = None
    """Status code of the application's answer."""
    passed_on: Sequence[Header] = ()
    """What is not stored and goes to whoever asked: Cache-Status of caches nearer to the origin, a request id."""
    error: BaseException | None = None
    task: asyncio.Task[None] | None = None
    _traceback: TracebackType | None = None
    _let_go = False
    _names: frozenset[bytes] = frozenset()
    _selecting: Selecting = ()

    def __init__(  # noqa: PLR0913 - what it is put together from
        self, key: bytes, *, born: int, since: float, request: Request, room: Room, caller: bool = True
    ) -> None:
        self.key = key
        self.lane = key
        """Under which it is found while it flies: the key, or one that only some of those who ask for the key share."""
        self.born = born
        self.since = since
        """When it took off (monotonic)."""
        self.reads = Reads()
        """What the application has read so far, where anybody has told."""
        self.revision = -1
        """Revision of the log then."""
        self.request = request
        self.has_caller = caller
        """Whether there is somebody whom the messages of a PASSING flight can be handed to."""
        self.emptied: Callable[[], None] = lambda: None
        """Told when the last one has left."""
        self.loop = asyncio.get_running_loop()
        self.chunks = Chunks(room)
        self._readers: set[Reader] = set()
        self._waiting: dict[asyncio.Future[None], None] = {}  # first come, first served

    @property
    def attended(self) -> bool:
        """Whether anybody still wants to hear of it."""
        return bool(self._readers) or self.has_caller

    @property
    def unwanted(self) -> bool:
        """Whether nobody, now or later, can get what the application still says."""
        return self.over or (not self.attended and (self.phase is Phase.PASSING or self._let_go))

    def selecting(self, names: frozenset[bytes]) -> Selecting:
        """What of its request selects, by these names."""
        if names != self._names:
            self._names, self._selecting = names, keys.selecting(names, self.request.headers)
        return self._selecting

    # -- what the fill does ------------------------------------------------------------------------------------------

    def show(self, entry: Entry) -> None:
        """The head may go out: the body follows and may be stored."""
        self.entry, self.phase = entry, Phase.GROWING
        self.wake()

    def narrow(self, entry: Entry) -> None:
        """More selects the response than was known when some boarded: those it is not for have to go."""
        self.entry = entry
        for reader in self._readers:
            if not keys.matches(entry, reader.request.headers):
                reader.put_off("the application has read more of its request than this one has in common with it")
        self.wake()

    def feed(self, chunk: bytes) -> None:
        """The body goes on."""
        if chunk:
            self.chunks.append(chunk)
            self.wake()

    def land(self, entry: Entry, *, stored: bool, fallback: bool = False) -> None:
        """The response is complete: everyone who waits may have it."""
        self.entry, self.stored, self.fallback = entry, stored, fallback
        self.phase, self.over = Phase.LANDED, True
        self.chunks.clear()  # from here on all read the body of the entry
        self.wake()

    def end(self) -> None:
        """The answer is complete and was not stored."""
        self.phase, self.over = Phase.ENDED, True
        self.let_go()
        self.wake()

    def fail(self, error: BaseException) -> None:
        """There will be no more of it."""
        self.error, self._traceback = error, error.__traceback__
        self.phase, self.over = Phase.FAILED, True
        self.chunks.clear()
        self.wake()

    def pass_by(self) -> None:
        """Not for the cache: release all who wait but the caller that started it."""
        self.phase = Phase.PASSING
        self.wake()

    def let_go(self) -> None:
        """The body will not be stored: keep no more of it than its slowest reader needs."""
        self._let_go = True
        self.trim()

    async def kept_up(self) -> None:
        """Wait for the slowest reader of a body that is let go of."""
        patience = self.loop.time() + STALL
        while self._let_go and self.chunks.weight > WINDOW and self._readers:
            await self.changed(patience)
            if self.loop.time() >= patience:
                self._put_off_slowest()
                patience = self.loop.time() + STALL

    def abandon(self) -> None:
        """The caller of a PASSING flight is gone: nobody else wants the rest."""
        self.has_caller = False
        if self.task is not None:
            self.task.cancel()

    # -- what its readers do -----------------------------------------------------------------------------------------

    def board(self, request: Request, *, own: bool = False) -> Reader:
        """Ride. `own`: as the caller that started it."""
        reader = Reader(self, request, own=own)
        self._readers.add(reader)
        return reader

    def left(self, reader: Reader, *, own: bool) -> None:
        """One is gone."""
        self._readers.discard(reader)
        if own:
            self.has_caller = False
        self.trim()
        if not self.attended:
            self.wake()
            self.emptied()

    async def settled(self, within: float | None = None) -> bool:
        """Wait until it is known what kind of answer it is, or for so many seconds; whether it is known."""
        deadline = None if within is None else self.loop.time() + within
        while self.phase is Phase.ASKING:
            if deadline is not None and self.loop.time() >= deadline:
                return False
            await self.changed(deadline)
        return True

    async def finished(self) -> None:
        """Wait until it is over. Raises what broke it."""
        while not self.over:
            await self.changed()
        self.check()

    def check(self) -> None:
        """Raise what broke it, as it was when it did: whoever raised it before has left no trace."""
        if self.error is not None:
            raise self.error.with_traceback(self._traceback)

    def piece(self, at: int, offset: int) -> bytes | None:
        """What follows for a reader that has had so many chunks, so many bytes."""
        self.check()
        if self.phase is Phase.LANDED and self.entry is not None:
            return self.entry.body[offset:] or None
        return self.chunks[at] if at < len(self.chunks) else None

    def trim(self) -> None:
        """Let go of what everyone aboard has read, once the body is not to be stored."""
        if self._let_go and self.chunks.drop(min([reader.at for reader in self._readers], default=len(self.chunks))):
            self.wake()

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def changed(self, deadline: float | None = None) -> None:
        """Wait until something may have changed, or until a time of the loop."""
        future = self.loop.create_future()
        timer = None if deadline is None else self.loop.call_at(deadline, _resolve, future)
        self._waiting[future] = None
        try:
            await future
        finally:
            del self._waiting[future]
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Something may have changed."""
        for future in self._waiting:
            _resolve(future)

    def _put_off_slowest(self) -> None:
        """Whoever keeps others waiting goes. Where all are equally slow, nobody does."""
        slowest = min(reader.at for reader in self._readers)
        slow = [reader for reader in self._readers if reader.at == slowest]
        if len(slow) < len(self._readers):
            for reader in slow:
                reader.put_off("this client read too slowly for a body that is too large to be kept for it")
            self._readers.difference_update(slow)
            self.trim()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
