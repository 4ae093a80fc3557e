"""Results for the terminal, and for `RESULTS.md`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.rows import Result, Row, Verdict, number

INTRODUCTION = (
    "Peers alternate in rounds; the median of all rounds is shown, with the least and the most. "
    "A ratio is the median of the ratios within each round to the first row of the same unit."
)
COLUMNS = ("", "median", "spread", "ratio", "budget", "found", "note")


def table(result: Result) -> Table:
    """As it is printed."""
    shown = Table(title=f"{result.benchmark.title} ({result.benchmark.name})", title_justify="left")
    columns, lines = _lines(result)
    for place, column in enumerate(columns):
        shown.add_column(column, justify="right" if _is_number(result, place) else "left", no_wrap=place > 0)
    for line in lines:
        shown.add_row(*line)
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
    columns, lines = _lines(result)
    yield from ("", f"## {result.benchmark.title}", "", result.benchmark.method, "")
    yield _line(columns)
    yield _line(["---:" if _is_number(result, place) else "---" for place in range(len(columns))])
    for line in lines:
        yield _line([cell.replace("\n", "<br>") for cell in line])
    if plot is not None:
        yield from ("", f"![{result.benchmark.title}]({plot.parent.name}/{plot.name})")


def _is_number(result: Result, place: int) -> bool:
    return place > 0 if result.benchmark.crossed else place in {1, 2, 3, 5}


def _lines(result: Result) -> tuple[Sequence[str], list[list[str]]]:
    """The heads of the columns, and the cells."""
    if not result.benchmark.crossed:
        return COLUMNS, [_cells(result, row) for row in result.rows]
    cells = crossed(result)
    columns = list(dict.fromkeys(column for line in cells.values() for column in line))
    return ["", *columns], [
        [name, *(_crossed_cell(line, column) for column in columns)] for name, line in cells.items()
    ]


def crossed(result: Result) -> dict[str, dict[str, Row]]:
    """Rows by what stands before the colon of their names, and what behind."""
    cells: dict[str, dict[str, Row]] = {}
    for row in result.rows:
        name, _, column = row.name.partition(": ")
        cells.setdefault(name, {})[column] = row
    return cells


def _crossed_cell(line: dict[str, Row], column: str) -> str:
    row = line.get(column)
    if row is None or not row.samples:
        return "" if row is None else row.note
    return f"{row.median:.1f} {row.unit}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(result: Result, row: Row) -> list[str]:
    if not row.samples:
        return [row.name, "–", "", "", "", "", row.note]
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
