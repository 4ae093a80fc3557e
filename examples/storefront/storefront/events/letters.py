"""Events that have failed too often: `python -m storefront.letters` shows them, and has them tried again."""

from typing import NamedTuple


class Letter(NamedTuple):
    """An event that nobody could handle, and why."""

    id: str
    event: str
    attempts: int
    error: str
