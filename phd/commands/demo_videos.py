"""Stage 2 of the demo: a memory, distilled on clips into the student of stage 1."""

from __future__ import annotations

import json
from pathlib import Path

from phd.commands.demo_images import TEST_SEED, TRAIN_SEED
from phd.commands.steps import World, evaluate_once, fit_once, once, recipe, say, settings_of, world_shards

TRAIN, TEST, STRIPS = 72, 8, 2
# Two processes that render; training clips of 3 to 4 seconds have enough frames.
RENDER = ("--workers", "2")


def data(out: Path, train: int, test: int) -> dict[str, Path]:
    """Shards of clips, by split."""
    worlds = {
        "train": World("sav", train, TRAIN_SEED, (*RENDER, "--seconds", "3", "4")),
        "test": World("sav", test, TEST_SEED, RENDER),
    }
    return {split: world_shards(out / "data", world) for split, world in worlds.items()}


def stage(
    out: Path, shards: dict[str, Path], experiments: Path, more: list[str], student: str, teacher: str
) -> dict[str, str]:
    """Distil the memory, and evaluate what it started from and what came out, beside the teacher.

    Args:
        out: Folder of the demo.
        shards: As `data` made them.
        experiments: Folder of the YAML files.
        more: Arguments for `phd fit`.
        student: Of stage 1, whose memory is dense, inherited from the teacher.
        teacher: Its name.

    Returns:
        Paths: the evaluations `dense` (of stage 1's student as it is), `before` (the same with an untrained
        compressor, which the training starts from) and `after`, and the student that came out, `student`.
    """
    before = once(out / "stage2" / "before", lambda partial: new_memory(Path(student), partial, experiments))
    arguments = [*recipe(experiments, "stage2", shards["train"]), f"--model.init_from={before}", *more]
    after = fit_once(out / "stage2" / "run", arguments)
    evaluate = ["video", "--data", str(shards["test"]), "--protocol", "sav", "--model"]
    results = {
        "dense": evaluate_once(out / "video_dense.json", [*evaluate, student]),
        "before": evaluate_once(out / "video_before.json", [*evaluate, str(before)]),
        "after": evaluate_once(out / "video_after.json", [*evaluate, str(after), "--teacher", teacher]),
    }
    numbers = {name: json.loads(path.read_text()) for name, path in results.items()}
    say("J&F: " + ", ".join(f"{found['jf']:.3f} {name}" for name, found in numbers.items()))
    return {**{name: str(path) for name, path in results.items()}, "student": str(after)}


def section(numbers: dict[str, str], test: Path, teacher: str) -> str:
    """The stage's part of the report, with strips of the clips in which an object is gone for longest."""
    import numpy as np

    from datamodules.labelled_videos import shard_videos
    from datamodules.reader import ShardReader
    from phd.film_strip import longest_absence
    from phd.outputs import LabelledVideo
    from phd.report.videos import video_section

    def gone(video: LabelledVideo) -> int:
        seen = np.array([[masks[place] is not None for place in video.labelled] for masks in video.masks])
        first, last = longest_absence(seen) or (0, -1)
        return last - first + 1

    videos = sorted(shard_videos(ShardReader(test)), key=gone, reverse=True)
    return video_section(numbers, videos[:STRIPS], teacher)


def new_memory(student: Path, folder: Path, experiments: Path) -> None:
    """The student of stage 1 with the new memory that the recipe asks for."""
    import torch

    from phd.heads.memory.compressors import MemorySettings
    from phd.student import Student

    settings = settings_of(experiments, "stage2", "model")["memory"]
    model = Student.from_pretrained(student)
    torch.manual_seed(0)
    model.set_memory(MemorySettings(**settings))
    model.save(folder)
