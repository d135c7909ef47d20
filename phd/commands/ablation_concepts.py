"""The ablations of stage 3: the same student, fine-tuned in several ways on scenes with phrases."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phd.commands.ablation_common import (
    Numbers,
    Protocol,
    identity,
    load_start,
    named_student,
    require_all,
    require_positive,
    train_and_measure,
)
from phd.commands.steps import World, evaluate_once, require_recipes, world_shards
from phd.errors import UserError
from phd.one_command import claim, only_command_in

if TYPE_CHECKING:
    from phd.ablation.plan import Variant
    from phd.ablation.run import Outcome

DEMO_STUDENT = Path("runs/demo/stage2/run/student")
# Of `phd evaluate concepts` and `phd evaluate images`, as they stand in results.json.
CONCEPTS = ("cgf1", "pmf1", "il_mcc", "presence_ece", "il_fpr", "num_positive", "num_negative")
IMAGES = ("box_miou", "click1_miou")
Findings = Callable[[Sequence["Variant"], Sequence["Outcome"], Mapping[str, Mapping[str, float]]], list[str]]


@dataclass(frozen=True)
class Kind:
    """One of these ablations.

    Attributes:
        name: Of the subcommand.
        first: Head of the table's first column.
        numbers: By option; with `stills` also points and boxes are measured.
        recipes: YAML files under `toy` of every run, in order.
        schedules: Further ones, of single variants.
        shapes: Arguments for the training scenes.
        limits: Flags for `phd fit` that say how long a run is.
        names: Of the variants, by default.
        variant: Makes one.
        notes: Sentences of the protocol.
        findings: Paragraphs from variants, outcomes and reference rows.
    """

    name: str
    first: str
    numbers: Numbers
    recipes: tuple[str, ...]
    schedules: tuple[str, ...]
    shapes: tuple[str, ...]
    limits: tuple[str, ...]
    names: tuple[str, ...]
    variant: Callable[[str], Variant]
    notes: tuple[str, ...]
    findings: Findings

    @property
    def counts(self) -> list[str]:
        """The numbers that must be at least 1."""
        return [name for name in self.numbers if not name.endswith("seed")]


def conduct(kind: Kind, options: argparse.Namespace, more: list[str]) -> None:
    """Train and measure what is not there yet, and write table, plot and section.

    Raises:
        UserError: A setting is out of range, there is no student to start from, or a run failed.
    """
    from phd.ablation.plan import plan_runs
    from phd.ablation.run import SETTINGS, run_all
    from phd.commands.ablation_concepts_report import report

    require_recipes(options.experiments, [*kind.recipes, *kind.schedules])
    require_positive(options, [*kind.counts, "jobs", "seeds"])
    variants = [kind.variant(name) for name in options.only or kind.names]
    runs = plan_runs(variants, options.first_seed, options.seeds)
    init = starting_student(options)
    student, weights = load_start(options, init)
    files = [*kind.recipes, *kind.schedules]
    with only_command_in(options.out):
        claim(options.out / SETTINGS, identity(kind.name, options, kind.numbers, files, weights, more))
        protocol = prepare(kind, options, init, more)
        outcomes = run_all(runs, partial(train_and_measure, measure, protocol), options.out, options.jobs)
        references = {"the teacher": measure(protocol, options.teacher, options.out / "teacher")}
        if "stills" in protocol.tests:
            references["the student before"] = measure_boxes(protocol, str(init), options.out / "before")
        report(kind, options, protocol, variants, outcomes, student, references)
        require_all(outcomes, options.out)


def starting_student(options: argparse.Namespace) -> Path:
    """The student of stage 2: the one that is named, or the demo's.

    Raises:
        UserError: There is neither.
    """
    init = named_student(options, DEMO_STUDENT)
    if init is None:
        raise UserError(
            f"--init: there is no {DEMO_STUDENT}; run `make demo` first, or name a student of stage 2 or stage 1"
        )
    return init


def prepare(kind: Kind, options: argparse.Namespace, init: Path, more: list[str]) -> Protocol:
    """Render the scenes; those to measure on have as many false phrases as true ones."""
    root = options.out / "data"
    tests = {"concepts": World("saco-gold", options.scenes, options.test_seed)}
    if "stills" in kind.numbers:
        tests["stills"] = World("sa1b", options.stills, options.test_seed + 1)
    return Protocol(
        teacher=options.teacher,
        init=init,
        experiments=options.experiments,
        recipes=kind.recipes,
        train=world_shards(root, World("saco-silver", options.train_scenes, options.train_seed, kind.shapes)),
        tests={name: world_shards(root, world) for name, world in tests.items()},
        limits=(f"--trainer.max_steps={options.steps}", *kind.limits),
        more=tuple(more),
    )


def measure(protocol: Protocol, model: str, folder: Path) -> dict[str, Any]:
    """How well a model finds concepts, and boxes where stills are given."""
    asked = ["concepts", "--data", str(protocol.tests["concepts"]), "--model", model]
    found = json.loads(evaluate_once(folder / "concepts.json", asked).read_text())
    values = {name: found[name] for name in CONCEPTS}
    return values | (measure_boxes(protocol, model, folder) if "stills" in protocol.tests else {})


def measure_boxes(protocol: Protocol, model: str, folder: Path) -> dict[str, Any]:
    """Mean IoU from a box and from a point, the verbs that earlier stages taught."""
    asked = ["images", "--data", str(protocol.tests["stills"]), "--model", model]
    found = json.loads(evaluate_once(folder / "images.json", asked).read_text())
    return {name: found[name] for name in IMAGES}
