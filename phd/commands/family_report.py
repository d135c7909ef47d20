"""What `phd family` writes when its runs are done: costs, table, section, JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phd.ablation.run import Outcome
from phd.ablation.table import put_between
from phd.bench.timing import environment
from phd.commands.family_student import KEPT, SMALL, TEACHER_ROW, Family
from phd.commands.json_file import write_json
from phd.commands.steps import say
from phd.family.cost import family_costs
from phd.family.report import MARKS, section
from phd.family.rows import Row, as_plain, family_rows, family_table
from phd.loading import load_segmenter

COUNTS = [key for keys in KEPT.values() for key in keys if key.startswith("num_")]
STAGE_DATA = {
    SMALL: ("train_scenes", "scenes"),
    "stage1": ("train_scenes", "scenes"),
    "stage2": ("train_clips", "clips"),
    "stage3": ("train_phrase_scenes", "scenes with phrases"),
}


def report(
    options: argparse.Namespace, family: Family, outcomes: Sequence[Outcome], command: str, own: bool
) -> list[Row]:
    """Count and time the models, and write everything.

    Args:
        options: Of the command.
        family: What all runs have in common.
        outcomes: The teacher's first.
        command: That makes these numbers.
        own: Whether the data are the user's own.
    """
    done = {each.run.variant.name: each.values for each in outcomes if each.values is not None}
    costs = costs_once(options.out / "costs.json", family, done, options.rounds)
    rows = family_rows(outcomes, costs)
    first = next(iter(done.values()), {})
    machine = environment()
    about: dict[str, Any] = {
        **{name: machine[name] for name in ("cpu", "cores", "torch")},
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round(sum(values["seconds"] for values in done.values()) / 60),
        "teacher": Path(family.teacher).name if Path(family.teacher).is_absolute() else family.teacher,
        "training": training(options, family, own),
        "trunks": trunks(done),
        "counts": {key: first.get(key) for key in COUNTS},
        "protocol": family.protocol,
        "rounds": options.rounds,
        "image_size": next((round(cost["image_size"]) for cost in costs.values()), None),
        "toy": not own,
    }
    whole = {"about": about, "rows": as_plain(rows), "costs": costs, "runs": list(done.values())}
    write_json(options.out / "results.json", whole)
    write_json(options.json, whole)
    file = options.results or options.out / "results.md"
    put_between(file, MARKS, section(rows, about))
    print(family_table(rows, about["teacher"]))
    say(f"[bold]written:[/] {file} and {options.out / 'results.json'}")
    return rows


def costs_once(file: Path, family: Family, done: dict[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Costs of the models that are done; measured anew, all together, when there are others than before."""
    held = json.loads(file.read_text()) if file.exists() else {}
    if list(held.get("costs", {})) == list(done) and held["rounds"] == rounds:
        return held["costs"]
    sources = {name: family.teacher if name == TEACHER_ROW else values["student"] for name, values in done.items()}
    say(f"[bold]counting and timing {len(sources)} models[/]")
    costs = family_costs({name: load_segmenter(source) for name, source in sources.items()}, rounds)
    write_json(file, {"rounds": rounds, "costs": costs})
    return costs


def training(options: argparse.Namespace, family: Family, own: bool) -> str:
    """A sentence about recipes, steps and data."""
    place = "experiments/toy" if family.recipes == "toy" else "experiments"
    parts = []
    for stage, steps in family.steps.items():
        length = f"{steps} steps" if steps is not None else "its epochs"
        name, what = STAGE_DATA[stage]
        parts.append(f"`{stage}.yaml` for {length}{'' if own else f' on {getattr(options, name)} {what}'}")
    seeds = f"world's seeds {options.train_seed} (training) and {options.test_seed} (measuring); " if not own else ""
    return f"Recipes in `{place}`: {', '.join(parts)}; {seeds}seed of the runs {options.seed}."


def trunks(done: dict[str, Any]) -> str:
    """A sentence about what the trunks started from."""
    weights = {name: values["trunk_weights"] for name, values in done.items() if name != TEACHER_ROW}
    pretrained = [name for name, start in weights.items() if start != "random"]
    if not pretrained:
        return "The trunks start from random weights."
    if len(pretrained) == len(weights):
        return "The trunks start from timm's pretrained weights."
    return f"The trunks of {', '.join(pretrained)} start from timm's pretrained weights, the others from random ones."
