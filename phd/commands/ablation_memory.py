"""`phd ablation memory`: the memories of `phd.ablation.memory`, distilled and tracked with on the embedded world."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from phd.ablation.plan import Run
from phd.commands.steps import World, evaluate_once, fit_once, require_recipes, say, world_shards
from phd.errors import UserError

TEACHER = "toy-teacher"
# By option: default and meaning. Nothing else is trained or measured on these seeds of the world.
NUMBERS = {
    "steps": (60, "of each run"),
    "train_clips": (40, "clips to train on"),
    "clips": (10, "clips to measure on, of each kind"),
    "train_seed": (21, "of the training clips"),
    "test_seed": (9100, "of the clips to measure on; those with long occlusion have the next one"),
}
RECIPES = ("stage2", "ablation_memory")
DEMO_STUDENT = Path("runs/demo/stage1/run/student")


@dataclass(frozen=True)
class Protocol:
    """What all runs have in common; sent to their processes.

    Attributes:
        teacher: Its name.
        init: Student to start from.
        experiments: Folder of the YAML files.
        train: Shards.
        tests: Shards by the prefix of their results.
        steps: Of the optimiser.
        more: Arguments for `phd fit`.
    """

    teacher: str
    init: Path
    experiments: Path
    train: Path
    tests: dict[str, Path]
    steps: int
    more: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--teacher", default=TEACHER, help="of stage 2; the first row of the table (%(default)s)")
    for name, (default, what) in NUMBERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{what} (%(default)s)")


def run(options: argparse.Namespace, more: list[str]) -> None:
    """Train and measure what is not there yet, and write table, plot and section."""
    from phd.ablation.memory import NAMES, memory_variant
    from phd.ablation.plan import plan_runs
    from phd.ablation.run import claim, run_all
    from phd.commands.ablation_memory_report import report
    from phd.student import Student
    from phd.teachers import load_teacher
    from phd.teachers.fingerprint import weights_sha256

    require_recipes(options.experiments, RECIPES)
    for name in ("steps", "train_clips", "clips", "jobs", "seeds"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give at least 1")
    init = starting_student(options)
    student, teacher = Student.from_pretrained(init), load_teacher(options.teacher)
    student.contract.require_equal(teacher.contract, f"the student {init}", f"the teacher {options.teacher}")
    grid = student.heads.tracker_model.backbone_feature_sizes[-1][0]
    variants = [memory_variant(name, grid) for name in options.only or NAMES]
    runs = plan_runs(variants, options.first_seed, options.seeds)
    recipes = [(options.experiments / "toy" / f"{name}.yaml").read_bytes() for name in RECIPES]
    identity = {
        "ablation": "memory",
        **{name: getattr(options, name) for name in NUMBERS},
        "student": weights_sha256(student),
        "teacher": weights_sha256(teacher),
        "recipe": hashlib.sha256(b"".join(recipes)).hexdigest(),
        "more": more,
    }
    claim(options.out, identity)
    protocol = prepare(options, init, more)
    outcomes = run_all(runs, partial(train_and_measure, protocol), options.out, options.jobs)
    (options.out / "teacher").mkdir(exist_ok=True)
    theirs = measure(protocol, options.teacher, options.out / "teacher")
    defaults = {name: default for name, (default, _) in NUMBERS.items()}
    report(options, protocol, variants, outcomes, student, theirs, defaults)
    failed = [each for each in outcomes if each.values is None]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(outcomes)} runs failed, the first is {failed[0].run.name}: {failed[0].error}; see "
            f"{options.out / 'runs' / failed[0].run.name / 'log.txt'}, then run the same command again"
        )


def starting_student(options: argparse.Namespace) -> Path:
    """The student of stage 1: the one that is named, the demo's, or one made as the demo does.

    Raises:
        UserError: There is none of that name.
    """
    if options.init is not None:
        if not options.init.is_dir():
            raise UserError(f"--init {options.init}: no such folder; name a student, or leave it out")
        return options.init
    if DEMO_STUDENT.is_dir():
        return DEMO_STUDENT
    from phd.commands import demo_images
    from phd.commands.demo import BACKBONE

    say(f"no {DEMO_STUDENT}: making a student of stage 1 as phd demo does")
    out = options.out / "demo"
    shards = demo_images.data(out, demo_images.TRAIN, demo_images.TEST)
    return Path(demo_images.stage(out, shards, options.experiments, [], BACKBONE, options.teacher)["student"])


def prepare(options: argparse.Namespace, init: Path, more: list[str]) -> Protocol:
    """Render the clips."""
    root = options.out / "data"
    plain = World("sav", options.clips, options.test_seed)
    hidden = World("sav", options.clips, options.test_seed + 1, ("--occlusion", "long"))
    return Protocol(
        teacher=options.teacher,
        init=init,
        experiments=options.experiments,
        train=world_shards(root, World("sav", options.train_clips, options.train_seed)),
        tests={"": world_shards(root, plain), "long_": world_shards(root, hidden)},
        steps=options.steps,
        more=tuple(more),
    )


def train_and_measure(protocol: Protocol, run: Run, folder: Path) -> dict[str, Any]:
    """One run, in a process of its own."""
    toys = (protocol.experiments / "toy" / f"{name}.yaml" for name in RECIPES)
    arguments = [
        *(word for file in (protocol.experiments / "trainer.yaml", *toys) for word in ("-c", str(file))),
        f"--model.init_from={protocol.init}",
        f"--model.teacher={protocol.teacher}",
        f"--data.root={protocol.train}",
        *(f"--{name}={run.seed}" for name in ("seed_everything", "data.seed")),
        f"--trainer.max_steps={protocol.steps}",
        *run.variant.flags,
        *protocol.more,
    ]
    student = fit_once(folder / "fit", arguments)
    values = measure(protocol, str(student), folder)
    shutil.rmtree(folder / "fit" / "checkpoints", ignore_errors=True)  # what is measured needs no resume
    return values


def measure(protocol: Protocol, model: str, folder: Path) -> dict[str, Any]:
    """J, F, J&F and tokens of a model on all test clips."""
    values: dict[str, Any] = {}
    for name, shards in protocol.tests.items():
        asked = ["video", "--data", str(shards), "--model", model, "--protocol", "sav"]
        found = json.loads(evaluate_once(folder / f"{name}video.json", asked).read_text())
        values |= {f"{name}{part}": found[part] for part in ("j", "f", "jf")}
        values |= {"tokens": found["memory_tokens"], f"{name}objects": found["num_objects"]}
    return values
