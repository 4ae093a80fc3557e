"""How much of what is asked for is there: our memory tier beside other policies, on traces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import environments, traces
from benchmarks.policies import POLICIES, hits
from benchmarks.processes import answering, python_module
from benchmarks.rows import Benchmark, Row, Run

SHARES = (1, 10)
"""Percent of all keys of a trace that there is room for."""
ENVIRONMENT = "policies"
OTHERS = ("theine", "cachebox, LRU", "cachebox, LFU")

Counting = Callable[[int], int]
"""How many reads hit, by how many keys there is room for."""


def rows(run: Run) -> Iterator[Row]:
    yield from of_traces(run, traces.made(run.pick(5_000, 20_000), run.pick(30_000, 300_000)))


def of_file(path: Path) -> Benchmark:
    """The benchmark of one recorded trace."""

    def rows(run: Run) -> Iterator[Row]:
        yield from of_traces(run, {path.name: traces.recorded(path)})

    return Benchmark(name="ratio", title=_TITLE, method=_METHOD, rows=rows, crossed=True, peers=(ENVIRONMENT,))


def of_traces(run: Run, asked: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    run.planned(len(asked))
    for name, trace in asked.items():
        if not trace:
            raise ValueError(f"{name} is empty: a trace has one key per line.")
        footprint = len(set(trace))
        with ExitStack() as stack:
            counted: dict[str, Counting | str] = {policy: partial(_own, policy, trace) for policy in POLICIES}
            counted |= _others(stack, trace)
            for share in SHARES:
                for policy, count in counted.items():
                    place = f"{name}, room for {share} %: {policy}"
                    if isinstance(count, str):
                        yield Row(name=place, samples=(), unit="%", note=count)
                    else:
                        found = 100 * count(room(footprint, share)) / len(trace)
                        yield Row(name=place, samples=(found,), unit="%")
        run.stepped(name)


def room(footprint: int, share: int) -> int:
    """For so many keys; for one at least."""
    return max(1, footprint * share // 100)


def _own(policy: str, trace: Sequence[str], held: int) -> int:
    return hits(POLICIES[policy](held), trace)


def _others(stack: ExitStack, trace: Sequence[str]) -> dict[str, Counting | str]:
    """In a process of their own environment; or why not."""
    try:
        interpreter = environments.python(ENVIRONMENT)
    except environments.NotInstalled as error:
        return dict.fromkeys(OTHERS, f"not installed: {error}")
    told = Path(stack.enter_context(TemporaryDirectory())) / "trace"
    told.write_text("\n".join(trace), errors="surrogateescape")
    command = python_module("benchmarks.peers.policies", str(told), interpreter=interpreter)
    process = stack.enter_context(answering(command))

    def count(policy: str, held: int) -> int:
        return int(process.ask(f"{policy} {held}"))

    return {policy: partial(count, policy) for policy in OTHERS}


_TITLE = "The memory tier: hit ratios"
_METHOD = (
    "Share of reads that hit, by the trace and by how much of all its keys there is room for; each key weighs the "
    "same, and what misses is put in. The traces are made from a seed: 20,000 keys, 300,000 reads. LRU and LFU are the "
    "plain ones, written out in `benchmarks/policies.py`; LFU forgets the count of what has gone. theine draws lots "
    "of its own, and varies by half a point. A trace of your own, "
    "one key per line: `python -m benchmarks ratio --trace FILE`."
)

BENCHMARKS = (
    Benchmark(
        name="ratio",
        title=_TITLE,
        method=_METHOD,
        rows=rows,
        plotted=True,
        crossed=True,
        peers=(ENVIRONMENT,),
    ),
)
