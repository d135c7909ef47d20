"""The section that `phd family` writes: command, protocol, table, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phd.ablation.words import paragraph
from phd.family.rows import MEASURES, Row, family_table

MARKS = "family"
QUALITY = [each for each in MEASURES if each.key in ("box_miou", "jf", "cgf1", "il_mcc")]


def section(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """The whole section in markdown.

    Args:
        rows: The teacher's first.
        about: Words of the protocol: `command`, `teacher`, `date`, `cpu`, `cores`, `torch`, `minutes`, `training` and
            `trunks` (sentences), `counts` of the test data, `protocol`, `rounds`, `image_size`, `toy`.
    """
    parts = [f"```bash\n{about['command']}\n```", paragraph(how(about)), paragraph(what(about))]
    return "\n\n".join([*parts, family_table(rows, about["teacher"]), *map(paragraph, findings(rows))])


def how(about: dict[str, Any]) -> str:
    """How the students were made."""
    caution = (
        " These are short runs on the embedded world: the numbers show that everything works together, not what the "
        "students could reach."
    )
    return (
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, torch {about['torch']}; the runs took "
        f"{about['minutes']} minutes together. Each student goes through the three stages in turn, from the artefact "
        f"of one to the next. {about['training']} {about['trunks']}{caution if about['toy'] else ''}"
    )


def what(about: dict[str, Any]) -> str:
    """The caption: what each column is."""
    counts = {name: "not measured" if value is None else str(value) for name, value in about["counts"].items()}
    return (
        f"All of a row is measured on the one student that stage 3 wrote, and on the teacher by the same code: box "
        f"mIoU by `phd evaluate images` (images: {counts['num_images']}, instances: {counts['num_instances']}), J&F by "
        f"`phd evaluate video --protocol {about['protocol']}` from each object's first mask (videos: "
        f"{counts['num_videos']}, objects: {counts['num_objects']}), cgF1 and IL_MCC by `phd evaluate concepts` (pairs "
        f"of image and phrase: {counts['num_datapoints']}, of them negative: {counts['num_negative']}). Parameters "
        f"are those of the saved model, text encoder included. GMACs (counted) and CPU ms (CPU time of one core, "
        f"median of {about['rounds']} rounds in which all models take turns) are those of one image of "
        f"{about['image_size']} pixels in a batch of 1, encoded for all that the model can do, and the answer to one "
        f"box; students are folded as for inference. In brackets: the share of the teacher's value, - where that is "
        f"not above 0."
    )


def findings(rows: Sequence[Row]) -> list[str]:
    """Who comes nearest to the teacher, and who failed, in sentences that hold whatever the numbers are."""
    said: list[str] = []
    students = [row for row in rows[1:] if not row.error]
    best: list[str] = []
    for measure in QUALITY:
        known = {row.name: value for row in students if (value := row.values[measure.key]) is not None}
        if len(known) > 1:
            name = max(known, key=known.__getitem__)
            alike = len(set(known.values())) == 1
            best.append(f"{measure.title} {'all alike' if alike else name} ({known[name]:.3f})")
    if best:
        said.append(f"The highest of the students: {', '.join(best)}.")
    said += [f"Failed, and without numbers: {row.name} ({row.error})." for row in rows if row.error]
    return said
