"""`phd ablation negatives`: how many hard negatives are asked of each image in stage 3, on the embedded world."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from phd.commands.ablation_common import add_numbers
from phd.commands.ablation_concepts import Kind, conduct
from phd.commands.steps import settings_of

if TYPE_CHECKING:
    from phd.ablation.plan import Variant
    from phd.ablation.run import Outcome

# By option: default and meaning. Nothing else is trained or measured on these seeds of the world.
NUMBERS = {
    "steps": (140, "of each run"),
    "train_scenes": (240, "scenes with phrases to train on"),
    "scenes": (40, "scenes with phrases to measure on"),
    "train_seed": (32, "of the training scenes"),
    "test_seed": (9300, "of the scenes to measure on"),
}
RECIPES = ("stage3", "ablation_negatives")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    add_numbers(parser, NUMBERS, "of stage 3; the first row of the table")


def run(options: argparse.Namespace, more: list[str]) -> None:
    """Train and measure what is not there yet, and write table, plot and section."""
    from phd.ablation.negatives import HARD_NEGATIVES, NAME, NAMES, POSITIVES, negatives_variant

    recipe = settings_of(options.experiments, RECIPES[-1], "data")
    factor = HARD_NEGATIVES // POSITIVES
    kind = Kind(
        name=NAME,
        first="hard negatives per image",
        numbers=NUMBERS,
        recipes=RECIPES,
        schedules=(),
        shapes=("--positives", str(POSITIVES), "--negatives", str(factor), "--hard", "1"),
        limits=(),
        names=NAMES,
        variant=negatives_variant,
        notes=notes(recipe["batch_size"], recipe["max_positives"], HARD_NEGATIVES),
        findings=findings,
    )
    conduct(kind, options, more)


def notes(batch_size: int, positives: int, hard: int) -> tuple[str, ...]:
    """Sentences of the protocol."""
    return (
        f"All runs of a seed see the same scenes and the same true phrases in the same order. An image has {hard} "
        f"false phrases, each one attribute away from a thing in it, of which N are drawn. A step with N of them "
        f"compares at most {batch_size} x ({positives} + N) pairs of an image and a phrase: a larger number also means "
        f"more pairs in each of the same number of steps. Without any, nothing says no, and what a student still "
        f"rejects it rejects as the heads do that it has from the teacher; that run warns of it.",
    )


def findings(
    variants: Sequence[Variant], outcomes: Sequence[Outcome], references: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """What comes out."""
    from phd.ablation import negatives

    return negatives.findings(variants, outcomes)
