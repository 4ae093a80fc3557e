"""Sends stored responses in the content coding that the client wants, and makes each once.

A form is made by the first who wants it, and lives with its response. Interleavings that matter:

    A, B want the same large one    → A's task makes it in a thread, B waits for the same task
    A goes away                     → the task goes on
    the response is cut meanwhile   → A and B, who asked before, get it; it is not kept, and nobody else finds it
    compressing fails               → they get the response as it is, and so does everybody after them
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from tiercel._core import coding
from tiercel._core.entry import Coded, Entry, Head, Header, Headers
from tiercel._core.events import Event, Failed
from tiercel._engine.background import Background
from tiercel._engine.codings import Compressor
from tiercel._engine.tiers import PLAIN, Shelf, Tiers
from tiercel.spi import Clock

_ACCEPT_ENCODING: Final = coding.ACCEPT_ENCODING
INLINE: Final = 32 * 1024
"""Bytes of the largest body that is compressed on the event loop: about a millisecond. The rest in a thread."""

_Place = tuple[asyncio.AbstractEventLoop, bytes, bytes, int]
"""What is just being made, and on which loop: for which key, in which coding, of which body."""


class Face:
    """A stored response as clients of one coding see it; with the fields of a hit, while they are good."""

    __slots__ = ("entry", "rendered", "rendered_at", "rendered_until")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.rendered: list[Header] = []
        self.rendered_at = self.rendered_until = 0.0


class Encoder:
    """Knows which responses are sent encoded, and keeps what was made of them.

    Args:
        compressors: By content coding: those that are there.
        private: Also responses that may be one user's.
        tiers: Where the responses are.
        clock: Where time comes from.
        background: Whose tasks the threads are waited for by.
        tell: Told where something fails.
    """

    def __init__(  # noqa: PLR0913 - what it is put together from
        self,
        compressors: Mapping[bytes, Compressor],
        *,
        private: bool,
        tiers: Tiers,
        clock: Clock,
        background: Background,
        tell: Callable[[Event], None],
    ) -> None:
        self._compressors = compressors
        self._private = private
        self._tiers = tiers
        self._clock = clock
        self._background = background
        self._tell = tell
        self._making: dict[_Place, asyncio.Future[Coded]] = {}

    def wanted(self, headers: Headers) -> bytes | None:
        """The coding in which a request is answered; None: as the application has said it."""
        value = None
        for name, line in headers:  # each hit comes by here
            if name == _ACCEPT_ENCODING:
                value = line if value is None else value + b", " + line
        if value is None:
            return None
        for one in coding.weighed(value):
            if one in self._compressors:
                return one
        return None

    def offered(self, status: int, headers: Headers) -> Headers:
        """The fields of an answer that is to be stored, with which it leaves us in whatever coding."""
        return coding.offered(headers) if self._may_encode(status, headers) else headers

    def face(self, key: bytes, shelf: Shelf, headers: Headers) -> Face | Shelf | None:
        """The only response of a shelf as a request gets it; None where that takes a thread."""
        if shelf.faces is PLAIN or (wanted := self.wanted(headers)) is None:
            return shelf
        face = shelf.faces.get(wanted)
        if face is None:
            entry = shelf.entries[0]
            shown = self._at_hand(key, entry, wanted)
            if shown is None:
                return None
            if shown is entry and not self._may_encode(entry.status, entry.headers):
                shelf.faces = PLAIN
                return shelf
            face = Face(shown)
            shelf.faces = {**shelf.faces, wanted: face}  # what is made of an entry has changed the shelf
        return face

    def at_hand(self, key: bytes, entry: Entry, headers: Headers) -> Entry | None:
        """A stored response as a request gets it; None where that takes a thread."""
        wanted = self.wanted(headers)
        return entry if wanted is None else self._at_hand(key, entry, wanted)

    async def shown(self, key: bytes, entry: Entry, headers: Headers) -> Entry:
        """The same, from a thread if need be."""
        wanted = self.wanted(headers)
        if wanted is None:
            return entry
        shown = self._at_hand(key, entry, wanted)
        return await self._shared(key, entry, wanted) if shown is None else shown

    def _may_encode(self, status: int, headers: Headers) -> bool:
        return coding.encodable(Head(status=status, headers=headers), private=self._private)

    def _at_hand(self, key: bytes, entry: Entry, wanted: bytes) -> Entry | None:
        if not coding.is_whole(entry) or not self._may_encode(entry.status, entry.headers):
            return entry
        form = coding.found(entry, wanted)
        if form is None:
            if not self._tiers.holds(key, entry):
                return entry  # it would be made anew for each
            if len(entry.body) > INLINE:
                return None
            form = self._keep(key, entry, self._made(wanted, entry.body))
        return coding.encoded(entry, form)

    async def _shared(self, key: bytes, entry: Entry, wanted: bytes) -> Entry:
        """Made in a thread, once for all who want it now."""
        loop = asyncio.get_running_loop()
        place = loop, key, wanted, id(entry.body)
        making = self._making.get(place)
        if making is None:
            making = self._making[place] = loop.create_future()
            task = self._background.start(self._make(making, key, entry, wanted), where="compression")
            task.add_done_callback(partial(self._settle, place, wanted))
        return coding.encoded(entry, await asyncio.shield(making))

    async def _make(self, making: "asyncio.Future[Coded]", key: bytes, entry: Entry, wanted: bytes) -> None:
        form = await asyncio.get_running_loop().run_in_executor(None, self._made, wanted, entry.body)
        making.set_result(self._keep(key, entry, form))

    def _settle(self, place: "_Place", wanted: bytes, _: object) -> None:
        """However it ended, also if it was cancelled before its first step: nobody waits for it any more."""
        making = self._making.pop(place)
        if not making.done():
            making.set_result(Coded(wanted, None, b""))

    def _made(self, wanted: bytes, body: bytes) -> Coded:
        try:
            made = self._compressors[wanted](body)
        except Exception as error:  # noqa: BLE001 - of a library in C: the response goes out as it is
            self._tell(Failed(where="compression", error=error))
            made = None
        return coding.coded(wanted, body, made)

    def _keep(self, key: bytes, entry: Entry, form: Coded) -> Coded:
        """Beside its response; where there is no room for both, that is noted, and the form is let go of."""
        now = self._clock.time()
        if self._tiers.encode(key, entry, form, now):
            return form
        none = Coded(form.coding, None, b"")
        self._tiers.encode(key, entry, none, now)
        return none
