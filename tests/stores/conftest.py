"""Other processes, for the tests of stores in a file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_process import Process


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    begun: list[Process] = []

    def begin() -> Process:
        begun.append(Process(tmp_path))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()
