"""`phd demo`: the stages on the embedded world, end to end, with a report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from phd.commands.steps import fit_once, once, say, split_at_dashes
from phd.errors import UserError

TEACHER = "toy-teacher"
BACKBONE = "efficientvit_b0"
TRAIN_SCENES, TEST_SCENES, PICTURES = 800, 50, 6
# Seeds of the world: the embedded teacher was trained on seed 1, and no test scene was seen by anyone.
TRAIN_SEED, TEST_SEED = 2, 9000


def run(arguments: list[str]) -> None:
    """Run what is not there yet, and write the report."""
    parser = argparse.ArgumentParser(
        prog="phd demo",
        description="Distil one student on the embedded world.",
        epilog="After --: more arguments for phd fit.",
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/demo"), help="folder of the demo")
    parser.add_argument("--train-scenes", type=int, default=TRAIN_SCENES)
    parser.add_argument("--test-scenes", type=int, default=TEST_SCENES)
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the YAML files")
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)
    if not (options.experiments / "toy" / "stage1.yaml").is_file():
        raise UserError(f"{options.experiments}: no toy/stage1.yaml; run in the checkout or set --experiments")
    data = make_data(options.out / "data", options.train_scenes, options.test_scenes)
    numbers = {"image": stage1(options.out, data, options.experiments, more)}
    # Stage 2 adds numbers["video"] and stage 3 numbers["concept"]; the report shows every section it is given.
    from datamodules.labelled import labelled_images
    from datamodules.reader import ShardReader
    from phd.report import write_report

    samples = list(labelled_images(ShardReader(data["test"]), PICTURES))
    page = write_report(options.out, numbers, samples, TEACHER)
    say(f"[bold]report:[/] {page}")


def make_data(root: Path, train_scenes: int, test_scenes: int) -> dict[str, Path]:
    """Shards of the embedded world, by split; written once."""
    from phd.cli import run as phd

    splits = {"train": (train_scenes, TRAIN_SEED), "test": (test_scenes, TEST_SEED)}
    for split, (samples, seed) in splits.items():
        raw = root / f"raw-{split}-{samples}"
        once(raw, lambda raw=raw, n=samples, s=seed: phd(["shapes", str(raw), "--samples", str(n), "--seed", str(s)]))
        once(root / split, lambda raw=raw, split=split: phd(["shards", "convert", "sa1b", str(raw), str(root / split)]))
    return {split: root / split for split in splits}


def stage1(out: Path, data: dict[str, Path], experiments: Path, more: list[str]) -> dict[str, str]:
    """Stage 1: the student as it starts, distilled, and both evaluated beside the teacher.

    Returns:
        Paths of the evaluations before and after.
    """
    from phd.cli import run as phd

    before = out / "stage1" / "before"
    once(before, lambda: new_student(before))
    recipe = ["-c", str(experiments / "trainer.yaml"), "-c", str(experiments / "toy" / "stage1.yaml")]
    after = fit_once(
        out / "stage1" / "run", [*recipe, f"--model.init_from={before}", f"--data.root={data['train']}", *more]
    )
    results = {"before": out / "before.json", "after": out / "after.json"}
    for name, student in (("before", before), ("after", after)):
        evaluate = ["evaluate", "images", "--data", str(data["test"]), "--model", str(student)]
        evaluate += ["--teacher", TEACHER] if name == "after" else []
        once(results[name], lambda evaluate=evaluate, name=name: phd([*evaluate, "--json", str(results[name])]))
    numbers = {name: json.loads(path.read_text()) for name, path in results.items()}
    say(f"box mIoU: {numbers['before']['box_miou']:.3f} before, {numbers['after']['box_miou']:.3f} after")
    return {**{name: str(path) for name, path in results.items()}, "student": str(after), "untrained": str(before)}


def new_student(folder: Path) -> None:
    """The student before any distillation: timm's trunk, a new neck, the teacher's heads."""
    import torch

    from phd.student import Student
    from phd.teachers import load_teacher

    torch.manual_seed(0)
    Student.create(BACKBONE, load_teacher(TEACHER)).save(folder, stage="none")
