"""A plot of a benchmark, as SVG and PNG."""

# pyright: reportUnknownMemberType=false
# (matplotlib leaves its keyword arguments open.)

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import crossed
from benchmarks.rows import Result, number

OURS, PEERS = "#0b6e4f", "#b8bfc6"


POLICIES = {"Tiercel": ("o", OURS), "LRU": ("|", "#444444"), "LFU": ("x", "#444444"), "theine": ("D", "#b5651d")}
"""The marker and colour of each; the same policy by another hand gives the same figures, and is left out."""


def plot(result: Result, folder: Path) -> Path:
    """Where the SVG is."""
    figure = _crossed(result) if result.benchmark.crossed else _bars(result)
    folder.mkdir(exist_ok=True)
    path = folder / f"{result.benchmark.name}.svg"
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": result.benchmark.name}):
        figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)
    return path


def _bars(result: Result) -> Figure:
    """Medians as bars, the spread as lines, of the unit that has budgets; else of the last."""
    unit = next((row.unit for row in result.rows if row.budgets), result.rows[-1].unit)
    rows = [row for row in result.rows if row.unit == unit and row.samples][::-1]
    medians = [row.median for row in rows]
    figure = Figure(figsize=(8, 0.9 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [row.name for row in rows],
        medians,
        color=[OURS if "iercel" in row.name else PEERS for row in rows],
        xerr=[
            [row.median - min(row.samples) for row in rows],
            [max(row.samples) - row.median for row in rows],
        ],
        ecolor="#444444",
        capsize=3,
    )
    axes.bar_label(bars, [number(median) for median in medians], padding=6)
    axes.set_title(result.benchmark.title, loc="left")
    axes.set_xlabel(unit)
    axes.margins(x=0.15, y=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _crossed(result: Result) -> Figure:
    """A line for each row of the table, a mark on it for each column."""
    lines = dict(reversed(crossed(result).items()))
    figure = Figure(figsize=(8, 1.2 + 0.32 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for policy, (marker, colour) in POLICIES.items():
        found = [(line[policy].median, place) for place, line in enumerate(lines.values()) if line[policy].samples]
        hits, places = [one[0] for one in found], [one[1] for one in found]
        axes.scatter(hits, places, marker=marker, color=colour, label=policy, s=45, zorder=3)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.grid(axis="y", color="#e4e7ea")
    axes.set_axisbelow(True)
    axes.set_title(result.benchmark.title, loc="left")
    axes.set_xlabel("reads that hit, %")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
