"""The same tests on both roads: the application is called, or a server that speaks bytes with its clients."""

import pytest


@pytest.fixture(autouse=True)
def _both(road: str) -> None:
    """Take each road."""
    del road
