"""The option `--rules` of the commands that track."""

from __future__ import annotations

import argparse


def add_rules(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add it; its value is a key of `phd.heads.memory.rules.RULES`, or None."""
    parser.add_argument(
        "--rules",
        choices=("plain", "selective"),
        help="plain: every frame is remembered and masks may overlap, as in transformers; selective: an object "
        "remembers only frames in which it is seen, and masks may not overlap, as in SAM 3's and SAM 2's own code, of "
        "two on one place the one that it looks like has it, and two that were mistaken for each other change back (by "
        "default what the model's configuration says: selective for the embedded teacher and its students)",
    )
