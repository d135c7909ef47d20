"""The options `--rules` and `--border-cells` of the commands that track."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from phd.errors import UserError

if TYPE_CHECKING:
    from phd.heads.memory.rules import TrackRules
    from phd.segmenter import Segmenter

# Of a mask of 64 cells, half of it each way.
MOST_CELLS = 32


def add_rules(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add both; None is the default of each."""
    parser.add_argument(
        "--rules",
        choices=("plain", "selective"),
        help="plain: every frame is remembered and masks may overlap, as in transformers; selective: an object "
        "remembers only frames in which it is seen, and masks may not overlap, as in SAM 3's and SAM 2's own code, of "
        "two on one place the one that it looks like has it, and two that were mistaken for each other change back (by "
        "default what the model's configuration says: selective for the embedded teacher and its students)",
    )
    parser.add_argument(
        "--border-cells",
        type=int,
        metavar="N",
        help="masks follow the borders in the frame (guided filter), looked for so many cells of the mask logits each "
        "way; it helps where masks are coarse and costs where they are right; 0: they do not (by default 0 with "
        "--rules, otherwise what the model's configuration says: 5 for the embedded teacher and its students)",
    )


def check_rules(options: argparse.Namespace) -> None:
    """Check what the parser cannot, before anything is loaded.

    Raises:
        UserError: `--border-cells` is below 0, or a window would be as large as the image.
    """
    if options.border_cells is not None and not 0 <= options.border_cells <= MOST_CELLS:
        raise UserError(f"--border-cells is {options.border_cells}; give 0 to {MOST_CELLS}")


def chosen_rules(options: argparse.Namespace, model: Segmenter) -> TrackRules | None:
    """What the options ask of a model; None leaves it to the model's configuration."""
    from phd.heads.memory.rules import RULES, TrackRules

    rules, cells = RULES.get(options.rules), options.border_cells
    if cells is None or "track" not in model.verbs:
        return rules
    return replace(rules or TrackRules.of(model.heads.tracker_model.config), border_cells=cells)
