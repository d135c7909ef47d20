"""One student of the family: three runs of `phd fit` from artefact to artefact, and the three evaluations."""

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
STAGES = (1, 2, 3)
DATA_OF = {1: "data_images", 2: "data_videos", 3: "data_concepts"}
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
        steps: Of the optimiser, for each stage; None for what the recipe says.
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
    steps: tuple[int | None, ...]
    text: str | None
    protocol: str
    device: str
    stage_arguments: tuple[tuple[str, ...], ...]
    more: tuple[str, ...]

    def recipe_files(self) -> list[Path]:
        """What every run begins with, and the file of each stage."""
        folder = self.experiments / "toy" if self.recipes == "toy" else self.experiments
        return [self.experiments / "trainer.yaml", *(folder / f"stage{stage}.yaml" for stage in STAGES)]


def fit_arguments(family: Family, backbone: str, seed: int, stage: int, student: Path | None) -> list[str]:
    """The arguments of `phd fit` for one stage; what the user gave comes last and wins.

    Args:
        family: Of all students.
        backbone: One with a file under `backbone`.
        seed: Of weights, data and prompts.
        stage: 1, 2 or 3.
        student: That the stage before wrote; None for the first.
    """
    files = [family.recipe_files()[0], family.recipe_files()[stage]]
    files += [family.experiments / "backbone" / f"{backbone}.yaml"] if stage == 1 else []
    words = [word for file in files for word in ("-c", str(file))]
    words += [f"--model.teacher={family.teacher}", f"--data.root={family.data[DATA_OF[stage]]}"]
    words += [f"--model.init_from={student}"] if student is not None else []
    words += [f"--model.text={family.text}"] if stage == 3 and family.text is not None else []
    words += [f"--seed_everything={seed}", f"--data.seed={seed}"]
    accelerator = ACCELERATORS.get(family.device.split(":")[0], "auto")
    words += [f"--trainer.accelerator={accelerator}", "--trainer.devices=1", "--trainer.enable_progress_bar=false"]
    steps = family.steps[stage - 1]
    words += ["--trainer.max_epochs=-1", f"--trainer.max_steps={steps}"] if steps is not None else []
    # Short runs: no time for a validation, without which the last weights are the student.
    words += ["--trainer.limit_val_batches=0"] if family.recipes == "toy" else []
    return [*words, *family.stage_arguments[stage - 1], *family.more]


def make_and_measure(family: Family, run: Run, folder: Path) -> dict[str, Any]:
    """One row of the table, in a process of its own; the teacher's without the making."""
    name = run.variant.name
    if name == TEACHER_ROW:
        return measure(family, family.teacher, folder)
    student: Path | None = None
    for stage in STAGES:
        arguments = fit_arguments(family, name, run.seed, stage, student)
        student = fit_apart(folder / f"stage{stage}", arguments, stage, folder / LOG)
    assert student is not None
    values = measure(family, str(student), folder)
    for stage in STAGES:  # what is measured needs no resume
        shutil.rmtree(folder / f"stage{stage}" / "checkpoints", ignore_errors=True)
    provenance = json.loads((student / "config.json").read_text())["provenance"]
    return {**values, "student": str(student), "trunk_weights": provenance["trunk_weights"]}


def fit_apart(folder: Path, arguments: Sequence[str], stage: int, log: Path) -> Path:
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
            raise UserError(f"stage {stage}: {ended}{said}")
        if not (folder / "student").is_dir():
            raise UserError(f"stage {stage}: ended without a student; {log} says why")
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
