"""Reads and writes of several processes, and whether P held for what they saw."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from running import Service, until

KEYS = ("a", "b", "c")
ENOUGH = 500
"""Reads of one history."""


@dataclass
class History:
    """What clients of some services saw. Between services an invalidation may take `delta` seconds to be seen.

    Of one service's workers nobody knows which one answers: they are told apart only where `delta` is 0.
    """

    services: Sequence[Service]
    delta: float
    acknowledged: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: {key: [] for key in KEYS})
    reads: int = 0
    hits: int = 0
    lost: int = 0
    """Requests that were not answered: somebody was killed."""
    refused: int = 0
    """Invalidations that were not acknowledged."""
    violations: list[str] = field(default_factory=list[str])
    _over: bool = False

    @asynccontextmanager
    async def playing(self, *, clients: int = 8) -> AsyncGenerator[None]:
        """Read and write while something happens, and after that until enough was read, however slow the machine."""
        going = [asyncio.create_task(self._client(random.Random(number))) for number in range(clients)]
        try:
            yield
            before = self.reads
            await until(lambda: self.reads > max(ENOUGH, before + ENOUGH // 5) and self.hits > ENOUGH // 5)
        finally:
            self._over = True
            await asyncio.gather(*going)

    async def _client(self, dice: random.Random) -> None:
        while not self._over:
            work = self._write if dice.random() < 0.1 else self._read
            try:
                await work(dice.choice(self.services), dice.choice(KEYS))
            except ConnectionError:
                self.lost += 1
            await asyncio.sleep(dice.random() * 0.02)

    async def _write(self, service: Service, key: str) -> None:
        answer = await service.ask(f"/versions/{key}", "POST")
        if answer.body["acknowledged"]:
            self.acknowledged[key].append((time.monotonic(), answer.body["version"]))
        else:
            self.refused += 1

    async def _read(self, service: Service, key: str) -> None:
        began = time.monotonic()
        known = [version for at, version in self.acknowledged[key] if at <= began - self.delta]
        answer = await service.ask(f"/versions/{key}")
        self.reads += 1
        self.hits += "; hit" in answer.said
        got, owed = answer.body["version"], max(known, default=0)
        if got < owed:
            self.violations.append(f"{key}: {got} instead of {owed}; {answer.said}")
