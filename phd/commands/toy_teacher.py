"""`phd toy-teacher`: make the embedded teacher again, by the same module that users train with."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from phd.commands.steps import fit_once, once, say, split_at_dashes

SCENES, SEED = 9000, 1
# Each goes on from the one before; the files under experiments/toy.
PARTS = ("teacher_64", "teacher_128", "teacher_fine")


def run(arguments: list[str]) -> None:
    """Data, three runs of `phd fit`, and the file in the package."""
    parser = argparse.ArgumentParser(
        prog="phd toy-teacher",
        description="Train the embedded teacher from nothing.",
        epilog="After --: more arguments for phd fit.",
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/toy-teacher"), help="folder of the runs")
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of the embedded world to train on")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the YAML files")
    parser.add_argument("--install", action="store_true", help="replace the file in the package")
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)

    from safetensors.torch import save_file

    from phd.cli import run as phd
    from phd.teachers import load_teacher
    from phd.teachers.toy import SHIPPED, shipped_parts

    raw, shards = options.out / "raw", options.out / "shards"
    once(raw, lambda: phd(["shapes", str(raw), "--samples", str(options.scenes), "--seed", str(SEED)]))
    once(shards, lambda: phd(["shards", "convert", "sa1b", str(raw), str(shards)]))
    start: Path | None = None
    for name in PARTS:
        recipe = ["-c", str(options.experiments / "trainer.yaml")]
        recipe += ["-c", str(options.experiments / "toy" / f"{name}.yaml"), f"--data.root={shards}", *more]
        start = fit_once(options.out / name, [*recipe, f"--model.segmenter={start}"] if start else recipe)
    teacher = load_teacher(str(start))
    file = options.out / SHIPPED.name
    save_file(shipped_parts(teacher.model.state_dict()), file)
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    if options.install:
        shutil.copy(file, SHIPPED)
        say(f"installed as {SHIPPED}")
