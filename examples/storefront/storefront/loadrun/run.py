"""The run itself: workers, those who ask, and what came of it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from storefront.loadrun.ledger import Ledger
from storefront.loadrun.traffic import CHANGES, READS, Kind, Traffic
from storefront.loadrun.workers import serving
from storefront.settings import Settings

AT_ONCE = 16
"""Clients that ask, each for one thing after the other."""

FACTORY = "storefront.main:create_app"
OFTEN: Mapping[str, str] = dict.fromkeys(("rate", "rate_search", "rate_login", "rate_user"), "1000000/second")
MOST_REFUSED = 0.1
"""The share of changes that may be refused: on a machine with too much to do a store is not always told in time."""

PATIENCE = 60.0
"""Seconds for an answer: of a service that has just been started, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run: a service with these settings, whose database is loaded, for so many seconds.

    `delta` is the time that its processes have to hear of a change. `beside` is how often each kind of read is measured
    without a cache, and without other requests, when the run is over.
    """

    settings: Settings
    place: Path
    workers: int = 4
    seconds: float = 120.0
    delta: float = 0.0
    beside: int = 10
    seed: int = 53_940
    factory: str = FACTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it. `alone`, `uncached`: seconds of a read when nobody else asks, with the cache and without."""

    seconds: float
    kinds: Mapping[str, Kind]
    ledger: Ledger
    errors: list[str]
    refused: int
    alone: Mapping[str, float]
    uncached: Mapping[str, float]

    @property
    def held(self) -> bool:
        """Whether all is as it has to be, and there was something to see."""
        changes = sum(kind.asked for name, kind in self.kinds.items() if name in CHANGES)
        seen = changes and self.ledger.compared and any(kind.hits for kind in self.kinds.values())
        wrong = self.errors or self.ledger.violations or self.refused > changes * MOST_REFUSED
        return bool(seen and not wrong)


async def run(plan: Plan, console: Console) -> Report:
    """Do it all; what was started is ended when this returns, whatever happens."""
    settings = plan.settings.model_copy(update=OFTEN)
    ledger, log = Ledger(plan.delta), plan.place / "workers.log"
    with serving(settings, workers=plan.workers, factory=plan.factory, log=log) as url:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            traffic = Traffic(http, ledger, Random(plan.seed))  # noqa: S311 - no secret
            await traffic.prepare()
            await _played(traffic, plan.seconds, console)
        alone = await _alone(url, plan)
    shadow = settings.model_copy(update={"cache_shadow": True})
    uncached: dict[str, float] = {}
    if plan.beside:
        with serving(shadow, workers=1, factory=plan.factory, log=plan.place / "beside.log") as url:
            uncached = await _alone(url, plan)
    return Report(
        seconds=plan.seconds,
        kinds=traffic.kinds,
        ledger=ledger,
        errors=traffic.errors,
        refused=traffic.refused,
        alone=alone,
        uncached=uncached,
    )


async def _played(traffic: Traffic, seconds: float, console: Console) -> None:
    """Ask for so long."""
    began = monotonic()

    async def client() -> None:
        while monotonic() < began + seconds:
            await traffic.one()

    with _progress(console) as progress:
        task = progress.add_task("reads and writes", total=seconds, requests=0, older=0)

        async def shown() -> None:
            while True:
                asked = sum(kind.asked for kind in traffic.kinds.values())
                older = len(traffic.ledger.violations)
                progress.update(task, completed=monotonic() - began, requests=f"{asked:,}", older=older)
                await asyncio.sleep(0.2)

        showing = asyncio.create_task(shown())
        try:
            await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        finally:
            showing.cancel()
        progress.update(task, completed=seconds)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[requests]} answers, {task.fields[older]} too old"),
        console=console,
        disable=not console.is_terminal,
    )


async def _alone(url: str, plan: Plan) -> dict[str, float]:
    """The median of each kind of read when nobody else asks, in seconds."""
    if not plan.beside:
        return {}
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        traffic = Traffic(http, Ledger(), Random(plan.seed))  # noqa: S311 - no secret
        await traffic.log_in()
        for _ in range(2):  # the first time warms what is to be warm
            traffic.kinds.clear()
            traffic.dice.seed(plan.seed)
            for read in READS * plan.beside:
                await read(traffic)
    return {name: median(kind.seconds) for name, kind in traffic.kinds.items()}
