"""The invalidation log of one process: a counter, and for each tag the ids of its last cuts.

A fill notes the last id before it starts (`born`). What it stores is usable only if no tag was cut since, so it does
not matter when, how often or by which slow task an old value is written: it carries its own condemnation.

Memoised functions ask from threads while others cut, and take no lock. The order of the steps makes that safe:

    cut:      the cut is in place → the position moves         a reader that sees the position sees the cut
    forget:   the floor has risen → the old cut is dropped     a reader looks for cuts first, at the floor last
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum

CUTS = 100_000
"""Cuts of either kind that are kept; to drop the oldest, `floor` rises over it."""


class Verdict(Enum):
    """What the log says of a stored value."""

    USABLE = "usable"
    SOFT = "soft"
    """Cut softly: stale, may be served while one refresh runs."""
    CUT = "cut"


class Stamps:
    """Strictly increasing ids."""

    __slots__ = ("_cutting", "_hard", "_limit", "_soft", "floor", "position")

    def __init__(self, limit: int = CUTS) -> None:
        self.position = 0
        """Id of the last cut."""
        self.floor = 0
        """What was born before this id is unusable, whatever its tags."""
        self._hard: OrderedDict[str, int] = OrderedDict()  # in the order of the cuts
        self._soft: OrderedDict[str, int] = OrderedDict()
        self._limit = limit
        self._cutting = threading.Lock()

    def cut(self, tags: Iterable[str], *, soft: bool = False) -> int:
        """Invalidate everything under `tags` that was born before now; the id of the cut."""
        cuts = self._soft if soft else self._hard
        with self._cutting:
            cut = self.position + 1
            for tag in tags:
                cuts[tag] = cut
                cuts.move_to_end(tag)
            while len(cuts) > self._limit:
                oldest = next(iter(cuts))
                self.floor = max(self.floor, cuts[oldest])
                del cuts[oldest]
            self.position = cut
        return cut

    def clear(self) -> int:
        """Invalidate everything."""
        with self._cutting:
            cut = self.position + 1
            self.floor = cut
            self._hard.clear()
            self._soft.clear()
            self.position = cut
        return cut

    def verdict(self, tags: Iterable[str], born: int) -> Verdict:
        """Whether a value with these tags, whose production began at `born`, may be used."""
        verdict = Verdict.USABLE
        for tag in tags:
            if self._hard.get(tag, 0) > born:
                return Verdict.CUT
            if self._soft.get(tag, 0) > born:
                verdict = Verdict.SOFT
        return Verdict.CUT if born < self.floor else verdict
