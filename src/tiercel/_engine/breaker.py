"""A circuit breaker: a store in trouble is left alone for a while, and then tried by one.

closed ── several failures in a row ──▶ open ── some rest ──▶ half-open: one probe ──▶ closed, or open for longer
"""

from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
"""In a row, until a store is left alone."""
REST: Final = 0.1
"""Seconds for which it is, at first; then twice as long each time, up to `LONGEST`."""
LONGEST: Final = 0.8


class Breaker:
    """Of one store."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures = 0
        self._rest = REST
        self._until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the store is left alone, but for one who tries."""
        return self._failures >= FAILURES

    def allows(self) -> bool:
        """Whether the caller may ask the store: then it has to tell how that ended."""
        if not self.is_open:
            return True
        if self._probing or self._now() < self._until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The store has done what it was asked to."""
        self._failures, self._rest, self._probing = 0, REST, False

    def failed(self) -> None:
        """It has not."""
        if self._probing:
            self._rest, self._probing = min(2.0 * self._rest, LONGEST), False
        self._failures += 1
        self._until = self._now() + self._rest

    def left(self) -> None:
        """The caller has gone away before it was known."""
        self._probing = False
