"""Who listens, and the last things that were told. One per process; it holds a bounded number of everything."""

import asyncio
import re
from collections import Counter, deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from itertools import count
from time import time
from typing import Literal

from storefront.errors import TooOften, Unavailable
from storefront.events.schemas import ProductChanged
from storefront.live.schemas import Hello, Stock, Told

KEPT = 1_000
"""Messages that a client may have missed, and is told when it comes back."""

BEHIND = 100
"""Messages that a client may be behind; one that is further is dropped, and may come back."""

PLACE = re.compile(r"(\d{1,15})-(\d{1,15})")

Place = tuple[int, int]

Why = Literal["slow", "lost", "closing"]
"""It does not read; what it was to be told is not known any more; the server is about to end."""


class Listener:
    """One client: what it is to be told, and whether it still is."""

    def __init__(self, hello: Told, missed: Iterable[Told]) -> None:
        self.over = asyncio.Event()
        self.why: Why = "closing"
        self._before = deque([hello, *missed])
        self._next: asyncio.Queue[Told] = asyncio.Queue(BEHIND)

    async def next(self) -> Told:
        """Wait for what it is to be told next."""
        return self._before.popleft() if self._before else await self._next.get()

    def tell(self, told: Told) -> None:
        """Tell it something, or give it up: it has not taken what came before."""
        try:
            self._next.put_nowait(told)
        except asyncio.QueueFull:
            self.end("slow")

    def end(self, why: Why) -> None:
        """Tell it no more."""
        self.why = why
        self.over.set()


class Feed:
    """What is told, to all who listen in this process."""

    def __init__(self, *, per_address: int) -> None:
        self._per_address = per_address
        self._addresses: Counter[str] = Counter()
        self._listeners: set[Listener] = set()
        self._told: deque[Told] = deque(maxlen=KEPT)
        self._last = self._floor = (int(time() * 1000), 0)
        self._numbers = count(1)
        self._closed = False

    @property
    def place(self) -> str:
        """The place of what was told last."""
        return f"{self._last[0]}-{self._last[1]}"

    def tell(self, changed: ProductChanged) -> None:
        """Tell of a change that was made known in this process; its place is one of ours."""
        self.append(f"{self._last[0]}-{next(self._numbers)}", changed)

    def append(self, place: str, changed: ProductChanged) -> None:
        """Tell of a change that has this place."""
        told = _told(place, changed)
        if len(self._told) == KEPT:
            self._floor = _place(self._told[0].id)
        self._last = _place(place)
        self._told.append(told)
        for listener in tuple(self._listeners):
            listener.tell(told)

    def pass_over(self, place: str) -> None:
        """Go on after something that cannot be told."""
        self._last = _place(place)

    def begin(self, known: list[tuple[str, ProductChanged]], now: str) -> None:
        """Go on with what others have told until `now`. Who listens may have missed something, so has to come back."""
        for listener in self._listeners:
            listener.end("lost")
        self._told = deque((_told(place, changed) for place, changed in known), maxlen=KEPT)
        # Where nothing is known something may have been forgotten.
        self._last = _place(known[-1][0] if known else now)
        self._floor = _place(known[0][0] if known else now)

    def reaches(self, place: str) -> bool:
        """Tell whether everything that was told after this place is still known."""
        return PLACE.fullmatch(place) is not None and self._floor <= _place(place) <= self._last

    @contextmanager
    def listening(self, address: str, after: str | None) -> Generator[Listener]:
        """Listen while this is entered, after this place. Raises `TooOften` where too many of this address do."""
        if self._closed:
            raise Unavailable("this server is about to end: try again")
        if self._addresses[address] >= self._per_address:
            raise TooOften(60)
        listener = self._listener(after)
        self._addresses[address] += 1
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._addresses[address] -= 1
            self._addresses += Counter()  # forget the addresses of nobody

    def close(self) -> None:
        """Let everybody go, and nobody in."""
        self._closed = True
        for listener in self._listeners:
            listener.end("closing")

    def _listener(self, after: str | None) -> Listener:
        if after is None or not self.reaches(after):
            return Listener(Told(self.place, "hello", Hello(resumed=False)), ())
        missed = [told for told in self._told if _place(told.id) > _place(after)]
        return Listener(Told(after, "hello", Hello(resumed=True)), missed)


def _told(place: str, changed: ProductChanged) -> Told:
    stock = Stock(product_id=changed.product_id, stock=changed.stock, price=changed.price, version=changed.version)
    return Told(place, "stock", stock)


def _place(text: str) -> Place:
    first, _, second = text.partition("-")
    return int(first), int(second)
