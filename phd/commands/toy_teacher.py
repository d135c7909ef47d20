"""`phd toy-teacher`: make the embedded teacher again, by the same modules that users train with."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from phd.commands.steps import World, fit_once, once, recipe, require_recipes, say, split_at_dashes, world_shards

SCENES, CLIPS, PHRASES, SEED = 9000, 800, 8000, 1
SETTLING_SAMPLES, SETTLING_PHRASES = 32, 64


@dataclass(frozen=True)
class Part:
    """One run of `phd fit`, which goes on from the one before.

    Attributes:
        recipe: Its file under `experiments/toy`, which names the stage.
        data: Which part of the world it is for; a key of `worlds`.
        settles: What starts anew before the run, settled on the features so far.
    """

    recipe: str
    data: str = "scenes"
    settles: Literal["memory", "detector"] | None = None


PARTS = (
    Part("teacher_64"),
    Part("teacher_128"),
    Part("teacher_fine"),
    Part("teacher_words_start", "phrases"),
    Part("teacher_words", "phrases"),
    Part("teacher_things_small", "phrases"),
    Part("teacher_words_scenes", "phrases"),
    Part("teacher_boxes", "phrases", settles="detector"),
    Part("teacher_things", "phrases"),
    Part("teacher_points", "phrases"),
    Part("teacher_borders"),
    Part("teacher_memory_start", "clips", settles="memory"),
    Part("teacher_memory_small", "clips"),
    Part("teacher_memory_long", "clips"),
    Part("teacher_memory_apart", "clips"),
    Part("teacher_memory_192", "clips"),
    Part("teacher_masks"),
    Part("teacher_concepts", "phrases"),
    Part("teacher_concepts_fine", "phrases"),
)


def worlds(options: argparse.Namespace) -> dict[str, World]:
    """What there is to train on, by name; rendered when the first part asks for it."""
    return {
        "scenes": World("sa1b", options.scenes, SEED),
        "clips": World("sav", options.clips, SEED),
        "phrases": World("saco-silver", options.phrases, SEED),
    }


def run(arguments: list[str]) -> None:
    """Data, the runs of `phd fit`, and the file in the package."""
    parser = argparse.ArgumentParser(
        prog="phd toy-teacher",
        description="Train the embedded teacher from nothing.",
        epilog="After --: more arguments for phd fit.",
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/toy-teacher"), help="folder of the runs")
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of the embedded world to train on")
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips of the moving world to train on")
    parser.add_argument("--phrases", type=int, default=PHRASES, help="scenes with phrases to train on")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the YAML files")
    parser.add_argument("--install", action="store_true", help="replace the file in the package")
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)
    require_recipes(options.experiments, [part.recipe for part in PARTS])
    teacher = train(options.out, worlds(options), options.experiments, more)

    from safetensors.torch import save_file

    from phd.teachers import load_teacher
    from phd.teachers.toy import SHIPPED, shipped_parts

    file = options.out / SHIPPED.name
    save_file(shipped_parts(load_teacher(str(teacher)).model.state_dict()), file)
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    if options.install:
        shutil.copy(file, SHIPPED)
        say(f"installed as {SHIPPED}")


def train(out: Path, data: dict[str, World], experiments: Path, more: list[str]) -> Path:
    """Run all parts that are not done yet; the first begins as its file says, the others where the last one ended.

    Returns:
        The folder of the trained teacher.
    """
    folder: Path | None = None
    for part in PARTS:
        shards = world_shards(out, data[part.data])
        if part.settles is not None and folder is not None:
            settle = partial(SETTLE[part.settles], folder, shards)
            folder = once(out / f"settled_{part.settles}", settle)
        arguments = [*recipe(experiments, part.recipe, shards), *more]
        folder = fit_once(out / part.recipe, [*arguments, f"--model.segmenter={folder}"] if folder else arguments)
    assert folder is not None
    return folder


def settle_memory_of(teacher: Path, shards: Path, out: Path) -> None:
    """Write the teacher with the start of its memory settled on the first frames of some clips."""
    import torch

    from datamodules.clip_transform import ClipChoice, ClipTransform
    from datamodules.clips import ShardClips, collate
    from datamodules.reader import ShardReader
    from phd.teachers import load_teacher
    from phd.teachers.toy_memory import settle_memory

    model, reader = load_teacher(str(teacher)).eval(), ShardReader(shards)
    count = min(SETTLING_SAMPLES, len(reader))
    clips = ShardClips(reader, ClipTransform(model.contract, None, ClipChoice(), train=False), 0, count)
    with torch.no_grad():
        batch = collate([clips[(0, number, 1)] for number in range(count)])
        settle_memory(model, model.contract.normalise(batch.frames.flatten(0, 1), batch.content))
    model.save(out, stage="settled memory")


def settle_detector_of(teacher: Path, shards: Path, out: Path) -> None:
    """Write the teacher with the start of its detector settled on some scenes and their phrases."""
    import torch

    from datamodules.concepts import Concepts
    from phd.teachers import load_teacher
    from phd.teachers.toy_detector import settle_detector

    model = load_teacher(str(teacher)).eval()
    data = Concepts(
        str(shards), str(shards), batch_size=SETTLING_SAMPLES, val_samples=SETTLING_SAMPLES, contract=model.contract
    )
    data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        images = model.contract.normalise(batch.images, batch.content)
        settle_detector(model, images, batch.phrases[:SETTLING_PHRASES])
    model.save(out, stage="settled detector")


SETTLE: dict[str, Callable[[Path, Path, Path], None]] = {"memory": settle_memory_of, "detector": settle_detector_of}
