"""What the ablations share: their start, the training of a run, and what they refuse."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phd.commands.steps import TEACHER, fit_once
from phd.errors import UserError

if TYPE_CHECKING:
    from phd.ablation.plan import Run
    from phd.ablation.run import Outcome
    from phd.student import Student

# By option: default and meaning.
Numbers = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Protocol:
    """What all runs have in common; sent to their processes.

    Attributes:
        teacher: Its name.
        init: Student to start from.
        experiments: Folder of the YAML files.
        recipes: Of those under `toy`, in order.
        train: Shards.
        tests: Shards, by what they are for.
        limits: Flags for `phd fit` that say how long a run is.
        more: Further flags of the user.
    """

    teacher: str
    init: Path
    experiments: Path
    recipes: tuple[str, ...]
    train: Path
    tests: dict[str, Path]
    limits: tuple[str, ...]
    more: tuple[str, ...]


def add_numbers(parser: argparse.ArgumentParser, numbers: Numbers, teacher: str) -> None:
    """The options of one ablation.

    Args:
        parser: Of its subcommand.
        numbers: By option.
        teacher: What the teacher is for.
    """
    parser.add_argument("--teacher", default=TEACHER, help=f"{teacher} (%(default)s)")
    for name, (default, what) in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{what} (%(default)s)")


def require_positive(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Check numbers that are counts.

    Raises:
        UserError: One is below 1.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give at least 1")


def named_student(options: argparse.Namespace, demo: Path) -> Path | None:
    """The student that is named, or the demo's; None where there is neither.

    Raises:
        UserError: The one that is named is not there.
    """
    if options.init is not None:
        if not options.init.is_dir():
            raise UserError(f"--init {options.init}: no such folder; name a student, or leave it out")
        return options.init
    return demo if demo.is_dir() else None


def load_start(options: argparse.Namespace, init: Path) -> tuple[Student, dict[str, Any]]:
    """The student of all runs, and what must not change between the calls that fill one folder.

    Raises:
        UserError: Student and teacher do not belong together.
    """
    from phd.student import Student
    from phd.teachers import load_teacher
    from phd.teachers.fingerprint import weights_sha256

    student, teacher = Student.from_pretrained(init), load_teacher(options.teacher)
    student.contract.require_equal(teacher.contract, f"the student {init}", f"the teacher {options.teacher}")
    return student, {"student": weights_sha256(student), "teacher": weights_sha256(teacher)}


def identity(
    name: str, options: argparse.Namespace, numbers: Numbers, recipes: Sequence[str], weights: dict[str, Any], more: Any
) -> dict[str, Any]:
    """What runs must share to stand in one table, see `phd.one_command.claim`."""
    files = [(options.experiments / "toy" / f"{recipe}.yaml").read_bytes() for recipe in recipes]
    return {
        "ablation": name,
        **{number: getattr(options, number) for number in numbers},
        **weights,
        "recipe": hashlib.sha256(b"".join(files)).hexdigest(),
        "more": more,
    }


def train(protocol: Protocol, run: Run, folder: Path) -> Path:
    """Fit the student of a run, or go on where it was stopped; return its folder."""
    toys = (protocol.experiments / "toy" / f"{name}.yaml" for name in protocol.recipes)
    arguments = [
        *(word for file in (protocol.experiments / "trainer.yaml", *toys) for word in ("-c", str(file))),
        *run.variant.flags,
        f"--model.init_from={protocol.init}",
        f"--model.teacher={protocol.teacher}",
        f"--data.root={protocol.train}",
        *(f"--{name}={run.seed}" for name in ("seed_everything", "data.seed")),
        "--trainer.devices=1",
        *protocol.limits,
        *protocol.more,
    ]
    return fit_once(folder / "fit", arguments)


def train_and_measure(
    measure: Callable[[Protocol, str, Path], dict[str, Any]], protocol: Protocol, run: Run, folder: Path
) -> dict[str, Any]:
    """One run, in a process of its own."""
    values = measure(protocol, str(train(protocol, run, folder)), folder)
    shutil.rmtree(folder / "fit" / "checkpoints", ignore_errors=True)  # what is measured needs no resume
    return values


def require_all(outcomes: Sequence[Outcome], out: Path) -> None:
    """Raise if a run failed, when all that is there has been written.

    Raises:
        UserError: Names the first.
    """
    failed = [each for each in outcomes if each.values is None]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(outcomes)} runs failed, the first is {failed[0].run.name}: {failed[0].error}; see "
            f"{out / 'runs' / failed[0].run.name / 'log.txt'}, then run the same command again"
        )
