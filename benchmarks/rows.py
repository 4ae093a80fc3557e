"""What a benchmark yields: rows of samples, compared with the first of their unit, against budgets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import median
from typing import Literal, NamedTuple

Measure = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One peer; its samples stand in the order of the rounds. Without any it is not here; the note says why."""

    name: str
    samples: tuple[float, ...]
    unit: str
    budgets: "tuple[Budget, ...]" = ()
    note: str = ""

    @property
    def median(self) -> float:
        return median(self.samples)

    def over(self, first: "Row") -> tuple[float, ...]:
        return _paired(self, first, lambda own, other: own / other if other else float("nan"))

    def beyond(self, first: "Row") -> tuple[float, ...]:
        return _paired(self, first, lambda own, other: own - other)


Bound = Literal["≥", "≤"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At least, or at most, so much: of the row itself, of its ratio to another, or of what it takes beyond another."""

    of: Literal["value", "ratio", "excess"]
    bound: Bound
    limit: float
    over: str = ""
    """Name of the other row; the first of the same unit, if empty."""

    def measured(self, row: Row, other: Row) -> float:
        match self.of:
            case "value":
                return row.median
            case "ratio":
                return median(row.over(other))
            case "excess":
                return median(row.beyond(other))

    def met(self, found: float) -> bool:
        return found >= self.limit if self.bound == "≥" else found <= self.limit

    def shown(self, value: float, unit: str) -> str:
        match self.of:
            case "value":
                return f"{number(value)} {unit}"
            case "ratio":
                return f"{number(value)} ×"
            case "excess":
                return f"{'+' if value >= 0 else ''}{number(value)} {unit}"


def value(bound: Bound, limit: float) -> Budget:
    return Budget(of="value", bound=bound, limit=limit)


def ratio(bound: Bound, limit: float, over: str = "") -> Budget:
    return Budget(of="ratio", bound=bound, limit=limit, over=over)


def excess(bound: Bound, limit: float, over: str = "") -> Budget:
    return Budget(of="excess", bound=bound, limit=limit, over=over)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How long to measure, and where; and who is told of each step."""

    quick: bool
    server_core: int | None = None
    """What servers are to run on, alone; None where there is but one core."""
    planned: Callable[[int], None] = lambda _: None
    stepped: Callable[[str], None] = lambda _: None

    def pick(self, quick: int, full: int) -> int:
        return quick if self.quick else full

    def interleaved(self, measures: Mapping[str, Measure], *, rounds: int) -> dict[str, tuple[float, ...]]:
        """Each measure once a round; every other round backwards, so that nobody always follows the same neighbour."""
        self.planned(rounds * len(measures))
        taken: dict[str, list[float]] = {name: [] for name in measures}
        for turn in range(rounds):
            for name in sorted(measures, key=list(measures).index, reverse=turn % 2 == 1):
                taken[name].append(measures[name]())
                self.stepped(name)
        return {name: tuple(samples) for name, samples in taken.items()}

    def compared(
        self, measures: Mapping[str, Measure], *, rounds: int, unit: str, budgets: Mapping[str, Budget] | None = None
    ) -> Iterator[Row]:
        """The rows of interleaved measures."""
        for name, samples in self.interleaved(measures, rounds=rounds).items():
            limits = (budgets[name],) if budgets and name in budgets else ()
            yield Row(name=name, samples=samples, unit=unit, budgets=limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A table, and how it comes about."""

    name: str
    title: str
    method: str
    rows: Callable[[Run], Iterator[Row]]
    plotted: bool = False
    crossed: bool = False
    """Whether the names, "what: who", are rows and columns of its table, which shows medians alone."""
    needs: tuple[str, ...] = ()
    """Commands beyond Python, each of the Debian package of its name."""
    peers: tuple[str, ...] = ()
    """Environments of `benchmarks/peers`."""


class Verdict(NamedTuple):
    """One budget, what was found, and whether that meets it."""

    row: Row
    limit: str
    found: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The rows of a benchmark, and which of them each is compared with."""

    benchmark: Benchmark
    rows: Sequence[Row]

    def first(self, row: Row) -> Row:
        return next(first for first in self.rows if first.unit == row.unit and first.samples)

    def _named(self, name: str, unit: str) -> Row:
        return next(row for row in self.rows if (row.name, row.unit) == (name, unit))

    def verdicts(self, row: Row) -> Iterator[Verdict]:
        for budget in row.budgets:
            other = self._named(budget.over, row.unit) if budget.over else self.first(row)
            if not (row.samples and other.samples):
                continue
            found = budget.measured(row, other)
            over = f" {budget.over}" if budget.over else ""
            limit = f"{budget.bound} {budget.shown(budget.limit, row.unit)}{over}"
            yield Verdict(row, limit, budget.shown(found, row.unit), budget.met(found))


def number(value: float) -> str:
    """Three significant digits, or all that stand before the point."""
    if isnan(value):
        return "–"  # there was nothing to compare with
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _paired(row: Row, first: Row, combine: Callable[[float, float], float]) -> tuple[float, ...]:
    """Round by round where both took part in all; else median by median."""
    if len(row.samples) == len(first.samples):
        return tuple(combine(own, other) for own, other in zip(row.samples, first.samples, strict=True))
    return (combine(row.median, first.median),)
