"""The table and the picture of a sweep."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from phd.sweep.records import Trial
from phd.sweep.sweep_file import SweepFile

MOST_TICKS = 6  # an axis with more values is labelled at its ends only


def order(trials: list[Trial], goal: str) -> list[Trial]:
    """Best first; failed trials last."""
    sign = -1 if goal == "maximize" else 1
    return sorted(trials, key=lambda trial: math.inf if trial.best is None else sign * trial.best)


def write_report(out: Path, sweep: SweepFile, trials: list[Trial]) -> None:
    """Write `results.csv`, `results.md` and, once a trial is done, `parallel_coordinates.png`.

    Args:
        out: Folder of the sweep.
        sweep: Its file.
        trials: In the order of the table.
    """
    names = [parameter.name for parameter in sweep.parameters]
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "status", f"{sweep.metric} (best)", f"{sweep.metric} (last)", *names, "seconds"])
        for trial in trials:
            values = ["" if value is None else value for value in (trial.best, trial.last)]
            row = [trial.parameters[name] for name in names]
            writer.writerow([trial.key, trial.status, *values, *row, trial.seconds])
    (out / "results.md").write_text(_markdown(sweep, names, trials), encoding="utf-8")
    done = [trial for trial in trials if trial.best is not None]
    if done:
        _parallel_coordinates(out / "parallel_coordinates.png", sweep, names, done)


def _markdown(sweep: SweepFile, names: list[str], trials: list[Trial]) -> str:
    failed = [trial for trial in trials if trial.status == "failed"]
    lines = [
        f"# {sweep.path.name}",
        "",
        f"{len(trials) - len(failed)} trials done, {len(failed)} failed. Method {sweep.method}, {sweep.goal} "
        f"{sweep.metric}; ranked by the best value over the run, the last value beside it.",
        "",
        "| " + " | ".join(["trial", "best", "last", *names, "seconds"]) + " |",
        "|" + "---|" * (len(names) + 4),
    ]
    for trial in trials:
        best, last = ("failed" if value is None else f"{value:.4g}" for value in (trial.best, trial.last))
        settings = [short(trial.parameters[name]).replace("|", "\\|") for name in names]
        lines.append("| " + " | ".join([trial.key, best, last, *settings, f"{trial.seconds:.0f}"]) + " |")
    for trial in failed:
        lines += ["", f"## {trial.key} failed, exit code {trial.returncode}", "", "```", trial.error, "```"]
    return "\n".join(lines) + "\n"


def _parallel_coordinates(file: Path, sweep: SweepFile, names: list[str], trials: list[Trial]) -> None:
    """One vertical axis per searched setting and one for the metric; one line per trial."""
    searched = [name for name in names if len({short(trial.parameters[name]) for trial in trials}) > 1]
    metric = [trial.best for trial in trials if trial.best is not None]
    axes = [_axis([trial.parameters[name] for trial in trials]) for name in searched] + [_axis(metric)]
    figure = Figure(figsize=(max(5.0, 2.2 * len(axes)), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    scale = Normalize(min(metric), max(metric))
    colours = colormaps["viridis"]
    # The best trials are drawn last, on top.
    for row in reversed(range(len(trials))):
        heights = [positions[row] for positions, _ in axes]
        plot.plot(range(len(axes)), heights, color=colours(scale(metric[row])), linewidth=1.5, alpha=0.8, marker="o")
    for column, (_, ticks) in enumerate(axes):
        plot.axvline(column, color="0.6", linewidth=0.8, zorder=0)
        for height, label in ticks:
            plot.annotate(label, (column, height), xytext=(4, 2), textcoords="offset points", fontsize=7)
    plot.set_xticks(range(len(axes)), [*searched, sweep.metric])
    plot.set_yticks([])
    plot.set_xlim(-0.2, len(axes) - 0.5)
    plot.spines[:].set_visible(False)
    plot.set_title(f"{sweep.path.name}: {len(trials)} trials", fontsize=10)
    figure.colorbar(ScalarMappable(scale, colours), ax=plot, label=sweep.metric)
    figure.savefig(file, dpi=150)


def _axis(values: list[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights in [0, 1] and labelled ticks of the values; logarithmic where they span a factor of 20."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.array(values, dtype=float)
        if numbers.min() > 0 and numbers.max() / numbers.min() >= 20:
            numbers = np.log(numbers)
        span = numbers.max() - numbers.min()
        heights = ((numbers - numbers.min()) / span if span > 0 else np.full(len(numbers), 0.5)).tolist()
        ticks = {short(value): height for value, height in zip(values, heights, strict=True)}
        if len(ticks) > MOST_TICKS:
            ends = (int(numbers.argmin()), int(numbers.argmax()))
            ticks = {short(values[end]): heights[end] for end in ends}
    else:
        labels = sorted({short(value) for value in values})
        ticks = {label: index / max(len(labels) - 1, 1) for index, label in enumerate(labels)}
        heights = [ticks[short(value)] for value in values]
    return heights, [(height, label) for label, height in ticks.items()]


def short(value: Any) -> str:
    """A value as the table shows it: four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
