"""The invalidation log of one process: a counter, and for each tag the ids of its last cuts.

A fill notes the last id before it starts (`born`). What it stores is usable only if no tag was cut since, so it does
not matter when, how often or by which slow task an old value is written: it carries its own condemnation.

Memoised functions ask from threads while others cut, and take no lock. The order of the steps makes that safe:

    cut:      the cut is in place → the position moves         a reader that sees the position sees the cut
    forget:   the floor has risen → the old cut is dropped     a reader looks for cuts first, at the floor last
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

from tiercel.spi import Cut

CUTS = 100_000
"""Cuts of either kind that are kept; to drop the oldest, `floor` rises over it."""

_GENERATION: Final = 1 << 160
"""Above every id of a shared log."""


class Verdict(Enum):
    """What the log says of a stored value."""

    USABLE = "usable"
    SOFT = "soft"
    """Cut softly: stale, may be served while one refresh runs."""
    CUT = "cut"


class Stamps:
    """Strictly increasing ids."""

    __slots__ = ("_cutting", "_hard", "_limit", "_soft", "floor", "generation", "position", "revision")

    def __init__(self, limit: int = CUTS) -> None:
        self.position = 0
        """Id of the last cut."""
        self.floor = 0
        """What was born before this id is unusable, whatever its tags."""
        self.revision = 0
        """Moves with every change: cuts of other processes may come later than younger ones of our own."""
        self._hard: OrderedDict[str, int] = OrderedDict()  # in the order of the cuts
        self._soft: OrderedDict[str, int] = OrderedDict()
        self._limit = limit
        self.generation = 0
        """Moves with every reset."""
        self._cutting = threading.Lock()

    def cut(self, tags: Iterable[str], *, soft: bool = False) -> int:
        """Invalidate everything under `tags` that was born before now; the id of the cut."""
        with self._cutting:
            cut = self.position + 1
            self._note(tags, cut, soft=soft)
            self.position = cut
            self.revision += 1
        return cut

    def clear(self) -> int:
        """Invalidate everything."""
        with self._cutting:
            cut = self.position + 1
            self._begin_anew(cut)
        return cut

    # -- the log is elsewhere, and others write to it ------------------------------------------------------------------

    def own(self, shared: int) -> int:
        """An id of the shared log as it counts here: after a reset everything comes after all that was before."""
        return self.generation * _GENERATION + shared

    def shared(self, own: int) -> int:
        """An id of ours as the shared log has it."""
        return own % _GENERATION

    def apply(self, cuts: Sequence[Cut], position: int) -> None:
        """Take over what was appended to the shared log, whose last record is `position`."""
        with self._cutting:
            for cut in cuts:
                if cut.tags:
                    self._note(cut.tags, self.own(cut.id), soft=cut.soft)
                else:
                    self.floor = max(self.floor, self.own(cut.id))
            self.position = max(self.position, self.own(position))
            self.revision += 1

    def reset(self, position: int) -> None:
        """It is another log, or too much of it is gone: nothing that was made before is usable."""
        with self._cutting:
            self.generation += 1
            self._begin_anew(self.own(position))

    def cut_meanwhile(self, tags: Iterable[str], *, soft: bool) -> None:
        """Invalidate here what the shared log cannot be told of yet; no tags: everything.

        There is no id for it. So what is made from now on is not kept either, until the log has moved on.
        """
        with self._cutting:
            named = tuple(tags)
            if named:
                self._note(named, self.position + 1, soft=soft)
            else:
                self.floor = self.position + 1
            self.revision += 1

    def verdict(self, tags: Iterable[str], born: int) -> Verdict:
        """Whether a value with these tags, whose production began at `born`, may be used."""
        verdict = Verdict.USABLE
        for tag in tags:
            if self._hard.get(tag, 0) > born:
                return Verdict.CUT
            if self._soft.get(tag, 0) > born:
                verdict = Verdict.SOFT
        return Verdict.CUT if born < self.floor else verdict

    def _note(self, tags: Iterable[str], cut: int, *, soft: bool) -> None:
        cuts = self._soft if soft else self._hard
        for tag in tags:
            if cuts.get(tag, 0) < cut:
                cuts[tag] = cut
                cuts.move_to_end(tag)
        while len(cuts) > self._limit:
            oldest = next(iter(cuts))
            self.floor = max(self.floor, cuts[oldest])
            del cuts[oldest]

    def _begin_anew(self, position: int) -> None:
        self.floor = position
        self._hard.clear()
        self._soft.clear()
        self.position = position
        self.revision += 1
