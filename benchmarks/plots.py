"""A plot per server benchmark, as SVG and PNG."""

# pyright: reportUnknownMemberType=false
# (matplotlib leaves its keyword arguments open.)

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.rows import Result, number

OURS, PEERS = "#0b6e4f", "#b8bfc6"


def plot(result: Result, folder: Path) -> Path:
    """Medians as bars, the spread as lines, of the unit that has budgets; where the SVG is."""
    unit = next(row.unit for row in result.rows if row.budgets)
    rows = [row for row in result.rows if row.unit == unit][::-1]
    medians = [row.median for row in rows]
    figure = Figure(figsize=(8, 0.8 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [row.name for row in rows],
        medians,
        color=[OURS if "Tiercel" in row.name else PEERS for row in rows],
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
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    folder.mkdir(exist_ok=True)
    path = folder / f"{result.benchmark.name}.svg"
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": result.benchmark.name}):
        figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)
    return path
