"""Stage 3 of the demo: noun phrases, true and false, taught to the student of stage 2."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from phd.commands.demo_images import TEST_SEED, TRAIN_SEED
from phd.commands.steps import World, evaluate_once, fit_once, once, recipe, say, settings_of, world_shards

TRAIN, TEST, PICTURES = 432, 40, 3


def data(out: Path, train: int, test: int) -> dict[str, Path]:
    """Shards of scenes with phrases, by split; to test, three annotators have answered."""
    worlds = {"train": World("saco-silver", train, TRAIN_SEED), "test": World("saco-gold", test, TEST_SEED)}
    return {split: world_shards(out / "data", world) for split, world in worlds.items()}


def stage(
    out: Path, shards: dict[str, Path], experiments: Path, more: list[str], student: str, teacher: str
) -> dict[str, str]:
    """Fine-tune on phrases, and evaluate what it started from and what came out, beside the teacher.

    Args:
        out: Folder of the demo.
        shards: As `data` made them.
        experiments: Folder of the YAML files.
        more: Arguments for `phd fit`.
        student: Of stage 2, which reads no phrases yet; its detector has the teacher's weights.
        teacher: Its name.

    Returns:
        Paths: the evaluations `before` and `after`, the students `untrained` (of stage 2, with a text encoder) and
        `student`.
    """
    before = once(out / "stage3" / "before", lambda partial: new_text(Path(student), partial, experiments, teacher))
    arguments = [*recipe(experiments, "stage3", shards["train"]), f"--model.init_from={before}", *more]
    after = fit_once(out / "stage3" / "run", arguments)
    evaluate = ["concepts", "--data", str(shards["test"]), "--model"]
    results = {
        "before": evaluate_once(out / "concept_before.json", [*evaluate, str(before)]),
        "after": evaluate_once(out / "concept_after.json", [*evaluate, str(after), "--teacher", teacher]),
    }
    numbers = {name: json.loads(path.read_text()) for name, path in results.items()}
    say("cgF1: " + ", ".join(f"{found['cgf1']:.3f} {name}" for name, found in numbers.items()))
    return {**{name: str(path) for name, path in results.items()}, "student": str(after), "untrained": str(before)}


def section(numbers: dict[str, str], test: Path, teacher: str) -> str:
    """The stage's part of the report, with the first scenes of which something is true and something is not."""
    from datamodules.labelled_concepts import ConceptImages
    from datamodules.reader import ShardReader
    from phd.report.concepts import concept_section
    from phd.report.phrases import agreed

    shown = (sample for sample in ConceptImages(ShardReader(test)) if all(agreed(sample)))
    return concept_section(numbers, list(islice(shown, PICTURES)), teacher)


def new_text(student: Path, folder: Path, experiments: Path, teacher: str) -> None:
    """The student of stage 2 with the text encoder that the recipe asks for, as stage 3 would give it."""
    import torch

    from phd.stages.concept_start import settle_text
    from phd.student import Student
    from phd.teachers import load_teacher

    settings = settings_of(experiments, "stage3", "model")
    model = Student.from_pretrained(student)
    torch.manual_seed(0)
    settle_text(model, settings["text"], settings.get("text_context"), replace=False, teacher=load_teacher(teacher))
    model.save(folder)
