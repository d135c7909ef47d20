"""`phd ablation freezing`: when the parts of a student may move in stage 3, on the embedded world."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from phd.commands.ablation_common import add_numbers, require_positive
from phd.commands.ablation_concepts import Kind, conduct
from phd.commands.steps import settings_of
from phd.errors import UserError

if TYPE_CHECKING:
    from phd.ablation.plan import Variant
    from phd.ablation.run import Outcome

# By option: default and meaning. Nothing else is trained or measured on these seeds of the world.
NUMBERS = {
    "steps": (160, "of each run"),
    "train_scenes": (240, "scenes with phrases to train on"),
    "scenes": (40, "scenes with phrases to measure on"),
    "stills": (24, "scenes to measure boxes on"),
    "train_seed": (31, "of the training scenes"),
    "test_seed": (9200, "of the scenes with phrases to measure on; those for boxes have the next one"),
}
RECIPES = ("stage3", "ablation_freezing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    add_numbers(parser, NUMBERS, "of stage 3; the first row of the table")


def run(options: argparse.Namespace, more: list[str]) -> None:
    """Train and measure what is not there yet, and write table, plot and section."""
    from phd.ablation.freezing import EPOCHS, NAME, NAMES, SCHEDULED, freezing_variant

    require_positive(options, ["steps"])
    # A flag of 1 would be a share: all batches.
    epoch = max(2, math.ceil(options.steps / EPOCHS))
    require_scenes(options, epoch)
    kind = Kind(
        name=NAME,
        first="what trains",
        numbers=NUMBERS,
        recipes=RECIPES,
        schedules=tuple(f"{RECIPES[-1]}_{name}" for name in SCHEDULED),
        shapes=(),
        limits=(f"--trainer.limit_train_batches={epoch}",),
        names=NAMES,
        variant=partial(freezing_variant, toy=options.experiments / "toy"),
        notes=notes(epoch, EPOCHS),
        findings=findings,
    )
    conduct(kind, options, more)


def require_scenes(options: argparse.Namespace, epoch: int) -> None:
    """Check that an epoch, in which the schedules count, is not cut short by the data.

    Raises:
        UserError: There are too few training scenes for its steps.
    """
    recipe = settings_of(options.experiments, RECIPES[-1], "data")
    least = epoch * recipe["batch_size"] + recipe["val_samples"]
    if options.train_scenes < least:
        raise UserError(
            f"--train-scenes is {options.train_scenes}: an epoch of {epoch} steps needs {least}; give more, or fewer "
            f"--steps"
        )


def notes(epoch: int, epochs: int) -> tuple[str, ...]:
    """Sentences of the protocol."""
    return (
        f"A run has {epochs} epochs of {epoch} steps. Staged freezing trains heads and text encoder in the first one, "
        f"the neck too from the second on, and in the last two also the last two of the trunk's four stages "
        f"(`StageFreeze` in `experiments/toy/ablation_freezing_staged.yaml`). With the neck first, heads and neck "
        f"change places, as in `experiments/stage3.yaml`. What unfreezes later begins at the rate that the schedule "
        f"has reached. Presence trains always. With heads and the detector's neck only, the trunk stays frozen, and "
        f"so does what of the neck serves points and video (`model.rates.trunk` 0): these answer as before.",
    )


def findings(
    variants: Sequence[Variant], outcomes: Sequence[Outcome], references: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """What comes out."""
    from phd.ablation import freezing

    return freezing.findings(variants, outcomes, references["the student before"]["box_miou"])
