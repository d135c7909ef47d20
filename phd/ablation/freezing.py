"""When the parts of a student may move in stage 3: the paper's third experiment (EfficientSAM3, arXiv 2511.15833)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phd.ablation.concept_report import BOXES, ERRORS, SCORES
from phd.ablation.plan import Variant
from phd.ablation.run import Outcome
from phd.ablation.table import spread
from phd.ablation.words import change, labelled, left_out, standing
from phd.errors import UserError

NAME = "freezing"
# A run is divided into so many epochs, in which the schedules of `StageFreeze` count.
EPOCHS = 4
LABELS = {
    "staged": "heads, then neck, then the trunk's end",
    "neck_first": "neck, then heads, then the trunk's end",
    "all": "everything from the start",
    "trunk_frozen": "heads and the detector's neck only",
}
NAMES = tuple(LABELS)
# Variants with a schedule have a file of their own.
SCHEDULED = ("staged", "neck_first")


def freezing_variant(name: str, toy: Path) -> Variant:
    """A variant by its name.

    Args:
        name: One of `NAMES`.
        toy: Folder of the YAML files.

    Raises:
        UserError: No such variant.
    """
    if name not in NAMES:
        raise UserError(f"--only {name}: no such variant of freezing; give some of {', '.join(NAMES)}")
    flags: tuple[str, ...] = ()
    if name in SCHEDULED:
        flags = ("-c", str(toy / f"ablation_freezing_{name}.yaml"))
    elif name == "trunk_frozen":
        flags = ("--model.rates.trunk=0.0",)
    return Variant(name, flags, {"label": LABELS[name]})


def findings(variants: Sequence[Variant], outcomes: Sequence[Outcome], before: float | None) -> list[str]:
    """What the numbers say, in sentences that hold whatever they are.

    Args:
        variants: Rows, in order.
        outcomes: Of all runs.
        before: Box mIoU of the student that all runs start from.
    """
    said = []
    for key, title in {"cgf1": SCORES["cgf1"], **BOXES}.items():
        found = labelled(variants, outcomes, key)
        if len(found) > 1:
            said.append(standing(title, found))
    pairs = {key: [spread(outcomes, name, key) for name in ("all", "staged")] for key in SCORES | ERRORS | BOXES}
    if all(each.values for pair in pairs.values() for each in pair):
        titles = SCORES | ERRORS | BOXES
        changes = "; ".join(f"{titles[key]} {change(*pair)}" for key, pair in pairs.items())
        said.append(f"From everything at once to staged freezing (heads first): {changes}.")
    boxes = labelled(variants, outcomes, "box_miou")
    if boxes and before is not None:
        moved = "; ".join(f"{label} {each.mean:.3f} ({each.mean - before:+.3f})" for label, each in boxes)
        said.append(f"Points and boxes: the box mIoU was {before:.3f} before stage 3. After it: {moved}.")
    return [*said, *left_out(outcomes)]
