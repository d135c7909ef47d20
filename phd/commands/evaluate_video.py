"""`phd evaluate video`: J&F of masks on disk."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--gt", type=Path, required=True, help="folder of true masks, one folder for each video")
    parser.add_argument("--pred", type=Path, required=True, help="folder of predicted masks, the same tree")
    parser.add_argument("--protocol", choices=("davis", "sav"), default="davis", help="which frames and objects count")
    parser.add_argument("--keep-ends", action="store_true", help="sav: also score the first and the last frame")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Score, print and write."""
    from phd.evaluate.video_trees import evaluate_trees

    result = evaluate_trees(options.gt, options.pred, options.protocol, skip_ends=not options.keep_ends).to_dict()
    result |= {"gt": str(options.gt), "pred": str(options.pred)}
    print_rows(result)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def print_rows(result: dict[str, Any]) -> None:
    """Print a row for each video, and the mean over objects."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"protocol {result['protocol']}: {result['num_videos']} videos, {result['num_objects']} objects"
    )
    for name in ("video", "objects", "J&F", "J", "F"):
        table.add_column(name, justify="left" if name == "video" else "right")
    whole = {**result, "video": "mean over objects", "objects": result["num_objects"]}
    for row in [*result["videos"], whole]:
        table.add_row(row["video"], str(row["objects"]), *(f"{row[part]:.4f}" for part in ("jf", "j", "f")))
    Console().print(table)
