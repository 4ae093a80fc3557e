"""What may be used while nobody knows what other processes have cut.

A store that has proved, at most Δ ago, that all is known here stands behind memory. Past that, memory holds good only
for what began to be produced at most Δ ago, or was found in the store since: a cut that it does not know is no older.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from tiercel.spi import Coherent, Store

_FORGOTTEN: Final = 2
_NONE: Final[tuple[object, float]] = (None, 0.0)


class Fence:
    """Stands between the memory of this process and its readers."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self.current, self._delta = (store.current, store.delta) if isinstance(store, Coherent) else (_never, 0.0)
        """Whether all is known here that others have cut, but for the last `delta` seconds."""
        self._monotonic = monotonic
        self._young: dict[bytes, tuple[object, float]] = {}

    def passes(self, since: float) -> bool:
        """Whether what began to be produced at `since` (monotonic) may be used."""
        return self.current() or self._monotonic() - since < self._delta

    def note(self, key: bytes, mark: object, since: float) -> None:
        """Something was stored; while memory is fenced, it is what readers of this key get, for a moment."""
        if not self._delta or self.current():
            return
        self._forget(self._monotonic())
        self._young.pop(key, None)
        self._young[key] = (mark, since + self._delta)

    def young(self, key: bytes) -> object:
        """The mark of what may still be used; None: there is nothing."""
        mark, until = self._young.get(key, _NONE)
        return mark if self._monotonic() < until else None

    def _forget(self, now: float) -> None:
        """Let go of the oldest that are too old, more of them than come: a whole second's may be many."""
        for key in list(islice(self._young, _FORGOTTEN)):
            if self._young.get(key, _NONE)[1] <= now:
                self._young.pop(key, None)


def _never() -> bool:
    """A store that tells nothing of other processes' cuts has no memory in front of it."""
    return False
