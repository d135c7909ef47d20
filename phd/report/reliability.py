"""Reliability diagrams as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

INCHES, DPI = 3.3, 110  # of one diagram


def reliability_diagram(diagrams: Mapping[str, Sequence[Mapping[str, Any]]]) -> Image.Image:
    """How often it is true what a model says with which probability, side by side.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017, arXiv 1706.04599, section 2, figure 1).

    Args:
        diagrams: By title, the bins: `from`, `to`, `count` and `accuracy`, which is None where a bin is empty.
    """
    figure = Figure(figsize=(INCHES * len(diagrams), INCHES), dpi=DPI, layout="constrained")
    for place, (title, bins) in enumerate(diagrams.items(), 1):
        axes = figure.add_subplot(1, len(diagrams), place)
        axes.plot([0, 1], [0, 1], linestyle="--", color="#888888", linewidth=1)
        for part in bins:
            if part["count"]:
                width = part["to"] - part["from"]
                axes.bar(part["from"], part["accuracy"], width, align="edge", color="#4c8cc4", edgecolor="white")
                middle, height = part["from"] + width / 2, part["accuracy"] + 0.02
                axes.text(middle, height, str(part["count"]), ha="center", va="bottom", fontsize=6)
        axes.set(xlim=(0, 1), ylim=(0, 1.1), xlabel="presence", title=title)
        axes.set_ylabel("share that is true" if place == 1 else "")
        axes.title.set_fontsize(9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
