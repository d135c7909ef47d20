"""`phd shards verify`, `info` and `preview`: what is in a folder of shards, and whether it is sound."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.commands.json_file import write_json
from phd.errors import UserError

ACTIONS = ("verify", "info", "preview")
BAR = 40


def add_actions(actions: Any) -> None:
    """Describe the command lines; `actions` is what `add_subparsers` gave."""
    verify = actions.add_parser("verify", help="read everything and list what is wrong")
    info = actions.add_parser("info", help="print counts, sizes and histograms")
    preview = actions.add_parser("preview", help="draw a contact sheet")
    verify.add_argument("root", help="folder of shards")
    for parser in (info, preview):
        parser.add_argument("root", help="folder of shards, or its URL")
    limit = {"type": int, "metavar": "N", "help": "larger images are a problem (default: 100 million)"}
    verify.add_argument("--max-pixels", **limit)
    info.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    preview.add_argument("--out", type=Path, required=True, metavar="PNG", help="picture to write")
    preview.add_argument("--samples", type=int, default=12, metavar="N", help="how many to draw (%(default)s)")
    preview.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the samples (%(default)s)")


def run(options: argparse.Namespace) -> None:
    """Run one of ACTIONS."""
    {"verify": _verify, "info": _info, "preview": _preview}[options.action](options)


def _verify(options: argparse.Namespace) -> None:
    from datamodules.record import MAX_PIXELS
    from datamodules.verify import verify

    if "://" in options.root:
        raise UserError(f"{options.root}: every byte is read, which wants a disk; copy the shards to one")
    limit = MAX_PIXELS if options.max_pixels is None else options.max_pixels
    if limit < 1:
        raise UserError(f"--max-pixels is {limit}; give at least 1")
    report = verify(Path(options.root), limit)
    for problem in report.problems:
        print(problem)
    print(f"{options.root}: {report}")
    if report.problems:
        raise UserError(f"{options.root}: {len(report.problems)} problems, listed above; convert the data again")


def _info(options: argparse.Namespace) -> None:
    from datamodules.info import shards_info

    numbers = shards_info(_root(options.root))
    print("\n".join(described(numbers)))
    write_json(options.json, numbers)


def _preview(options: argparse.Namespace) -> None:
    from phd.commands.shards_preview import preview

    count = preview(_root(options.root), options.out, options.samples, options.seed)
    print(f"{options.out}: {count} samples of {options.root}")


def _root(text: str) -> str | Path:
    return text if "://" in text else Path(text)


def described(numbers: dict[str, Any]) -> list[str]:
    """The numbers as lines for a terminal; whatever is a count of several things gets bars."""
    lines: list[str] = []
    for name, value in numbers.items():
        label = name.replace("_", " ")
        if isinstance(value, dict) and value.keys() != {"min", "median", "max"}:
            lines += [label, *_bars(value)]
        else:
            lines.append(f"{label:<30} {_text(name, value)}")
    return lines


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['min']:g} to {value['max']:g}, median {value['median']:g}"
    if value is None:
        return "unknown"
    if name == "bytes":
        return f"{value} ({value / 1e9:.2f} GB)"
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def _bars(counts: dict[str, int]) -> list[str]:
    largest = max(counts.values(), default=0)
    # Rounded up: what is there at all is to be seen.
    bars = {name: "#" * -(-BAR * count // max(largest, 1)) for name, count in counts.items()}
    return [f"  {name[:28]:<28} {bars[name]:<{BAR}} {count}" for name, count in counts.items()]
