"""What was acknowledged, when; and so what an answer that was asked for after that has to know.

It decides and measures nothing: the moments are handed in.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Violation:
    """An answer that is older than a change that was acknowledged before it was asked for."""

    what: str
    got: int
    owed: int
    said: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.what}: {self.got}, but {self.owed} was acknowledged before; {self.said}"


@dataclass(slots=True)
class Ledger:
    """The numbers that only grow: versions of rows, counts of rows.

    `delta` is how many seconds the processes have to hear of a change: none in one file, one with Redis.
    """

    delta: float = 0.0
    compared: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    _acknowledged: defaultdict[Hashable, tuple[list[float], list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: ([], []))
    )

    def acknowledge(self, what: Hashable, number: int, now: float) -> None:
        """A change was acknowledged now; from this moment on nobody may be told a smaller number."""
        moments, numbers = self._acknowledged[what]
        moments.append(now)
        numbers.append(max(number, numbers[-1] if numbers else 0))

    def count(self, what: Hashable, now: float, *, by: int = 1) -> None:
        """So many more were acknowledged now."""
        _, numbers = self._acknowledged[what]
        self.acknowledge(what, (numbers[-1] if numbers else 0) + by, now)

    def owed(self, what: Hashable, began: float) -> int:
        """The number that a request has to know that began at that moment."""
        moments, numbers = self._acknowledged[what]
        known = bisect_right(moments, began - self.delta)
        return numbers[known - 1] if known else 0

    def compare(self, what: Hashable, got: int, began: float, said: str) -> None:
        """Hold an answer against what was acknowledged before it was asked for."""
        self.compared += 1
        owed = self.owed(what, began)
        if got < owed:
            self.violations.append(Violation(str(what), got, owed, said))
