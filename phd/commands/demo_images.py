"""Stage 1 of the demo: an image encoder, distilled on scenes."""

from __future__ import annotations

import json
from pathlib import Path

from phd.commands.steps import World, evaluate_once, fit_once, once, recipe, say, world_shards

TRAIN, TEST, PICTURES = 640, 50, 6
# Seeds of the world, of all stages: the embedded teacher saw scenes of 1 to 3; no test sample was seen by anyone.
TRAIN_SEED, TEST_SEED = 2, 9000


def data(out: Path, train: int, test: int) -> dict[str, Path]:
    """Shards of scenes, by split."""
    worlds = {"train": World("sa1b", train, TRAIN_SEED), "test": World("sa1b", test, TEST_SEED)}
    return {split: world_shards(out / "data", world) for split, world in worlds.items()}


def stage(
    out: Path, shards: dict[str, Path], experiments: Path, more: list[str], backbone: str, teacher: str
) -> dict[str, str]:
    """The student as it starts, distilled, and both evaluated beside the teacher.

    Returns:
        Paths: the evaluations `before` and `after`, the students `untrained` and `student`.
    """
    before = once(out / "stage1" / "before", lambda partial: new_student(partial, backbone, teacher))
    arguments = [*recipe(experiments, "stage1", shards["train"]), f"--model.init_from={before}", *more]
    after = fit_once(out / "stage1" / "run", arguments)
    evaluate = ["images", "--data", str(shards["test"]), "--model"]
    results = {
        "before": evaluate_once(out / "before.json", [*evaluate, str(before)]),
        "after": evaluate_once(out / "after.json", [*evaluate, str(after), "--teacher", teacher]),
    }
    numbers = {name: json.loads(path.read_text()) for name, path in results.items()}
    say(f"box mIoU: {numbers['before']['box_miou']:.3f} before, {numbers['after']['box_miou']:.3f} after")
    return {**{name: str(path) for name, path in results.items()}, "student": str(after), "untrained": str(before)}


def section(numbers: dict[str, str], test: Path, teacher: str) -> str:
    """The stage's part of the report."""
    from datamodules.labelled import labelled_images
    from datamodules.reader import ShardReader
    from phd.report.images import image_section

    return image_section(numbers, list(labelled_images(ShardReader(test), PICTURES)), teacher)


def new_student(folder: Path, backbone: str, teacher: str) -> None:
    """The student before any distillation: timm's trunk, a new neck, the teacher's heads."""
    import torch

    from phd.student import Student
    from phd.teachers import load_teacher

    torch.manual_seed(0)
    Student.create(backbone, load_teacher(teacher)).save(folder, stage="none")
