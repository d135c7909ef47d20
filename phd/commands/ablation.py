"""`phd ablation`: variants of one thing, trained and measured alike with several seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.commands import ablation_freezing, ablation_memory, ablation_negatives
from phd.commands.steps import split_at_dashes

KINDS = {
    "memory": (ablation_memory, "how a memory is compressed: J&F, tokens, GMACs and time"),
    "freezing": (ablation_freezing, "when the parts of a student may move in stage 3: cgF1 and box mIoU"),
    "negatives": (ablation_negatives, "how many hard negatives an image has in stage 3: cgF1 and calibration"),
}


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        prog="phd ablation",
        description="Train and measure variants alike on the embedded world, with several seeds each.",
        epilog="After --: more arguments for phd fit.",
    )
    what = parser.add_subparsers(dest="what", required=True)
    for name, (module, help_) in KINDS.items():
        parts = what.add_parser(name, help=help_)
        add_common(parts, Path("runs/ablation") / name)
        module.add_arguments(parts)
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)
    KINDS[options.what][0].run(options, more)


def add_common(parser: argparse.ArgumentParser, out: Path) -> None:
    """The options of every ablation."""
    parser.add_argument("out", type=Path, nargs="?", default=out, help="folder of the runs; what is done is kept")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="they count up from this one (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these variants")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread (%(default)s)")
    parser.add_argument("--init", type=Path, metavar="FOLDER", help="student to start from; the demo's by default")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="markdown to write the section into; results.md in the folder"
    )
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the YAML files")
