"""Counts of numbers that repeat a lot: sizes, lengths, how many of something."""

from __future__ import annotations

from collections import Counter

import numpy as np

# Lower edges of the ranges of a histogram.
EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200)


class Tally:
    """Counts how often each number occurs; small, however many samples there are."""

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()

    def add(self, value: float) -> None:
        """Count a number."""
        self.counts[value] += 1

    @property
    def total(self) -> float:
        """Sum of all numbers."""
        return sum(value * count for value, count in self.counts.items())

    def spread(self) -> dict[str, float] | None:
        """Smallest, median (the lower one of two) and largest; None where there is no number."""
        if not self.counts:
            return None
        values = sorted(self.counts)
        behind = np.cumsum([self.counts[value] for value in values])
        median = values[int(np.searchsorted(behind, (behind[-1] + 1) // 2))]
        return {"min": values[0], "median": median, "max": values[-1]}

    def histogram(self) -> dict[str, int]:
        """How many numbers lie in each of the ranges that EDGES divides, by name of the range."""
        ends = (*(edge - 1 for edge in EDGES[1:]), None)
        names = [f"{low}+" if high is None else f"{low}-{high}" if high > low else str(low)
                 for low, high in zip(EDGES, ends, strict=True)]  # fmt: skip
        found = np.zeros(len(EDGES), dtype=int)
        for value, count in self.counts.items():
            found[np.searchsorted(EDGES, value, side="right") - 1] += count
        return dict(zip(names, found.tolist(), strict=True))
