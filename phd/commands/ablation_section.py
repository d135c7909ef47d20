"""What every ablation writes when its runs are done: `results.json`, a plot, and a section between two marks."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phd.ablation.run import Outcome
from phd.ablation.table import put_between
from phd.bench.timing import environment
from phd.commands.ablation_common import Numbers, Protocol
from phd.commands.json_file import write_json
from phd.commands.steps import say, settings_of
from phd.teachers import EMBEDDED


def about_runs(
    name: str, options: argparse.Namespace, protocol: Protocol, numbers: Numbers, outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """Words of the protocol that every ablation has.

    Args:
        name: Of the ablation.
        options: Of the command.
        protocol: Of all runs.
        numbers: The command's own options.
        outcomes: Of all runs.
    """
    machine = environment()
    seconds = sum(each.values["seconds"] for each in outcomes if each.values is not None)
    return {
        **{part: machine[part] for part in ("cpu", "cores", "torch")},
        **{number: getattr(options, number) for number in numbers},
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round(seconds / 60),
        "seeds": sorted({each.run.seed for each in outcomes}),
        "recipe": settings_of(options.experiments, protocol.recipes[-1], "data"),
        "command": command(name, options, protocol, numbers),
    }


def write_section(
    name: str,
    options: argparse.Namespace,
    whole: dict[str, Any],
    plot: Callable[[Path], None],
    section: Callable[[str], str],
) -> None:
    """Write everything.

    Args:
        name: Of the ablation; of the marks and the picture.
        options: Of the command.
        whole: For `results.json`.
        plot: Draws the picture into a file.
        section: Makes the markdown, given the picture's path from where the section stands.
    """
    file = options.results or options.out / "results.md"
    picture = file.parent / "assets" / f"ablation_{name}.png"
    plot(picture)
    write_json(options.out / "results.json", whole)
    put_between(file, f"ablation-{name}", section(os.path.relpath(picture, file.parent).replace(os.sep, "/")))
    say(f"[bold]written:[/] {file}, {picture} and {options.out / 'results.json'}")


def shown(path: Path) -> str:
    """A path without what is this machine's own."""
    return path.name if path.is_absolute() else str(path)


def command(name: str, options: argparse.Namespace, protocol: Protocol, numbers: Numbers) -> str:
    """The command line that makes these numbers: what differs from the defaults, and no absolute paths."""
    words = ["phd", "ablation", name, shown(options.out), "--seeds", str(options.seeds)]
    words += ["--first-seed", str(options.first_seed)]
    words += ["--init", shown(options.init)] if options.init else []
    words += ["--teacher", shown(Path(protocol.teacher))] if protocol.teacher not in EMBEDDED else []
    for number, (default, _) in numbers.items():
        value = getattr(options, number)
        words += [f"--{number.replace('_', '-')}", str(value)] if value != default else []
    words += ["--only", *options.only] if options.only else []
    return shlex.join([*words, *(["--", *protocol.more] if protocol.more else [])])
