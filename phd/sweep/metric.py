"""Reading a trial's metric from its CSV log."""

from __future__ import annotations

import csv
import math
from pathlib import Path


class MetricMissing(Exception):
    """A run has ended without the metric that ranks it; the message says what it has instead."""


def read_metric(folder: Path, metric: str, goal: str) -> tuple[float, float]:
    """The best and the last finite value of a metric in the `metrics.csv` of a run.

    Args:
        folder: Folder of the run; the file lies in it or below it (Lightning's CSVLogger adds sub-folders).
        metric: Name of the column.
        goal: "maximize" or "minimize".

    Raises:
        MetricMissing: There is no metrics.csv, no such column, or no finite value in it.
    """
    files = sorted(folder.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise MetricMissing("the run wrote no metrics.csv into its folder; add a CSVLogger to its trainer")
    columns: list[str] = []
    values: list[float] = []
    for file in files:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns += reader.fieldnames or []
            values += [float(row[metric]) for row in reader if row.get(metric)]
    if metric not in columns:
        logged = ", ".join(sorted(set(columns) - {"epoch", "step"}))
        raise MetricMissing(f"the run does not log {metric}; it logs: {logged}")
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise MetricMissing(f"the run logs no finite value of {metric}")
    return (max(finite) if goal == "maximize" else min(finite)), finite[-1]
