"""`phd family`: the students through the three stages, and one table that has the teacher as 100 %."""

from __future__ import annotations

import argparse
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from phd.commands import family_data
from phd.commands.family_student import SMALL, TEACHER_ROW, Family, make_and_measure
from phd.commands.steps import TEACHER, split_at_dashes
from phd.errors import UserError
from phd.one_command import claim, only_command_in

# With the toy recipes; those for real data count epochs.
STEPS = {"stage1": 400, "stage2": 96, "stage3": 200}
ROUNDS = 15
HOURS = "four to six hours on 2 cores"


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="phd family",
        description=(
            "Distil students through the three stages and write one table: parameters, GMACs, CPU time, box mIoU, J&F, "
            f"cgF1, IL_MCC, and the share of the teacher's. All nine on the embedded world take {HOURS}; a stopped "
            "command goes on where it was. With --teacher and six folders of shards the same table of real weights."
        ),
        epilog="After --: more arguments for phd fit, of every stage.",
    )
    parser.add_argument(
        "out", type=Path, nargs="?", default=Path("runs/family"), help="folder of the runs; what is done is kept"
    )
    parser.add_argument("--only", nargs="+", metavar="BACKBONE", help="only these; all that have a file by default")
    parser.add_argument("--teacher", default=TEACHER, help="a SAM 3: folder, hub id, or %(default)s (the default)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        help="students at a time, with one thread each; they share the GPUs out (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the runs (%(default)s)")
    parser.add_argument("--device", help="cpu or cuda; cuda where there is one")
    parser.add_argument(
        "--recipes",
        choices=("toy", "full"),
        help="experiments/toy/stage1.yaml and so on, or experiments/stage1.yaml; toy on the embedded world, full on "
        "data of your own",
    )
    parser.add_argument(
        "--stage1-small-steps",
        type=int,
        metavar="N",
        help="with the toy recipes: begin stage 1 with so many steps of small views (none); in 6000, half an "
        "hour to several hours, a student learns what things are called",
    )
    parser.add_argument(
        "--stage1-small-args", metavar="ARGUMENTS", help="more arguments for phd fit of that part of stage 1"
    )
    for stage, steps in STEPS.items():
        parser.add_argument(
            f"--{stage}-steps", type=int, metavar="N", help=f"{steps} with the toy recipes; else as the recipe says"
        )
        parser.add_argument(
            f"--{stage}-args",
            metavar="ARGUMENTS",
            help=f"more arguments for phd fit of {stage}: --{stage}-args='--data.batch_size=1'",
        )
    parser.add_argument("--text", help="text encoder of the students: a name, or the folder that make text wrote")
    parser.add_argument("--protocol", choices=("davis", "sav", "lvos"), default="sav", help="of J&F (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each model is timed (%(default)s)")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the YAML files")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="markdown to write the section into; results.md in the folder"
    )
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here too")
    family_data.add_arguments(parser)
    return parser


def run(arguments: list[str]) -> None:
    """Train and measure what is not there yet, and write the table."""
    parser = build_parser()
    words, more = split_at_dashes(arguments)
    options = parser.parse_args(words)
    own = family_data.own_data(options)
    names = backbones(options.experiments, options.only)
    check_numbers(options)

    from phd.ablation.plan import Variant, plan_runs
    from phd.ablation.run import SETTINGS, run_all
    from phd.commands.family_report import report

    runs = plan_runs([Variant(name, ()) for name in (TEACHER_ROW, *names)], options.seed, 1)
    weights, image_size = teacher_facts(options.teacher)
    family = plan_family(options, own, more, image_size)
    recipes = family.recipe_files(*family.steps)
    if missing := [file for file in recipes if not file.is_file()]:
        raise UserError(f"{missing[0]}: no such recipe; run in the checkout or set --experiments")
    with only_command_in(options.out):
        claim(
            options.out / SETTINGS,
            {
                "teacher": weights,
                "recipe": hashlib.sha256(b"".join(file.read_bytes() for file in recipes)).hexdigest(),
                **{name: getattr(family, name) for name in ("recipes", "steps", "text", "protocol", "stage_arguments")},
                "more": more,
                **family_data.identity(options, own),
            },
        )
        family = replace(family, data=family_data.family_data(options, own))
        outcomes = run_all(runs, partial(make_and_measure, family), options.out, options.jobs)
        report(options, family, outcomes, command(parser, options, more), own)
    failed = [each for each in outcomes if each.values is None]
    if failed:
        said = ", ".join(f"{each.run.variant.name} ({each.error})" for each in failed)
        log = options.out / "runs" / failed[0].run.name / "log.txt"
        raise UserError(f"failed: {said}; see {log}, then run the same command again")


def backbones(experiments: Path, only: Sequence[str] | None) -> list[str]:
    """Those that are asked for, or all that have a file: the paper's nine in its order, then the others.

    Raises:
        UserError: One has no file, or is named twice.
    """
    from phd.student.backbones import PAPER_TRUNKS

    files = sorted(file.stem for file in (experiments / "backbone").glob("*.yaml"))
    known = [*(name for name in PAPER_TRUNKS if name in files), *(name for name in files if name not in PAPER_TRUNKS)]
    if not known:
        raise UserError(f"{experiments / 'backbone'}: no YAML files; run in the checkout or set --experiments")
    for name in only or ():
        if name not in known:
            raise UserError(f"--only {name}: no {experiments / 'backbone' / name}.yaml; there are {', '.join(known)}")
    return list(only or known)


def check_numbers(options: argparse.Namespace) -> None:
    """Check what the parser does not.

    Raises:
        UserError: A number is too small.
    """
    for name in ("jobs", "rounds", f"{SMALL}_steps", *(f"{stage}_steps" for stage in STEPS)):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give at least 1")


def plan_family(options: argparse.Namespace, own: bool, more: list[str], image_size: int) -> Family:
    """What all runs have in common; the shards are not there yet.

    Args:
        options: Of the command.
        own: Whether the data are the user's own.
        more: For `phd fit` of every stage.
        image_size: The teacher's, in pixels.

    Raises:
        UserError: This machine has no such device, or small views are asked for of recipes that have none.
    """
    import torch

    from phd.commands.device import checked_device

    if ":" in (options.device or ""):
        raise UserError(f"--device {options.device}: students share the GPUs out; choose by CUDA_VISIBLE_DEVICES")
    recipes = options.recipes or ("full" if own else "toy")
    steps: dict[str, int | None] = {}
    if options.stage1_small_steps is not None:
        if recipes == "full":
            raise UserError("--stage1-small-steps: is for the toy recipes; leave it out, or add --recipes toy")
        steps[SMALL] = options.stage1_small_steps
    elif options.stage1_small_args is not None:
        raise UserError("--stage1-small-args: without small views nobody reads it; add --stage1-small-steps N")
    for stage, default in STEPS.items():
        given = getattr(options, f"{stage}_steps")
        steps[stage] = default if given is None and recipes == "toy" else given
    stage_arguments = {stage: tuple(shlex.split(getattr(options, f"{stage}_args") or "")) for stage in steps}
    return Family(
        teacher=options.teacher,
        experiments=options.experiments,
        recipes=recipes,
        data={},
        steps=steps,
        image_size=image_size,
        text=options.text,
        protocol=options.protocol,
        device=checked_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu")),
        stage_arguments=stage_arguments,
        more=tuple(more),
    )


def teacher_facts(name: str) -> tuple[str, int]:
    """The hash of its weights, and the side of its images in pixels.

    Raises:
        UserError: It cannot teach all three stages.
    """
    from phd.teachers import load_teacher
    from phd.teachers.fingerprint import weights_sha256

    teacher = load_teacher(name)
    lacking = [verb for verb in ("track", "detect") if verb not in teacher.verbs]
    if lacking:
        raise UserError(f"--teacher {name}: does not {lacking[0]}; the three stages take a SAM 3")
    return weights_sha256(teacher), teacher.contract.image_size


def command(parser: argparse.ArgumentParser, options: argparse.Namespace, more: list[str]) -> str:
    """The command line that makes these numbers: what differs from the defaults, and no absolute paths."""
    silent = {"out", "results", "json", "experiments", "jobs", "device"}
    words = ["phd", "family", _shown(options.out)]
    for name, value in vars(options).items():
        default = family_data.NUMBERS.get(name, (parser.get_default(name), ""))[0]
        if name in silent or value in (None, default):
            continue
        option, values = f"--{name.replace('_', '-')}", value if isinstance(value, list) else [value]
        shown = [_shown(each) for each in values]
        words += [f"{option}={shown[0]}"] if shown[0].startswith("-") else [option, *shown]
    return shlex.join([*words, *(["--", *more] if more else [])])


def _shown(value: Any) -> str:
    return Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else str(value)
