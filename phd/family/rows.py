"""The rows of the family table: numbers of each model, and their shares of the teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phd.ablation.run import Outcome
from phd.ablation.table import markdown

NO_NUMBER = "-"


@dataclass(frozen=True)
class Measure:
    """A column.

    Attributes:
        key: Of the values.
        title: Of the column.
        places: After the point.
        unit: What one of the column's units is.
    """

    key: str
    title: str
    places: int
    unit: float = 1.0


MEASURES = (
    Measure("parameters", "parameters, M", 2, 1e6),
    Measure("gmacs", "GMACs", 2),
    Measure("cpu_ms", "CPU ms", 1),
    Measure("box_miou", "box mIoU", 3),
    Measure("jf", "J&F", 3),
    Measure("cgf1", "cgF1", 3),
    Measure("il_mcc", "IL_MCC", 3),
)


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: Of the teacher or the backbone.
        values: By key of `MEASURES`; None where a measure is undefined. Empty for a model that failed.
        shares: Of the teacher's value, by key; None where the teacher has none above 0.
        error: Why it failed.
    """

    name: str
    values: dict[str, float | None]
    shares: dict[str, float | None]
    error: str = ""


def family_rows(outcomes: Sequence[Outcome], costs: dict[str, dict[str, float]]) -> list[Row]:
    """Put measured values and costs together.

    Args:
        outcomes: The teacher's first.
        costs: By name of the model, see `phd.family.cost`; those that failed have none.
    """
    found = [_values(each, costs) for each in outcomes]
    teacher = found[0]
    return [
        Row(
            each.run.variant.name,
            values,
            {key: share(value, teacher.get(key)) for key, value in values.items()},
            each.error,
        )
        for each, values in zip(outcomes, found, strict=True)
    ]


def share(value: float | None, whole: float | None) -> float | None:
    """A part of the teacher's value; None where there is nothing to be a part of."""
    if value is None or whole is None or not whole > 0:
        return None
    return value / whole


def family_table(rows: Sequence[Row], teacher: str) -> str:
    """The table in markdown; each cell of a student has its share of the teacher's in brackets.

    Args:
        rows: The teacher's first.
        teacher: What its row is called.
    """
    lines = []
    for number, row in enumerate(rows):
        name = row.name if number else f"{teacher} (teacher)"
        cells = [_cell(row, each, with_share=number > 0) for each in MEASURES]
        lines.append([name, *(["failed", *[""] * (len(MEASURES) - 1)] if row.error else cells)])
    return markdown(["model", *(each.title for each in MEASURES)], lines)


def as_plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(row) for row in rows]


def _values(outcome: Outcome, costs: dict[str, dict[str, float]]) -> dict[str, float | None]:
    if outcome.values is None:
        return {}
    every = {**outcome.values, **costs[outcome.run.variant.name]}
    return {each.key: _number(every[each.key]) for each in MEASURES}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _cell(row: Row, measure: Measure, with_share: bool) -> str:
    value, part = row.values.get(measure.key), row.shares.get(measure.key)
    if value is None:
        return NO_NUMBER
    shown = f"{value / measure.unit:.{measure.places}f}"
    return f"{shown} ({NO_NUMBER if part is None else f'{part:.1%}'})" if with_share else shown
