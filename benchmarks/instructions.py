"""What the roads of `benchmarks.roads` cost in instructions, which noise does not touch."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import said
from benchmarks.roads import ROADS
from benchmarks.rows import Benchmark, Row, Run

PATIENCE = 3_600.0
PARTS = 3
"""Profiles of a road: until it begins, of N times, of 2 N times."""
TOP = 15
"""Functions that are kept of each profile."""
PROFILES = Path(__file__).with_name("profiles")
MARK = "getpgid"

_total = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


def rows(run: Run) -> Iterator[Row]:
    times = run.pick(50, 100)
    run.planned(1)
    with TemporaryDirectory() as directory:
        profiles = _profiles(Path(directory), times)
        run.stepped("callgrind")
        for place, name in enumerate(ROADS):
            once, twice = profiles[place * PARTS + 1 : place * PARTS + PARTS]
            if not run.quick:
                _keep(name, twice, 2 * times)
            yield Row(name=name, samples=((instructions(twice) - instructions(once)) / times,), unit="instructions")


def _profiles(place: Path, times: int) -> Sequence[Path]:
    """In the order in which they were written."""
    callgrind = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={place}/out"]
    command = [*callgrind, sys.executable, "-m", "benchmarks.roads", str(times)]
    said(["env", "PYTHONHASHSEED=0", *command], seconds=PATIENCE)
    return sorted(place.glob("out.*"), key=lambda path: int(path.suffix[1:]))


def instructions(profile: Path) -> int:
    found = _total.findall(profile.read_text())
    if not found:
        raise RuntimeError(f"{profile} has no total.")
    return int(found[-1])


def _keep(name: str, profile: Path, times: int) -> None:
    """The functions that took most, of themselves."""
    told = said(["callgrind_annotate", "--threshold=100", str(profile)], seconds=PATIENCE)
    PROFILES.mkdir(exist_ok=True)
    lines = [f"{name}: instructions per operation, by function", ""]
    for count, function in top(told, TOP):
        lines.append(f"{count / times:>10,.0f}  {function}")
    slug = re.sub(r"\W+", "-", name.lower())
    (PROFILES / f"{slug}.txt").write_text("\n".join(lines) + "\n")


def top(annotated: str, most: int) -> list[tuple[int, str]]:
    """The first lines of what callgrind_annotate prints: instructions, and the function without its place."""
    line = re.compile(r"^\s*([\d,]+) \([ \d.]+%\)\s+(?:.*?:)?([^:\[]+?)(?: \[.*\])?$", re.MULTILINE)
    found = [(int(count.replace(",", "")), name) for count, name in line.findall(annotated)]
    return [one for one in found if one[1] != "PROGRAM TOTALS"][:most]


BENCHMARKS = (
    Benchmark(
        name="instructions",
        title="Instructions",
        method="Instructions of one operation in one process, counted by callgrind: 2 N of them less N of them, so "
        "that what happens once does not count. They hardly vary from run to run. Where they go: "
        "[profiles](profiles/).",
        rows=rows,
        needs=("valgrind",),
    ),
)
