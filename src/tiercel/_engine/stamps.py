"""The invalidation log of one process: a counter, and for each tag the ids of its last cuts.

A fill notes the last id before it starts (`born`). What it stores is usable only if no tag was cut since, so it does
not matter when, how often or by which slow task an old value is written: it carries its own condemnation.

Memoised functions ask from threads while others cut, and take no lock. The order of the steps makes that safe:

    cut:      the cut is in place → the position moves         a reader that sees the position sees the cut
    forget:   the floor has risen → the old cut is dropped     a reader looks for cuts first, at the floor last
    release:  the cut is in place → the hold is dropped        a reader looks for holds first, for cuts then

What is held is about to be changed, and nobody knows at which moment: whatever is made of it meanwhile is unusable.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from math import inf
from types import MappingProxyType
from typing import Final

from tiercel._core.shards import PARTS
from tiercel.spi import Cut

CUTS = 100_000
"""Cuts of either kind that are kept, at most; to drop an old one, `floor` rises over it."""

_FEWEST: Final = 256
"""Cuts for which a part of the log is worth while; of so many, all parts have about the same number."""

_OVER: Final = 100
"""Holds that are remembered to be over: our own are, before the log tells of them."""
_GENERATION: Final = 1 << 160
"""Above every id of a shared log."""


class Verdict(Enum):
    """What the log says of a stored value."""

    USABLE = "usable"
    SOFT = "soft"
    """Cut softly: stale, may be served while one refresh runs."""
    CUT = "cut"


class Heard:
    """What was cut while somebody listened, and hits the tags that are listened for."""

    def __init__(self, tags: Iterable[str]) -> None:
        self.hits = set[int]()
        self._tags = frozenset(tags)

    def hear(self, tags: Sequence[str] | None, cut: int) -> None:
        """Take note of a cut; None: of everything."""
        if tags is None or not self._tags.isdisjoint(tags):
            self.hits.add(cut)


_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class Cuts:
    """The last cut of each tag, in the order of the cuts. In parts, because a dict that grows is copied.

    One of 100,000 tags took 5 ms to grow, and was let go of at once. What is in a part is the tag's own choice.
    """

    __slots__ = ("_gone", "_room", "any", "parts")

    def __init__(self, limit: int) -> None:
        count = min(PARTS, max(1, limit // _FEWEST))
        self.parts: list[Mapping[str, int]] = [_NOTHING] * count
        self._room = limit // count
        self.any = False
        """Whether there may be some."""
        self._gone: list[Mapping[str, int]] = []

    def note(self, tag: str, cut: int) -> int:
        """Take note of a cut; an old one that is to be forgotten for it, once the floor has risen over that; else 0."""
        self.any = True
        at = hash(tag) % len(self.parts)
        part = self.parts[at]
        if not isinstance(part, OrderedDict):
            part = self.parts[at] = OrderedDict[str, int]()
        if part.get(tag, 0) >= cut:
            return 0
        part[tag] = cut
        part.move_to_end(tag)
        return part[next(iter(part))] if len(part) > self._room else 0

    def forget(self, tag: str) -> None:
        """Drop the oldest cut of the part in which a tag is."""
        part = self.parts[hash(tag) % len(self.parts)]
        if isinstance(part, OrderedDict):
            part.popitem(last=False)

    def clear(self) -> None:
        """Know of none; bytes are given back by `sweep`."""
        self._gone += filter(None, self.parts)
        self.parts = [_NOTHING] * len(self.parts)
        self.any = False

    def sweep(self) -> bool:
        """Let go of a part of what was cleared; whether there is more."""
        if self._gone:
            self._gone.pop()
        return bool(self._gone)


class Stamps:
    """Strictly increasing ids."""

    __slots__ = (
        "_cutting",
        "_hard",
        "_held",
        "_holds",
        "_known",
        "_listening",
        "_over",
        "_soft",
        "_uncut",
        "complete",
        "floor",
        "generation",
        "meanwhile",
        "newest",
        "position",
        "revision",
    )

    def __init__(self, limit: int = CUTS) -> None:
        self.position = 0
        """Id of the last cut; what begins to be produced now carries it."""
        self.complete = 0
        """Of all cuts up to this id every one has been applied. Our own may be known before others that come first."""
        self.newest: float = 0
        """What was born at this id, or later, is usable for certain; infinity while anything is held."""
        self._uncut = 0
        """What was born at this id, or later, has not been cut."""
        self.meanwhile = 0
        """Cuts so far of which the shared log had not been told."""
        self._known = 0
        """The largest id that was ever heard of."""
        self._listening: list[Heard] = []
        self.floor = 0
        """What was born before this id is unusable, whatever its tags."""
        self.revision = 0
        """Moves with every change: cuts of other processes may come later than younger ones of our own."""
        self._hard, self._soft = Cuts(limit), Cuts(limit)
        self._holds: dict[int, tuple[str, ...]] = {}
        self._held: dict[str, int] = {}  # by how many
        self._over = deque[int](maxlen=_OVER)
        self.generation = 0
        """Moves with every reset."""
        self._cutting = threading.Lock()

    def cut(self, tags: Iterable[str], *, soft: bool = False) -> int:
        """Invalidate everything under `tags` that was born before now; the id of the cut."""
        with self._cutting:
            return self._cut(tuple(tags), soft=soft)

    def hold(self, tags: tuple[str, ...]) -> int:
        """Cut `tags`, and leave nothing that is made of them usable until they are released; the id of the cut."""
        with self._cutting:
            self._begin_hold(self.position + 1, tags)
            return self._cut(tags, soft=False)

    def release(self, hold: int, tags: tuple[str, ...]) -> int:
        """Cut `tags`, which are held no more by this cut; the id of the new one."""
        with self._cutting:
            return self._cut(tags, soft=False, releases=hold)

    def clear(self) -> int:
        """Invalidate everything."""
        with self._cutting:
            cut = self.position + 1
            self._begin_anew(cut)
        return cut

    # -- the log is elsewhere, and others write to it ------------------------------------------------------------------

    def own(self, shared: int) -> int:
        """An id of the shared log as it counts here: after a reset everything comes after all that was before.

        It has been heard of from now on: what is cut meanwhile comes after it.
        """
        found = self.generation * _GENERATION + shared
        self._known = max(self._known, found)
        return found

    def shared(self, own: int) -> int:
        """An id of ours as the shared log has it."""
        return own % _GENERATION

    def apply(self, cuts: Sequence[Cut], position: int, *, since: int | None = None) -> None:
        """Take over what was appended to the shared log up to `position`: all of it after `since`, if that is said."""
        with self._cutting:
            for cut in cuts:
                if cut.tags:
                    self._note(cut.tags, self.own(cut.id), soft=cut.soft)
                else:
                    self._raise_floor(self.own(cut.id))
                if cut.holds:
                    self._begin_hold(self.own(cut.id), cut.tags)
                if cut.releases:
                    self._end_hold(self.own(cut.releases))
            begins = None if since is None else self.own(since)
            self._complete([self.own(cut.id) for cut in cuts], self.own(position), begins)
            position = max(self.position, self.own(position))
            self._move(position, uncut=max(self._uncut, position))

    def reset(self, position: int) -> None:
        """It is another log, or too much of it is gone: nothing that was made before is usable."""
        with self._cutting:
            self.generation += 1
            self._holds.clear()
            self._held.clear()
            self._begin_anew(self.own(position))

    def cut_meanwhile(self, tags: Iterable[str], *, soft: bool, releases: Iterable[int] = ()) -> None:
        """Invalidate here what the shared log cannot be told of yet; no tags: everything.

        Holds that are over by it (`releases`) end here, whatever the log says of them until it is told.

        There is no id for it, so it takes one after all that were heard of. What is made from now on is not kept
        either, until the log has come so far.
        """
        with self._cutting:
            named, cut = tuple(tags), max(self._known, self.position) + 1
            if named:
                self._note(named, cut, soft=soft)
            else:
                self._raise_floor(cut)
            self.meanwhile += 1
            for hold in releases:
                self._end_hold(hold)
            self._move(self.position, uncut=cut)

    def verdict(self, tags: Iterable[str], born: int) -> Verdict:
        """Whether a value with these tags, whose production began at `born`, may be used."""
        verdict, hard = Verdict.USABLE, self._hard.parts
        soft = self._soft.parts if self._soft.any else None
        held, count = self._held, len(hard)
        for tag in tags:
            at = hash(tag) % count
            if tag in held or hard[at].get(tag, 0) > born:
                return Verdict.CUT
            if soft is not None and soft[at].get(tag, 0) > born:
                verdict = Verdict.SOFT
        return Verdict.CUT if born < self.floor else verdict

    def sweep(self) -> bool:
        """Give some bytes of the cuts that a clearing has made needless back; whether there are more."""
        with self._cutting:
            hard, soft = self._hard.sweep(), self._soft.sweep()
        return hard or soft

    @property
    def holding(self) -> bool:
        """Whether anything is held."""
        return bool(self._held)

    def is_held(self, tags: Iterable[str]) -> bool:
        """Whether one of the tags is."""
        return bool(self._held) and any(tag in self._held for tag in tags)

    def held(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Those of the tags that are."""
        return tuple([tag for tag in tags if tag in self._held]) if self._held else ()

    def holds(self, tags: tuple[str, ...]) -> frozenset[int]:
        """The holds of just these tags."""
        with self._cutting:
            return frozenset([hold for hold, held in self._holds.items() if held == tags])

    @contextmanager
    def listening(self, tags: Iterable[str]) -> Generator[Heard]:
        """What is cut from now on, until this is left."""
        heard = Heard(tags)
        with self._cutting:
            self._listening.append(heard)
        try:
            yield heard
        finally:
            with self._cutting:
                self._listening.remove(heard)

    def _cut(self, tags: tuple[str, ...], *, soft: bool, releases: int = 0) -> int:
        cut = self.position + 1
        self._note(tags, cut, soft=soft)
        if releases:
            self._end_hold(releases)
        self.complete = cut
        self._move(cut, uncut=cut)
        return cut

    def _move(self, position: int, *, uncut: int) -> None:
        self._uncut = uncut
        self.newest = inf if self._holds else uncut
        self.position = position
        self.revision += 1

    def _begin_hold(self, hold: int, tags: tuple[str, ...]) -> None:
        if hold in self._holds or hold in self._over:
            return
        self._holds[hold] = tags
        for tag in tags:
            self._held[tag] = self._held.get(tag, 0) + 1

    def _end_hold(self, hold: int) -> None:
        self._over.append(hold)
        for tag in self._holds.pop(hold, ()):
            self._held[tag] -= 1
            if not self._held[tag]:
                del self._held[tag]

    def _note(self, tags: Sequence[str], cut: int, *, soft: bool) -> None:
        for heard in self._listening:
            heard.hear(tags, cut)
        cuts = self._soft if soft else self._hard
        for tag in tags:
            oldest = cuts.note(tag, cut)
            if oldest:
                self.floor = max(self.floor, oldest)
                cuts.forget(tag)
        cuts.sweep()

    def _complete(self, applied: Sequence[int], position: int, since: int | None) -> None:
        """Whether one is missing: the store knows, or it shows where none of the ids is another namespace's."""
        news = {cut for cut in applied if self.complete < cut <= position}
        delivered = since is not None and since <= self.complete < position
        if delivered or len(news) == position - self.complete:
            self.complete = position

    def _raise_floor(self, cut: int) -> None:
        """Everything is cut."""
        self.floor = max(self.floor, cut)
        for heard in self._listening:
            heard.hear(None, cut)

    def _begin_anew(self, position: int) -> None:
        self._raise_floor(position)
        self._hard.clear()
        self._soft.clear()
        self.complete = position
        self._move(position, uncut=position)
