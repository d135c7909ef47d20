"""What the ablations of stage 3 write: protocol, table, plot, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phd.ablation.plan import Variant
from phd.ablation.plot import Panel, plot_rows
from phd.ablation.run import Outcome
from phd.ablation.table import markdown, spread
from phd.ablation.words import paragraph

# By key of the results: of `phd evaluate concepts`, and the box mIoU of `phd evaluate images`.
SCORES = {"cgf1": "cgF1", "pmf1": "pmF1", "il_mcc": "IL_MCC"}
ERRORS = {"presence_ece": "ECE of presence", "il_fpr": "false positive rate"}
BOXES = {"box_miou": "box mIoU"}


def section(
    first: str,
    variants: Sequence[Variant],
    outcomes: Sequence[Outcome],
    references: Mapping[str, Mapping[str, float]],
    about: dict[str, Any],
    findings: Sequence[str],
    picture: str,
) -> str:
    """The whole section in markdown.

    Args:
        first: Head of the column that names the variants.
        variants: Rows, in order.
        outcomes: Of all runs.
        references: Rows above them, by label: the numbers of the teacher, and of the student before where it has some.
        about: Words of the protocol, see `protocol`.
        findings: Paragraphs below the plot.
        picture: Path of the plot from where the section stands.
    """
    measures = SCORES | ERRORS | (BOXES if "stills" in about else {})
    rows = [
        [label, *(f"{values[key]:.3f}" if key in values else "" for key in measures)]
        for label, values in references.items()
    ]
    rows += [[each.facts["label"], *(spread(outcomes, each.name, key) for key in measures)] for each in variants]
    table = markdown((first, *measures.values()), rows)
    parts = [protocol(about), table, f"![Scores and errors by variant]({picture})"]
    return "\n\n".join([*parts, *map(paragraph, findings)])


def protocol(about: dict[str, Any]) -> str:
    """How the numbers were made, with the command.

    Args:
        about: Of `phd.commands.ablation_concepts_report`; `notes` are the sentences of the one ablation.
    """
    recipe, seeds = about["recipe"], ", ".join(map(str, about["seeds"]))
    runs = (
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, torch {about['torch']}; the runs took "
        f"{about['minutes']} minutes together. Each starts from the same student, {about['start']}, with the teacher's "
        f"detector, and takes {about['steps']} steps of {recipe['batch_size']} images with at most "
        f"{recipe['max_positives']} true phrases each, from {about['train_scenes']} scenes of the world's seed "
        f"{about['train_seed']} (SA-Co/Silver); seeds of the runs: {seeds}. These are short runs: the numbers say how "
        f"far a student comes with so little training, not what it could reach."
    )
    positive, negative = about["phrases"]
    measures = (
        f"Numbers are those of `phd evaluate concepts` on {about['scenes']} scenes of seed {about['test_seed']} "
        f"(SA-Co/Gold, three annotators; {positive} true phrases and {negative} false ones, of which half are one "
        f"attribute away from a thing in the picture). The expected calibration error is that of presence; the false "
        f"positive rate is the share of the false phrases for which anything is predicted with a score of at least "
        f"0.5. Mean and standard deviation over the seeds."
    )
    if "stills" in about:
        measures += (
            f" The box mIoU is that of `phd evaluate images` on {about['stills']} scenes of seed "
            f"{about['stills_seed']}: what stage 3 leaves of stage 1."
        )
    return "\n\n".join([f"```bash\n{about['command']}\n```", *map(paragraph, (runs, *about["notes"], measures))])


def plot(file: Path, variants: Sequence[Variant], outcomes: Sequence[Outcome], boxes: bool) -> None:
    """Scores, errors, and the box mIoU where it was measured; mean, spread and single runs.

    Args:
        file: PNG to write.
        variants: Rows, in order.
        outcomes: Of all runs.
        boxes: Whether there are box mIoUs.
    """
    parts = [("score", SCORES), ("error", ERRORS), *([("IoU", BOXES)] if boxes else [])]
    panels = [
        Panel(
            label if len(measures) > 1 else next(iter(measures.values())),
            {title: [spread(outcomes, each.name, key) for each in variants] for key, title in measures.items()},
        )
        for label, measures in parts
    ]
    plot_rows(file, [str(each.facts.get("row", each.facts["label"])) for each in variants], panels)
