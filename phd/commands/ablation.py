"""`phd ablation`: variants of one thing, trained and measured alike with several seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.commands import ablation_memory
from phd.commands.steps import split_at_dashes


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(
        prog="phd ablation",
        description="Train and measure variants alike on the embedded world, with several seeds each.",
        epilog="After --: more arguments for phd fit.",
    )
    what = parser.add_subparsers(dest="what", required=True)
    memory = what.add_parser("memory", help="how a memory is compressed: J&F, tokens, GMACs and time")
    add_common(memory, Path("runs/ablation/memory"))
    ablation_memory.add_arguments(memory)
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)
    ablation_memory.run(options, more)


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
