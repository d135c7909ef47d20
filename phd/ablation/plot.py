"""The plot of an ablation: a row for each variant, its mean, spread and single runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phd.ablation.table import Spread

COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#7b5ea7")


@dataclass(frozen=True)
class Panel:
    """One measure, or several on the same axis.

    Attributes:
        label: Of the axis.
        series: By name, one spread for each row.
        start: Where the axis starts; None to fit the values.
    """

    label: str
    series: Mapping[str, Sequence[Spread]]
    start: float | None = None


def plot_rows(file: Path, rows: Sequence[str], panels: Sequence[Panel]) -> None:
    """Write a PNG with the panels side by side; the first row is on top.

    Args:
        file: To write.
        rows: Names of the variants.
        panels: Each with one spread for each row.
    """
    figure = Figure(figsize=(2.2 + 3.6 * len(panels), 1.2 + 0.45 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        count = len(panel.series)
        for number, (name, spreads) in enumerate(panel.series.items()):
            assert len(spreads) == len(rows)
            colour, shift = COLOURS[number % len(COLOURS)], (number - (count - 1) / 2) * 0.26
            heights = [row + shift for row in range(len(rows))]
            for height, each in zip(heights, spreads, strict=True):
                axis.plot(each.values, [height] * len(each.values), ".", color=colour, alpha=0.4, markersize=5)
            errors = [0.0 if math.isnan(each.std) else each.std for each in spreads]
            means = [each.mean for each in spreads]
            axis.errorbar(means, heights, xerr=errors, fmt="o", color=colour, capsize=3, markersize=5, label=name)
        axis.set_xlabel(panel.label)
        axis.set_xlim(left=panel.start)
        axis.grid(axis="x", alpha=0.3)
        if count > 1:
            axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=count, frameon=False)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
