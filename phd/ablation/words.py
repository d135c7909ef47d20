"""Sentences about means and spreads that hold whatever the numbers are."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

from phd.ablation.plan import Variant
from phd.ablation.run import Outcome
from phd.ablation.table import Spread, spread

UNBROKEN = "\x00"


def paragraph(text: str) -> str:
    """Lines of at most 120 characters; code stays on one line."""
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", UNBROKEN), text)
    return textwrap.fill(whole, 120, break_long_words=False, break_on_hyphens=False).replace(UNBROKEN, " ")


def apart(one: Spread, other: Spread) -> bool:
    """Whether two means differ by more than the larger of the two standard deviations; False with one seed only."""
    most = max((each.std for each in (one, other) if not math.isnan(each.std)), default=math.inf)
    return abs(one.mean - other.mean) > most


def labelled(variants: Sequence[Variant], outcomes: Sequence[Outcome], key: str) -> list[tuple[str, Spread]]:
    """Label and values of every variant that has a value, in order."""
    found = [(str(each.facts["label"]), spread(outcomes, each.name, key)) for each in variants]
    return [(label, each) for label, each in found if each.values]


def standing(title: str, found: Sequence[tuple[str, Spread]], lowest: bool = False) -> str:
    """Which mean is the best one, and which others the seeds do not tell from it.

    Args:
        title: Of the measure.
        found: At least two, see `labelled`.
        lowest: Whether less is better.
    """
    order = sorted(found, key=lambda pair: pair[1].mean, reverse=not lowest)
    (label, best), others = order[0], order[1:]
    if best.mean == order[-1][1].mean:
        return f"{title}: {best.mean:.3f} in all."
    said = f"{title}: the {'lowest' if lowest else 'highest'} mean has {label} ({best})."
    if all(len(each.values) < 2 for _, each in found):
        return f"{said} With one seed there is no spread to compare with."
    near = [name for name, each in others if not apart(best, each)]
    return f"{said} Not apart from it by more than the spread of the seeds: {'; '.join(near)}." if near else said


def change(old: Spread, new: Spread) -> str:
    """From one mean to another, and whether the seeds tell them apart."""
    difference = new.mean - old.mean
    if f"{abs(difference):.3f}" == "0.000":
        return f"{old} and {new}: the same to three digits"
    word = f"{'higher' if difference > 0 else 'lower'} by {abs(difference):.3f}"
    if len(old.values) < 2 and len(new.values) < 2:
        return f"{old} and {new}: {word}, with one seed each"
    return f"{old} and {new}: {word}, {'more' if apart(old, new) else 'not more'} than the spread of the seeds"


def left_out(outcomes: Sequence[Outcome]) -> list[str]:
    """A sentence that names the runs that failed, if there are any."""
    failed = [each.run.name for each in outcomes if each.values is None]
    return [f"Failed and left out: {', '.join(failed)}."] if failed else []
