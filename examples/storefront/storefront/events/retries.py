"""When something that has failed is tried again, and when no more."""

from dataclasses import dataclass
from datetime import timedelta

from storefront.settings import Settings

FIRST = 0.5
"""Seconds after the first failure; twice as many after each one that follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """At most so many `attempts`. An event that somebody is at is left alone for `patience`; no wait is longer."""

    attempts: int
    patience: timedelta

    @classmethod
    def of(cls, settings: Settings) -> "Retries":
        """Take them from the settings."""
        return cls(attempts=settings.events_attempts, patience=settings.events_patience)

    def after(self, attempts: int) -> timedelta | None:
        """Tell how long to wait when so many have failed; None where that is enough."""
        if attempts >= self.attempts:
            return None
        return min(timedelta(seconds=FIRST * 2 ** min(attempts - 1, 30)), self.patience)
