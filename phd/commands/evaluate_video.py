"""`phd evaluate video`: J&F of a model on labelled videos, or of masks on disk."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phd.commands.device import checked_device
from phd.commands.image_size import add_image_size
from phd.commands.json_file import write_json
from phd.commands.track_rules import add_rules, check_rules, chosen_rules
from phd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    masks = parser.add_argument_group("masks on disk")
    masks.add_argument("--gt", type=Path, help="folder of true masks, one folder for each video")
    masks.add_argument("--pred", type=Path, help="folder of predicted masks, the same tree")
    model = parser.add_argument_group("a model")
    data = model.add_mutually_exclusive_group()
    data.add_argument("--data", help="folder of shards with videos, or its URL")
    data.add_argument("--davis", type=Path, metavar="DIR", help="raw folder in DAVIS's layout (also MOSE, LVOS)")
    model.add_argument("--model", help="student or teacher: a folder, a hub id, or toy-teacher")
    model.add_argument("--teacher", help="measure it too; its numbers are the 100 %%")
    model.add_argument(
        "--prompt", choices=("mask", "box", "point"), default="mask", help="what each object begins with (%(default)s)"
    )
    model.add_argument("--videos", nargs="+", metavar="NAME", help="only these videos")
    model.add_argument("--max-videos", type=int, metavar="N", help="only the first videos")
    model.add_argument("--split", metavar="NAME", help="--davis: list of videos (ImageSets/2017/NAME.txt) or subfolder")
    model.add_argument("--save-masks", type=Path, metavar="DIR", help="write the model's masks, a tree for --pred")
    add_rules(model)
    add_image_size(model)
    model.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--protocol", choices=("davis", "sav", "lvos"), default="davis", help="which frames and objects count"
    )
    parser.add_argument("--keep-ends", action="store_true", help="sav: also score the first and the last frame")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Score, print and write."""
    check_options(options)
    if options.gt is None:
        return run_model(options)
    from phd.evaluate.video_trees import evaluate_trees

    result = evaluate_trees(options.gt, options.pred, options.protocol, skip_ends=not options.keep_ends).to_dict()
    result |= {"gt": str(options.gt), "pred": str(options.pred)}
    print_rows(result)
    write_json(options.json, result)
    return result


def check_options(options: argparse.Namespace) -> None:
    """Check that the options ask for one thing.

    Raises:
        UserError: They ask for two, or for none.
    """
    trees = (options.gt, options.pred)
    data = options.data if options.data is not None else options.davis
    of_a_model = ("teacher", "videos", "max_videos", "split", "save_masks", "rules", "border_cells", "image_size")
    given = [f"--{name.replace('_', '-')}" for name in of_a_model if getattr(options, name) is not None]
    if any(trees) and (data is not None or options.model is not None or given):
        raise UserError(
            f"evaluate video: --gt and --pred score masks on disk; leave out --data, --davis, --model"
            f"{''.join(f', {name}' for name in given)}, or the two"
        )
    if any(trees) != all(trees) or (not any(trees) and (data is None or options.model is None)):
        raise UserError(
            "evaluate video: give --gt and --pred (masks on disk), or --model with --data or --davis (videos to track)"
        )
    if options.split is not None and options.davis is None:
        raise UserError("--split: shards have no lists of videos; choose with --videos, or use --davis")
    if options.max_videos is not None and options.max_videos < 1:
        raise UserError(f"--max-videos is {options.max_videos}; give at least 1")
    check_rules(options)


def run_model(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the model, and the teacher beside it; the file has what is done so far after every video."""
    from phd.evaluate.video_model import evaluate_videos
    from phd.evaluate.video_trees import check_ends
    from phd.loading import load_segmenter

    check_ends(options.protocol, not options.keep_ends)
    device, source = checked_device(options.device), source_of(options)
    done: dict[str, Any] = {}

    def measure(name: str, segmenter: Any, save: Path | None, put: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def after(report: Any) -> None:
            size = segmenter.contract.image_size
            context = {"model": name, "image_size": size, "data": str(options.data or options.davis)}
            write_json(options.json, {**put({**report.to_dict(), **context}), "complete": False})

        after(
            evaluate_videos(
                segmenter,
                source(),
                options.protocol,
                prompt=options.prompt,
                skip_ends=not options.keep_ends,
                save=save,
                rules=chosen_rules(options, segmenter),
                device=device,
                after=after,
            )
        )

    def as_result(report: dict[str, Any]) -> dict[str, Any]:
        done.update(report)
        return done

    def as_teacher(report: dict[str, Any]) -> dict[str, Any]:
        done["teacher"] = report
        return done

    # The teacher's contract first, so that a mismatch is found before the work; then it gives its memory back, of which
    # the peak is measured.
    contract = load_segmenter(options.teacher, options.image_size).contract if options.teacher else None
    model = load_segmenter(options.model, options.image_size)
    if contract is not None:
        model.contract.require_equal(contract, f"the model {options.model}", f"the teacher {options.teacher}")
    measure(options.model, model, options.save_masks, as_result)
    del model
    if options.teacher:
        measure(options.teacher, load_segmenter(options.teacher, options.image_size), None, as_teacher)
    done["complete"] = True
    print_rows(done)
    write_json(options.json, done)
    return done


def source_of(options: argparse.Namespace) -> Callable[[], Any]:
    """Opens the labelled videos that the options name, anew for each model."""
    from datamodules.labelled_folders import folder_videos
    from datamodules.labelled_videos import shard_videos
    from datamodules.reader import ShardReader

    if options.data is not None:
        reader = ShardReader(options.data)
        return lambda: shard_videos(reader, options.videos, options.max_videos)
    return lambda: folder_videos(options.davis, options.split, options.videos, options.max_videos)


def print_rows(result: dict[str, Any]) -> None:
    """Print a row for each video, and the mean over objects; the teacher, where it was measured, as 100 %."""
    from rich.console import Console
    from rich.table import Table

    teacher = result.get("teacher")
    table = Table(
        title=f"protocol {result['protocol']}: {result['num_videos']} videos, {result['num_objects']} objects"
    )
    for name in ("video", "objects", "J&F", "J", "F", *(("teacher J&F", "share") if teacher else ())):
        table.add_column(name, justify="left" if name == "video" else "right")
    rows = [*result["videos"], {**result, "video": "mean over objects", "objects": result["num_objects"]}]
    theirs = [*teacher["videos"], teacher] if teacher else [None] * len(rows)
    for row, other in zip(rows, theirs, strict=True):
        cells = [row["video"], str(row["objects"]), *(f"{row[part]:.4f}" for part in ("jf", "j", "f"))]
        if other:
            cells += [f"{other['jf']:.4f}", f"{row['jf'] / other['jf']:.1%}" if other["jf"] else "-"]
        table.add_row(*cells)
    console = Console()
    console.print(table)
    for left in result["left_out"]:
        console.print(f"not scored: {left['video']}, object {left['object']}: {left['reason']}", highlight=False)
    for name, part in (("", result), ("teacher: ", teacher)):
        if part and "memory_tokens" in part:
            fps = f"{part['fps']:.1f}" if part["fps"] else "no"
            console.print(
                f"{name}{fps} frames/s, {part['memory_tokens']} memory tokens per frame and object, "
                f"peak memory {part['peak_memory_mb']:.0f} MiB ({part['device']})",
                highlight=False,
            )
