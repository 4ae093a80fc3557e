"""Run the benchmarks, print their tables, and write `RESULTS.md` when all of them ran."""

import argparse
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    decide,
    entries,
    environments,
    fetches,
    frozen,
    guarded,
    hits,
    imports,
    instructions,
    memoize,
    memory,
    miss,
    pauses,
    ratio,
    served,
    stampede,
    tags,
)
from benchmarks.machine import Meter, machine, shared, versions
from benchmarks.plots import plot
from benchmarks.processes import ORPHANLESS, end_in_order, pinned
from benchmarks.report import results, table
from benchmarks.rows import Benchmark, Result, Run

HERE = Path(__file__).parent
NEED = HERE.parent / "scripts" / "need"
PACKAGE = {"setpriv": "util-linux", "taskset": "util-linux", "varnishd": "varnish"}
CONNECTIONS = 4_096
"""Open files that a stampede takes, and then some."""
WIDTH = 160
"""Of tables that go into a file."""

MODULES = (
    hits,
    served,
    fetches,
    guarded,
    memoize,
    decide,
    miss,
    stampede,
    tags,
    frozen,
    entries,
    memory,
    pauses,
    ratio,
    imports,
    instructions,
)
ALL: dict[str, Benchmark] = {found.name: found for module in MODULES for found in module.BENCHMARKS}

QUICK = ("hits", "hits-redis", "served", "guarded", "memoize", "miss", "stampede", "ratio")
"""What a quick run has."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of it, in short rounds: printed, not written")
    parser.add_argument("name", nargs="*", help=f"only these: {', '.join(ALL)}")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="of `ratio`: a recorded trace, one key per line")
    given = parser.parse_args()
    if given.trace and given.name != ["ratio"]:
        parser.error("A trace is for `ratio` alone: python -m benchmarks ratio --trace FILE")
    if unknown := sorted(set(given.name) - set(ALL)):
        parser.error(f"There is no benchmark {unknown[0]!r}. There are: {', '.join(ALL)}.")
    names = given.name or (QUICK if given.quick else ALL)
    chosen = [ratio.of_file(given.trace)] if given.trace else [ALL[name] for name in names]
    end_in_order()
    peers = sorted({peer for benchmark in chosen for peer in benchmark.peers})
    _provide(chosen, peers)
    _raise_limit()
    meter = Meter()
    with pinned() as core:
        found = _run(chosen, quick=given.quick, core=core)
    facts = [
        f"Command: `python -m benchmarks{' --quick' if given.quick else ''}`, {datetime.now(UTC):%Y-%m-%d}",
        f"Machine: {machine()}. {shared(meter.others())}",
        f"Cores: {'servers and load share the only one' if core is None else 'one for servers, another for the load'}",
        f"Versions: {versions(peers)}",
    ]
    print(*facts, sep="\n")
    if not (given.name or given.quick):
        plots = {result.benchmark.name: plot(result, HERE / "plots") for result in found if result.benchmark.plotted}
        (HERE / "RESULTS.md").write_text(results(found, plots, facts))
        print(f"Written to {HERE.name}/RESULTS.md")


def _run(chosen: Sequence[Benchmark], *, quick: bool, core: int | None) -> list[Result]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    found: list[Result] = []
    # It is drawn between measurements only: drawing takes time on the core of the load.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        overall = progress.add_task("benchmarks", total=len(chosen))
        for benchmark in chosen:
            found.append(_measure(benchmark, progress, quick=quick, core=core))
            progress.update(overall, advance=1, refresh=True)
            progress.console.print(table(found[-1]))
    return found


def _measure(benchmark: Benchmark, progress: Progress, *, quick: bool, core: int | None) -> Result:
    task = progress.add_task(benchmark.name, total=None)
    run = Run(
        quick=quick,
        server_core=core,
        planned=lambda steps: progress.update(task, total=steps, refresh=True),
        stepped=lambda what: progress.update(task, advance=1, description=f"{benchmark.name}: {what}", refresh=True),
    )
    try:
        return Result(benchmark=benchmark, rows=list(benchmark.rows(run)))
    finally:
        progress.remove_task(task)


def _provide(chosen: Sequence[Benchmark], peers: Sequence[str]) -> None:
    """Install what is missing where that is allowed; else say so, and end."""
    needs = {ORPHANLESS[0], *(need for benchmark in chosen for need in benchmark.needs)}
    missing = {need for need in needs if shutil.which(need) is None}
    if missing:
        packages = sorted({PACKAGE.get(need, need) for need in missing})
        if subprocess.run([NEED, *packages], check=False).returncode:
            sys.exit(1)
    for peer in peers:
        environments.provide(peer)


def _raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < CONNECTIONS:
        most = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. All servers have ended.")
