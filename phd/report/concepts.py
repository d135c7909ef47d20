"""The section of stage 3: which noun phrases are found, and whether presence can be trusted."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from phd.outputs import LabelledConcepts
from phd.report.models import evaluations, predictors
from phd.report.page import figure, protocol_details, share, table
from phd.report.phrases import phrase_rows
from phd.report.reliability import reliability_diagram

ROWS = {"cgf1": "cgF1", "pmf1": "pmF1", "il_mcc": "IL_MCC"}
# Errors: the less the better, so they are no share of the teacher's.
ERRORS = {"presence_ece": "calibration error of presence", "score_ece": "calibration error of scores"}


def concept_section(paths: dict[str, str], samples: Sequence[LabelledConcepts], teacher: str) -> str:
    """A table, the reliability of presence, and phrases, true and false, with scores and pictures.

    Args:
        paths: The evaluations `before` and `after`, the students `untrained` and `student`.
        samples: Images to show.
        teacher: Its name.
    """
    before, after = evaluations(paths)
    models = predictors(paths, teacher)
    parts = ["<h2>Stage 3: concepts</h2>", concept_table(before, after), reliability_figure(before, after)]
    return "\n".join(parts + [phrase_rows(models, sample) for sample in samples])


def concept_table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """cgF1, its two factors and calibration: the teacher (100 %) and the student before and after."""
    teacher = after["teacher"]
    rows: list[list[str]] = []
    for key, title in {**ROWS, **ERRORS}.items():
        cells = [shown(found[key]) for found in (teacher, before, after)]
        rows.append([title, *cells, share(after[key], teacher[key]) if key in ROWS else "-"])
    notes = "".join(f"<p>{html.escape(note)}" for note in after["warnings"])
    return (
        table(["", "teacher", "student before", "student after", "share of the teacher"], rows)
        + f"<p>{after['num_images']} scenes that nobody was trained on, {after['num_positive']} phrases that are true "
        f"and {after['num_negative']} that are not; the teacher is the 100 %. Before: the student of stage 2 with the "
        "teacher's text encoder and detector, as the training starts.</p>" + notes + protocol_details(after["protocol"])
    )


def reliability_figure(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The reliability diagrams of presence."""
    found = {"teacher": after["teacher"], "student before": before, "student after": after}
    diagrams = {
        f"{name}: error {shown(values['presence_ece'])}": values["reliability"]["presence"]
        for name, values in found.items()
    }
    caption = (
        "Presence: of the phrases to which a model gives this probability, the share that is true (bars), and how many "
        "phrases these are (numbers). Scores that can be trusted lie on the line."
    )
    return figure(reliability_diagram(diagrams), caption)


def shown(value: float | None) -> str:
    """A number; a dash where it is not defined."""
    return "-" if value is None else f"{value:.3f}"
