"""What `phd ablation memory` writes when its runs are done."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

from phd.ablation.memory_cost import memory_costs
from phd.ablation.memory_report import plot, section
from phd.ablation.plan import Variant
from phd.ablation.run import Outcome
from phd.commands.ablation_common import Protocol
from phd.commands.ablation_memory import NUMBERS
from phd.commands.ablation_section import about_runs, write_section
from phd.heads.memory.compressors import MemorySettings
from phd.heads.memory.video import VideoHeads
from phd.student import Student
from phd.student.memory import replace_memory


def report(
    options: argparse.Namespace,
    protocol: Protocol,
    variants: Sequence[Variant],
    outcomes: Sequence[Outcome],
    student: Student,
    teacher: dict[str, Any],
) -> None:
    """Time the memories and write everything.

    Args:
        options: Of the command.
        protocol: Of all runs.
        variants: Rows of the table.
        outcomes: Of all runs.
        student: That they started from.
        teacher: Its numbers by the same code.
    """

    def build(settings: MemorySettings) -> VideoHeads:
        heads = copy.deepcopy(student.heads)
        replace_memory(heads, settings, None)
        return heads

    costs, size = memory_costs(variants, build), student.heads.bank_size
    about = {
        **about_runs("memory", options, protocol, NUMBERS, outcomes),
        "long_seed": options.test_seed + 1,
        "objects": [teacher["objects"], teacher["long_objects"]],
        "grid": student.heads.tracker_model.backbone_feature_sizes[-1][0],
        "slots": f"{size.conditioning} + {size.recent} frames, {size.conditioning + size.pointers} object pointers",
    }
    done = [each.values for each in outcomes if each.values is not None]
    whole = {"about": about, "teacher": teacher, "costs": costs, "runs": done}
    draw = partial(plot, variants=variants, outcomes=outcomes, costs=costs)
    write_section("memory", options, whole, draw, partial(section, variants, outcomes, costs, teacher, about))
