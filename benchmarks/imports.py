"""What importing costs."""

import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.rows import Benchmark, Row, Run, excess

UNCOLLECTED = "import gc; gc.disable(); "
PROGRAMS = (
    "import fastapi",
    "import fastapi, tiercel",
    "import fastapi, tiercel.fastapi",
    "import tiercel",
    UNCOLLECTED + "import fastapi",
    UNCOLLECTED + "import fastapi, tiercel",
)


def rows(run: Run) -> Iterator[Row]:
    with TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for program in PROGRAMS:
            _import(program, environment)
        measures = {program: partial(_import, program, environment) for program in PROGRAMS}
        budgets = {"import fastapi, tiercel": excess("≤", 60.0)}
        yield from run.compared(measures, rounds=run.pick(5, 15), unit="ms", budgets=budgets)


def _import(program: str, environment: Mapping[str, str]) -> float:
    """Milliseconds of CPU time of a process that does nothing else."""
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", program], environment)
    _, status, used = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{program!r} failed.")
    return (used.ru_utime + used.ru_stime) * 1e3


BENCHMARKS = (
    Benchmark(
        name="import",
        title="Importing",
        method="CPU time of a process that imports and ends, all bytecode compiled before. A full collection of what "
        "FastAPI has made falls into the import of whatever comes after it; so without the collector, too.",
        rows=rows,
    ),
)
