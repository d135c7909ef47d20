"""`phd ablation memory`: the memories of `phd.ablation.memory`, distilled and tracked with on the embedded world."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from phd.commands.ablation_common import (
    Protocol,
    add_numbers,
    identity,
    load_start,
    named_student,
    require_all,
    require_positive,
    train_and_measure,
)
from phd.commands.steps import World, evaluate_once, require_recipes, say, world_shards
from phd.one_command import claim, only_command_in

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    add_numbers(parser, NUMBERS, "of stage 2; the first row of the table")


def run(options: argparse.Namespace, more: list[str]) -> None:
    """Train and measure what is not there yet, and write table, plot and section."""
    from phd.ablation.memory import NAMES, memory_variant
    from phd.ablation.plan import plan_runs
    from phd.ablation.run import SETTINGS, run_all
    from phd.commands.ablation_memory_report import report

    require_recipes(options.experiments, RECIPES)
    require_positive(options, ("steps", "train_clips", "clips", "jobs", "seeds"))
    init = named_student(options, DEMO_STUDENT) or new_start(options)
    student, weights = load_start(options, init)
    grid = student.heads.tracker_model.backbone_feature_sizes[-1][0]
    variants = [memory_variant(name, grid) for name in options.only or NAMES]
    runs = plan_runs(variants, options.first_seed, options.seeds)
    with only_command_in(options.out):
        claim(options.out / SETTINGS, identity("memory", options, NUMBERS, RECIPES, weights, more))
        protocol = prepare(options, init, more)
        outcomes = run_all(runs, partial(train_and_measure, measure, protocol), options.out, options.jobs)
        (options.out / "teacher").mkdir(exist_ok=True)
        theirs = measure(protocol, options.teacher, options.out / "teacher")
        report(options, protocol, variants, outcomes, student, theirs)
        require_all(outcomes, options.out)


def new_start(options: argparse.Namespace) -> Path:
    """A student of stage 1, made as the demo does."""
    from phd.commands import demo_images
    from phd.commands.demo import BACKBONE

    say(f"no {DEMO_STUDENT}: making a student of stage 1 as phd demo does")
    out = options.out / "demo"
    shards = demo_images.data(out, demo_images.TRAIN, demo_images.TEST)
    return Path(demo_images.stage(out, shards, options.experiments, [], BACKBONE, options.teacher)["student"])


def prepare(options: argparse.Namespace, init: Path, more: list[str]) -> Protocol:
    """Render the clips; those to measure on by the prefix of their results."""
    root = options.out / "data"
    plain = World("sav", options.clips, options.test_seed)
    hidden = World("sav", options.clips, options.test_seed + 1, ("--occlusion", "long"))
    return Protocol(
        teacher=options.teacher,
        init=init,
        experiments=options.experiments,
        recipes=RECIPES,
        train=world_shards(root, World("sav", options.train_clips, options.train_seed)),
        tests={"": world_shards(root, plain), "long_": world_shards(root, hidden)},
        limits=(f"--trainer.max_steps={options.steps}",),
        more=tuple(more),
    )


def measure(protocol: Protocol, model: str, folder: Path) -> dict[str, Any]:
    """J, F, J&F and tokens of a model on all test clips."""
    values: dict[str, Any] = {}
    for name, shards in protocol.tests.items():
        asked = ["video", "--data", str(shards), "--model", model, "--protocol", "sav"]
        found = json.loads(evaluate_once(folder / f"{name}video.json", asked).read_text())
        values |= {f"{name}{part}": found[part] for part in ("j", "f", "jf")}
        values |= {"tokens": found["memory_tokens"], f"{name}objects": found["num_objects"]}
    return values
