"""`python -m storefront.loadrun`: SECONDS (120), WORKERS (4), REDIS (none: the workers share a file)."""

import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table

from storefront.load import load
from storefront.loadrun.run import Plan, Report, run
from storefront.settings import Settings

LONGEST = 3_600
"""Seconds: a run is bounded."""

HERE = ("127.0.0.1", "localhost", "::1")
SHOWN = 2_000
"""Characters of what a service says that does not answer."""
DELTA = 1.0
"""Seconds within which processes that share a Redis hear of a change."""


def main() -> None:
    """Run it, say what came of it, and fail where anything was older than it may be."""
    console = Console()
    try:
        with TemporaryDirectory(prefix="storefront-load-") as directory:
            plan = planned(Path(directory))
            console.print(
                f"{plan.workers} workers on the loopback interface, {plan.seconds:.0f} seconds,"
                f" the cache in {plan.settings.cache_url.split(':', maxsplit=1)[0]}://",
                highlight=False,
            )
            load(plan.settings, console)
            try:
                report = asyncio.run(run(plan, console))
            except httpx.HTTPError as error:
                said = "".join(log.read_text()[-SHOWN:] for log in sorted(plan.place.glob("*.log")))
                sys.exit(f"The service under load does not answer: {error!r}. What it says:\n{said}")
    except KeyboardInterrupt:
        sys.exit("The load run was ended before its time.")
    show(report, console)
    sys.exit(not report.held)


def planned(place: Path) -> Plan:
    """Make a plan of what the environment says; whose services it names besides is no business of a load run."""
    redis = os.environ.get("REDIS", "")
    if redis and urlsplit(redis).hostname not in HERE:
        sys.exit(f"REDIS={redis} is not on this machine: this loads a server as much as it can")
    settings = Settings(
        environment="dev",
        database_url=f"sqlite+aiosqlite:///{place}/load.db",
        cache_url=redis or f"local://{place}/cache",
        cache_shadow=False,
        events_url=redis or "memory://",
        rate_url="memory://",
        uploads=place / "uploads",
    )
    workers, seconds = _number("WORKERS", 4, 64), _number("SECONDS", 120, LONGEST)
    return Plan(settings=settings, place=place, workers=workers, seconds=seconds, delta=DELTA if redis else 0.0)


def show(report: Report, console: Console) -> None:
    """Print what came of it."""
    table = Table("request", "answers", "hits", "hit ms", "uncached ms", "saved s", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    asked = hits = saved = 0.0
    for name, kind in sorted(report.kinds.items(), key=lambda each: -each[1].asked):
        hit, uncached = report.alone.get(name), report.uncached.get(name)
        gained = 0.0 if hit is None or uncached is None else kind.hits * (uncached - hit)
        share = f"{kind.hits / kind.asked:.1%}" if name in report.alone else ""
        table.add_row(name, f"{kind.asked:,}", share, _ms(hit), _ms(uncached), f"{gained:.1f}" if share else "")
        asked, hits, saved = asked + kind.asked, hits + kind.hits, saved + gained
    console.print(table)
    ledger = report.ledger
    console.print(
        f"{asked:,.0f} answers in {report.seconds:.0f} s; hit ratio {hits / asked:.1%}; {saved:.1f} s of work saved;"
        f" {ledger.compared:,} comparisons: {len(ledger.violations)} older than the last acknowledged change;"
        f" {len(report.errors)} errors; {report.refused} changes told to come back",
        highlight=False,
        soft_wrap=True,
    )
    for wrong in [*map(str, ledger.violations[:5]), *report.errors[:5]]:
        console.print(wrong, markup=False, highlight=False, soft_wrap=True)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f}"


def _number(name: str, default: int, most: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isdecimal() and 1 <= int(text) <= most):
        sys.exit(f"{name}={text} is not a number from 1 to {most}: make load {name}={default}")
    return int(text)


if __name__ == "__main__":
    main()
