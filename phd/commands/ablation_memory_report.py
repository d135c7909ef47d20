"""What `phd ablation memory` writes when its runs are done: `results.json`, plot and section."""

from __future__ import annotations

import argparse
import copy
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from phd.ablation.memory_cost import memory_costs
from phd.ablation.memory_report import plot, section
from phd.ablation.plan import Variant
from phd.ablation.run import Outcome
from phd.ablation.table import put_between
from phd.bench.timing import environment
from phd.commands.json_file import write_json
from phd.commands.steps import say
from phd.heads.memory.compressors import MemorySettings
from phd.heads.memory.video import VideoHeads
from phd.student import Student
from phd.student.memory import replace_memory
from phd.teachers import EMBEDDED

if TYPE_CHECKING:
    from phd.commands.ablation_memory import Protocol

MARKS = "ablation-memory"


def report(
    options: argparse.Namespace,
    protocol: Protocol,
    variants: Sequence[Variant],
    outcomes: Sequence[Outcome],
    student: Student,
    teacher: dict[str, Any],
    numbers: dict[str, int],
) -> None:
    """Time the memories and write everything.

    Args:
        options: Of the command.
        protocol: Of all runs.
        variants: Rows of the table.
        outcomes: Of all runs.
        student: That they started from.
        teacher: Its numbers by the same code.
        numbers: Defaults of the command's own options.
    """

    def build(settings: MemorySettings) -> VideoHeads:
        heads = copy.deepcopy(student.heads)
        replace_memory(heads, settings, None)
        return heads

    costs = memory_costs(variants, build)
    file = options.results or options.out / "results.md"
    picture = file.parent / "assets" / "ablation_memory.png"
    plot(picture, variants, outcomes, costs)
    done = [each.values for each in outcomes if each.values is not None]
    machine, size = environment(), student.heads.bank_size
    recipe = yaml.safe_load((options.experiments / "toy" / "ablation_memory.yaml").read_text())
    about = {
        **{name: machine[name] for name in ("cpu", "cores", "torch")},
        **{name: getattr(options, name) for name in numbers},
        "long_seed": options.test_seed + 1,
        "objects": [teacher["objects"], teacher["long_objects"]],
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round(sum(values["seconds"] for values in done) / 60),
        "seeds": sorted({each.run.seed for each in outcomes}),
        "recipe": recipe["data"]["init_args"],
        "grid": student.heads.tracker_model.backbone_feature_sizes[-1][0],
        "slots": f"{size.conditioning} + {size.recent} frames, {size.conditioning + size.pointers} object pointers",
        "command": command(options, protocol, numbers),
    }
    whole = {"about": about, "teacher": teacher, "costs": costs, "runs": done}
    write_json(options.out / "results.json", whole)
    where = os.path.relpath(picture, file.parent).replace(os.sep, "/")
    put_between(file, MARKS, section(variants, outcomes, costs, teacher, about, where))
    say(f"[bold]written:[/] {file}, {picture} and {options.out / 'results.json'}")


def command(options: argparse.Namespace, protocol: Protocol, numbers: dict[str, int]) -> str:
    """The command line that makes these numbers: what differs from the defaults, and no absolute paths."""

    def shown(path: Path) -> str:
        return path.name if path.is_absolute() else str(path)

    words = ["phd", "ablation", "memory", shown(options.out), "--seeds", str(options.seeds)]
    words += ["--first-seed", str(options.first_seed)]
    words += ["--init", shown(options.init)] if options.init else []
    words += ["--teacher", shown(Path(protocol.teacher))] if protocol.teacher not in EMBEDDED else []
    for name, default in numbers.items():
        value = getattr(options, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value != default else []
    words += ["--only", *options.only] if options.only else []
    return shlex.join([*words, *(["--", *protocol.more] if protocol.more else [])])
