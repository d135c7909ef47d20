"""What the ablations of stage 3 write when their runs are done."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from phd.ablation.concept_report import plot, section
from phd.ablation.plan import Variant
from phd.ablation.run import Outcome
from phd.commands.ablation_common import Protocol
from phd.commands.ablation_concepts import Kind
from phd.commands.ablation_section import about_runs, write_section
from phd.student import Student

STAGES = {"EncoderDistill": "of stage 1", "MemoryDistill": "of stage 2", "ConceptFinetune": "of stage 3"}


def report(
    kind: Kind,
    options: argparse.Namespace,
    protocol: Protocol,
    variants: Sequence[Variant],
    outcomes: Sequence[Outcome],
    student: Student,
    references: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write everything.

    Args:
        kind: Which ablation.
        options: Of the command.
        protocol: Of all runs.
        variants: Rows of the table.
        outcomes: Of all runs.
        student: That they started from.
        references: Rows above them, by label; the teacher's is the first.
    """
    teacher = next(iter(references.values()))
    about = {
        **about_runs(kind.name, options, protocol, kind.numbers, outcomes),
        "start": start_of(student),
        "phrases": [teacher["num_positive"], teacher["num_negative"]],
        "notes": list(kind.notes),
        **({"stills_seed": options.test_seed + 1} if "stills" in kind.numbers else {}),
    }
    found = kind.findings(variants, outcomes, references)
    done = [each.values for each in outcomes if each.values is not None]
    write_section(
        kind.name,
        options,
        {"about": about, "references": references, "runs": done},
        partial(plot, variants=variants, outcomes=outcomes, boxes="stills" in kind.numbers),
        partial(section, kind.first, variants, outcomes, references, about, found),
    )


def start_of(student: Student) -> str:
    """The student that all runs start from, in words."""
    stage = (student.config.provenance or {}).get("stage")
    return f"{student.config.backbone} {STAGES.get(str(stage), 'of no stage')}"
