"""`phd evaluate concepts` and `phd evaluate concepts-video`: predictions on files, or a model, against truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.commands.image_size import add_image_size
from phd.commands.json_file import write_json
from phd.errors import UserError, warn_user

# Rows of the table: a title, and the key of the report without the suffix of its column.
ROWS = (
    ("cgF1", "cgf1"),
    ("pmF1", "pmf1"),
    ("cgF1, macro", "cgf1_macro"),
    ("positive macro F1", "positive_macro_f1"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
)
IMAGE_ROWS = (("IL_MCC", "il_mcc"), ("IL precision", "il_precision"), ("IL recall", "il_recall"), ("IL FPR", "il_fpr"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `concepts`."""
    files = parser.add_argument_group("predictions on disk")
    files.add_argument("--gt", type=Path, nargs="+", help="file of truth; SA-Co/Gold: those of annotators a, b, c")
    files.add_argument("--pred", type=Path, help="predictions, in the format of COCO results")
    model = parser.add_argument_group("a model")
    model.add_argument("--data", help="folder of shards with noun phrases, or its URL")
    model.add_argument("--model", help="student or teacher: a folder, a hub id, or toy-teacher")
    model.add_argument("--teacher", help="measure it too; its numbers are the 100 %%")
    model.add_argument(
        "--threshold", type=float, help="take instances with a score above it (0.05; cgF1 counts from 0.5 on)"
    )
    model.add_argument("--nms", type=float, metavar="IOU", help="suppress masks that overlap a better one by more")
    model.add_argument("--max-images", type=int, metavar="N", help="only the first images")
    model.add_argument(
        "--save", type=Path, metavar="FILE", help="write the predictions for --pred, and beside them FILE_gt for --gt"
    )
    add_image_size(model)
    model.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--iou-type", choices=("segm", "bbox"), default="segm", help="compare masks or boxes")
    parser.add_argument(
        "--protocol", choices=("saco", "coco", "lvis"), default="saco", help="cgF1 of SA-Co, or AP of COCO or LVIS"
    )
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `concepts-video`."""
    parser.add_argument("--gt", type=Path, required=True, help="file of truth, in the format of SA-Co/VEval")
    parser.add_argument("--pred", type=Path, required=True, help="predictions, in the format of YouTube-VIS results")
    parser.add_argument("--iou-type", choices=("segm", "bbox"), default="segm", help="masks or boxes, for the table")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate images, print and write."""
    check_options(options)
    if options.data is not None:
        from phd.commands.evaluate_concepts_model import run_model

        result = run_model(options)
        print_concepts(result, f"{result['num_datapoints']} datapoints, {result['num_negative']} of them negative")
    elif options.protocol == "saco":
        from phd.evaluate.concept_images import evaluate_concepts

        result = evaluate_concepts(options.gt, options.pred, options.iou_type)
        print_concepts(result, f"{result['num_datapoints']} datapoints, {result['num_negative']} of them negative")
    else:
        from phd.evaluate.concept_ap import evaluate_ap

        if len(options.gt) > 1:
            raise UserError(f"--gt: {options.protocol} has one file of truth, not {len(options.gt)}; give the first")
        result = evaluate_ap(options.gt[0], options.pred, options.iou_type, options.protocol)
        print_numbers(result, f"{options.protocol} {options.iou_type}: {result['num_images']} images")
    return write(result, options.json)


def check_options(options: argparse.Namespace) -> None:
    """Check that the options ask for one thing.

    Raises:
        UserError: They ask for two, or for none.
    """
    files, model = (options.gt, options.pred), (options.data, options.model)
    of_a_model = ("teacher", "threshold", "nms", "max_images", "save", "image_size")
    given = [f"--{name.replace('_', '-')}" for name in of_a_model if getattr(options, name) is not None]
    if any(files) and (any(model) or given):
        raise UserError(
            f"evaluate concepts: --gt and --pred score predictions on disk; leave out --data, --model"
            f"{''.join(f', {name}' for name in given)}, or the two"
        )
    if any(files) != all(files) or (not any(files) and not all(model)):
        raise UserError(
            "evaluate concepts: give --gt and --pred (predictions on disk), or --data and --model (phrases to detect)"
        )
    if options.data is not None and options.protocol != "saco":
        raise UserError(
            f"--protocol {options.protocol}: scores predictions on disk; give --gt and --pred, or leave it out"
        )


def run_video(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate videos, print and write."""
    from phd.evaluate.concept_video import evaluate_concepts_video

    result = evaluate_concepts_video(options.gt, options.pred, options.iou_type)
    print_concepts(result, f"{result['num_datapoints']} pairs of video and phrase, {result['num_negative']} negative")
    return write(result, options.json)


def write(result: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """Print the warnings to stderr and write the file."""
    for warning in result["warnings"]:
        warn_user(warning)
    write_json(path, result)
    return result


def print_concepts(result: dict[str, Any], title: str) -> None:
    """Print cgF1 and its parts, averaged and at two thresholds."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column(f"IoU of {result['protocol']['iou_type']}")
    for column in ("0.50:0.95", "0.50", "0.75"):
        table.add_column(column, justify="right")
    for name, key in ROWS:
        table.add_row(name, *(shown(result[f"{key}{suffix}"]) for suffix in ("", "_50", "_75")))
    table.add_section()
    for name, key in (*IMAGE_ROWS, ("ECE of presence", "presence_ece"), ("ECE of scores", "score_ece")):
        table.add_row(name, shown(result[key]))
    for name, value in result.get("tracking", {}).items():
        table.add_row(name, shown(value))
    Console().print(table)


def print_numbers(result: dict[str, Any], title: str) -> None:
    """Print all numbers of AP."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title=title)
    for name in result["numbers"]:
        table.add_row(name, shown(result[name]))
    Console().print(table)


def shown(value: float | None) -> str:
    """A number as the table has it."""
    return "-" if value is None else f"{value:.4f}"
