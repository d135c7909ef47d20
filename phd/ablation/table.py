"""Means and spreads over seeds, as a table in markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.shards import write_atomically
from phd.ablation.run import Outcome
from phd.errors import UserError


@dataclass(frozen=True)
class Spread:
    """Values of several seeds.

    Attributes:
        values: In the order of the seeds.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """NaN without any value."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation, with n - 1; NaN for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        if not self.values:
            return "failed"
        return f"{self.mean:.3f}" if math.isnan(self.std) else f"{self.mean:.3f} ± {self.std:.3f}"


def spread(outcomes: Sequence[Outcome], variant: str, key: str) -> Spread:
    """The values of one variant that a key names in the results."""
    found = [each.values[key] for each in outcomes if each.run.variant.name == variant and each.values is not None]
    return Spread(tuple(map(float, found)))


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    assert all(len(row) == len(header) for row in rows)
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def put_between(file: Path, name: str, text: str) -> None:
    """Replace what a file has between `<!-- NAME begin -->` and `<!-- NAME end -->`, or append both.

    Raises:
        UserError: One of the two marks is there without the other, or twice, or they are in the wrong order.
    """
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    held = file.read_text(encoding="utf-8") if file.exists() else ""
    counts = held.count(begin), held.count(end)
    section = f"{begin}\n{text.strip()}\n{end}"
    if counts == (0, 0):
        new = f"{held.rstrip()}\n\n{section}\n".lstrip()
    elif counts == (1, 1) and held.index(begin) < held.index(end):
        before, _, rest = held.partition(begin)
        new = before + section + rest.partition(end)[2]
    else:
        raise UserError(
            f"{file}: has {begin} {counts[0]} times and {end} {counts[1]} times; give one of each, in order"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, new.encode())
