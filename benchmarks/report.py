"""Results for the terminal, and for `RESULTS.md`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.rows import Result, Row, Verdict, number

INTRODUCTION = (
    "Peers alternate in rounds; the median of all rounds is shown, with the least and the most. "
    "A ratio is the median of the ratios within each round to the first row of the same unit."
)
COLUMNS = ("", "median", "spread", "ratio", "budget", "found", "")


def table(result: Result) -> Table:
    """As it is printed."""
    shown = Table(title=f"{result.benchmark.title} ({result.benchmark.name})", title_justify="left")
    for place, column in enumerate(COLUMNS):
        shown.add_column(column, justify="right" if place in {1, 2, 3, 5} else "left", no_wrap=place > 0)
    for row in result.rows:
        shown.add_row(*_cells(result, row))
    return shown


def results(found: Sequence[Result], plots: dict[str, Path], facts: Iterable[str]) -> str:
    """As it is written."""
    verdicts = [(result, told) for result in found for row in result.rows for told in result.verdicts(row)]
    missed = [
        f"- {result.benchmark.title}: {told.row.name}: {told.found}, budget {told.limit}"
        for result, told in verdicts
        if not told.met
    ]
    lines = [
        "# Results",
        "",
        INTRODUCTION,
        "",
        *(f"- {fact}" for fact in facts),
        "",
        f"**{len(verdicts) - len(missed)} of {len(verdicts)} budgets are met.**" + (" Not:" if missed else ""),
        *(["", *missed] if missed else []),
        *(line for result in found for line in _section(result, plots.get(result.benchmark.name))),
    ]
    return "\n".join(lines) + "\n"


def _section(result: Result, plot: Path | None) -> Iterator[str]:
    yield from ("", f"## {result.benchmark.title}", "", result.benchmark.method, "")
    yield _line(COLUMNS)
    yield _line(["---", "---:", "---:", "---:", "---", "---:", "---"])
    for row in result.rows:
        yield _line([cell.replace("\n", "<br>") for cell in _cells(result, row)])
    if plot is not None:
        yield from ("", f"![{result.benchmark.title}]({plot.parent.name}/{plot.name})")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(result: Result, row: Row) -> list[str]:
    first = result.first(row)
    verdicts = list(result.verdicts(row))
    ratios = sorted(row.over(first))
    middle = ratios[len(ratios) // 2]
    return [
        row.name,
        f"{number(row.median)} {row.unit}",
        f"{number(min(row.samples))}..{number(max(row.samples))}" if len(row.samples) > 1 else "",
        f"{middle:.2f} ×" + (f" ({ratios[0]:.2f}..{ratios[-1]:.2f})" if row is not first and len(ratios) > 1 else ""),
        "\n".join(verdict.limit for verdict in verdicts),
        "\n".join(map(_found, verdicts)),
        row.note,
    ]


def _found(verdict: Verdict) -> str:
    return f"{verdict.found} {'✓' if verdict.met else '✗'}"
