"""What was read for what is being produced: by what an invalidation can name it, how old it is, how long it is fresh.

Each running fill and each running call of a memoised function has one, which is found in a context variable. Whoever
reads for it says so *before* reading: what is cut in between hits what is being produced.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from math import inf
from threading import Lock
from typing import Final

from tiercel._core.calls import Value
from tiercel._engine.stamps import Stamps, Verdict

PARTS: Final = 100
"""Parts of one whole that are named; of more, the whole is."""
MOST: Final = 2_000
"""Tags of one response or value that it got by what it read; with more it is not stored."""

_reckoning: Final = Lock()
"""Of all of them: it is held for two comparisons."""


class Reads:
    """What was read so far."""

    __slots__ = ("_parts", "_tags", "born", "unknown", "until")

    def __init__(self) -> None:
        self.born: float = inf
        """The oldest of what was read is as it was when this was the last cut: an id, or infinity."""
        self.until: float = inf
        """When the first of what was read ceases to be fresh, by the wall clock."""
        self.unknown = ""
        """Why it cannot be named what was read. Then nothing that was made of it can be stored."""
        self._tags: dict[str, None] = {}
        self._parts: dict[str, dict[str, None]] = {}

    @property
    def nothing(self) -> bool:
        """Whether nobody has told of any reading."""
        return not (self._tags or self._parts or self.unknown or self.born < inf or self.until < inf)

    @property
    def tags(self) -> tuple[str, ...]:
        """All that an invalidation can name."""
        # Other threads may be reading for the same response: a copy first.
        parts = [part for named in tuple(self._parts.values()) for part in tuple(named)]
        return (*tuple(self._tags), *parts)

    def name(self, tags: Iterable[str]) -> None:
        """What these name is being read."""
        self._tags.update(dict.fromkeys(tags))
        if len(self._tags) > MOST:
            self.doubt("too-many-tags")

    def part(self, whole: str, part: str) -> None:
        """Only a part is: whatever cuts it cuts the whole, too, which stands for it where there are many."""
        if whole in self._tags:
            return
        named = self._parts.setdefault(whole, {})
        named[part] = None
        if len(named) > PARTS:
            self.name((whole,))
            self._parts.pop(whole, None)

    def doubt(self, why: str) -> None:
        """What is being read cannot be named."""
        if why and not self.unknown:  # nothing is written where there is none: another thread may have one
            self.unknown = why

    def older(self, born: float, until: float = inf) -> None:
        """What is being read was made of what was so when `born` was the last cut, and is fresh `until` then."""
        with _reckoning:
            self.born, self.until = min(self.born, born), min(self.until, until)

    def take(self, own: str, value: Value, stamps: Stamps) -> None:
        """A stored value is being read: its tags, that of its key, its lifetime and its stamp are handed on."""
        # That it is usable now says that none of all cuts up to here has hit it: it is as good as born here.
        known = stamps.complete
        if stamps.verdict((*value.tags, own), value.born) is Verdict.USABLE:
            self.older(max(value.born, known), value.fresh_until)
        else:
            self.older(value.born, 0.0)
        self.name((*value.tags, own))

    def join(self, other: "Reads") -> None:
        """All that was read there is being read here, too."""
        self.older(other.born, other.until)
        self.doubt(other.unknown)
        for whole, named in tuple(other._parts.items()):  # noqa: SLF001 - of its own kind
            for part in tuple(named):
                self.part(whole, part)
        self.name(tuple(other._tags))  # noqa: SLF001

    def disjoint(self, tags: Iterable[str]) -> bool:
        """Whether nothing that was read is named by any of these."""
        parts = tuple(self._parts.values())  # before the tags: what leaves the parts is among those by then
        return not any(tag in self._tags or any(tag in named for named in parts) for tag in tags)


reading: ContextVar[Reads | None] = ContextVar("tiercel_reading", default=None)
"""Of what the running code produces; None where that is nothing that could be stored."""
