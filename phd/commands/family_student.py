"""One student of the family: runs of `phd fit` from artefact to artefact, and the three evaluations."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phd.ablation.plan import Run
from phd.ablation.run import LOG
from phd.commands.steps import evaluate_once
from phd.errors import UserError

TEACHER_ROW = "teacher"
# The first is part of the toy recipes only, and only where it is asked for.
SMALL = "stage1_small"
STAGES = ("stage1", "stage2", "stage3")
DATA_OF = {SMALL: "data_images", "stage1": "data_images", "stage2": "data_videos", "stage3": "data_concepts"}
# What an evaluation's JSON file has that the table, or its caption, shows.
KEPT = {
    "images": ("box_miou", "click1_miou", "num_images", "num_instances"),
    "video": ("jf", "j", "f", "num_videos", "num_objects", "memory_tokens"),
    "concepts": ("cgf1", "pmf1", "il_mcc", "presence_ece", "num_datapoints", "num_negative"),
}
ERROR_LINE = re.compile(r"phd: error: |[\w.]*(Error|Exception|Interrupt)\b")
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}


@dataclass(frozen=True)
class Family:
    """What all students have in common; sent to their processes.

    Attributes:
        teacher: Its name.
        experiments: Folder of the YAML files.
        recipes: "toy" for those under `toy`, "full" for those of real data.
        data: Shards by name, see `phd.commands.family_data`.
        steps: Of the optimiser, for each stage; None for what the recipe says. With `SMALL`, it comes first.
        image_size: The teacher's, in pixels.
        text: The students' text encoder; None for what the recipe says.
        protocol: Of J&F.
        device: What is trained and measured on.
        stage_arguments: For `phd fit`, for each stage.
        more: For `phd fit` of every stage.
    """

    teacher: str
    experiments: Path
    recipes: Literal["toy", "full"]
    data: dict[str, str]
    steps: dict[str, int | None]
    image_size: int
    text: str | None
    protocol: str
    device: str
    stage_arguments: dict[str, tuple[str, ...]]
    more: tuple[str, ...]

    def recipe_files(self, *stages: str) -> list[Path]:
        """What every run begins with, and the files of these stages."""
        folder = self.experiments / "toy" if self.recipes == "toy" else self.experiments
        return [self.experiments / "trainer.yaml", *(folder / f"{stage}.yaml" for stage in stages)]


def fit_arguments(family: Family, backbone: str, seed: int, stage: str, student: Path | None) -> list[str]:
    """The arguments of `phd fit` for one stage; what the user gave comes last and wins.

    Args:
        family: Of all students.
        backbone: One with a file under `backbone`.
        seed: Of weights, data and prompts.
        stage: One that has steps.
        student: That the stage before wrote; None for the first.
    """
    first = stage in (SMALL, "stage1")
    # The small views' recipe is written over that of stage 1.
    files = family.recipe_files(*(["stage1", SMALL] if stage == SMALL else [stage]))
    files += [family.experiments / "backbone" / f"{backbone}.yaml"] if first else []
    words = [word for file in files for word in ("-c", str(file))]
    words += [f"--model.teacher={family.teacher}", f"--data.root={family.data[DATA_OF[stage]]}"]
    words += [f"--model.init_from={student}"] if student is not None else []
    # What the small views trained takes on the size that it will have.
    words += [f"--model.image_size={family.image_size}"] if stage == "stage1" and student is not None else []
    words += [f"--model.text={family.text}"] if stage == "stage3" and family.text is not None else []
    words += [f"--seed_everything={seed}", f"--data.seed={seed}"]
    accelerator = ACCELERATORS.get(family.device, "auto")
    words += [f"--trainer.accelerator={accelerator}", "--trainer.devices=1", "--trainer.enable_progress_bar=false"]
    steps = family.steps[stage]
    words += ["--trainer.max_epochs=-1", f"--trainer.max_steps={steps}"] if steps is not None else []
    # Short runs: no time for a validation, without which the last weights are the student.
    words += ["--trainer.limit_val_batches=0"] if family.recipes == "toy" else []
    return [*words, *family.stage_arguments[stage], *family.more]


def make_and_measure(family: Family, run: Run, folder: Path) -> dict[str, Any]:
    """One row of the table, in a process of its own; the teacher's without the making."""
    name = run.variant.name
    if name == TEACHER_ROW:
        return measure(family, family.teacher, folder)
    student: Path | None = None
    for stage in family.steps:
        arguments = fit_arguments(family, name, run.seed, stage, student)
        student = fit_apart(folder / stage, arguments, stage, folder / LOG)
    assert student is not None
    values = measure(family, str(student), folder)
    for stage in family.steps:  # what is measured needs no resume
        shutil.rmtree(folder / stage / "checkpoints", ignore_errors=True)
    provenance = json.loads((student / "config.json").read_text())["provenance"]
    return {**values, "student": str(student), "trunk_weights": provenance["trunk_weights"]}


def fit_apart(folder: Path, arguments: Sequence[str], stage: str, log: Path) -> Path:
    """Run `phd fit` into a folder, or go on where it was stopped, in a process of its own; return the student's folder.

    So a run that the system kills for its memory takes no other student along, and Lightning may start the same command
    again for each of several devices.

    Raises:
        UserError: It failed; says what it said last.
    """
    finished = folder / "finished"
    if not finished.exists():
        sys.stdout.flush()
        said_before = log.stat().st_size if log.exists() else 0
        words = [*arguments, f"--trainer.default_root_dir={folder}", "--ckpt_path=last"]
        with log.open("ab") as stream:
            command = [sys.executable, "-m", "phd", "fit", *words]
            code = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
        if code:
            said = last_said(log, said_before)
            ended = f"killed by {signal.Signals(-code).name}, " if code < 0 else ""
            raise UserError(f"{stage}: {ended}{said}")
        if not (folder / "student").is_dir():
            raise UserError(f"{stage}: ended without a student; {log} says why")
        finished.touch()
    return folder / "student"


def last_said(log: Path, start: int) -> str:
    """The last line with an error that a log has from a byte on; its last line where none has."""
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.match(line)]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("phd: error: ")


def measure(family: Family, model: str, folder: Path) -> dict[str, Any]:
    """Box mIoU, J&F, cgF1 and what belongs to them, by the commands that a user would give."""
    asked = {
        "images": ["images", "--data", family.data["test_images"]],
        "video": ["video", "--data", family.data["test_videos"], "--protocol", family.protocol],
        "concepts": ["concepts", "--data", family.data["test_concepts"]],
    }
    values: dict[str, Any] = {}
    for name, words in asked.items():
        arguments = [*words, "--model", model, "--device", family.device]
        found = json.loads(evaluate_once(folder / f"{name}.json", arguments).read_text())
        values |= {key: found[key] for key in KEPT[name]}
    return values
