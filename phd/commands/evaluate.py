"""`phd evaluate`: measure a student or a teacher by a written protocol."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.commands import evaluate_concepts, evaluate_video
from phd.commands.device import checked_device
from phd.commands.image_size import add_image_size
from phd.commands.json_file import write_json
from phd.errors import UserError

ROWS = ("box_miou", "click1_miou", "click3_miou", "click5_miou")


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(prog="phd evaluate", description="Measure a student or a teacher.")
    what = parser.add_subparsers(dest="what", required=True)
    images = what.add_parser("images", help="mean IoU of instances from a box and from clicks")
    images.add_argument("--data", required=True, help="folder of shards, or its URL")
    images.add_argument("--model", required=True, help="student or teacher: a folder, a hub id, or toy-teacher")
    images.add_argument("--teacher", default=None, help="measure it too; its numbers are the 100 %%")
    images.add_argument("--json", type=Path, default=None, help="write the numbers here")
    images.add_argument("--max-images", type=int, default=None, help="only the first images")
    add_image_size(images)
    images.add_argument("--device", default="cpu", help="cpu or cuda")
    video = what.add_parser("video", help="J&F of masks that were tracked through video")
    evaluate_video.add_arguments(video)
    concepts = what.add_parser("concepts", help="cgF1 of instances that were found by a phrase, or AP")
    evaluate_concepts.add_arguments(concepts)
    concepts_video = what.add_parser("concepts-video", help="cgF1, HOTA, TETA and AP of tracks found by a phrase")
    evaluate_concepts.add_video_arguments(concepts_video)
    options = parser.parse_args(arguments)
    runs = {
        "images": evaluate_images_command,
        "video": evaluate_video.run,
        "concepts": evaluate_concepts.run,
        "concepts-video": evaluate_concepts.run_video,
    }
    runs[options.what](options)


def evaluate_images_command(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the model, and the teacher beside it, and print and write the numbers."""
    from datamodules.labelled import labelled_images
    from datamodules.reader import ShardReader
    from phd.evaluate.images import evaluate_images
    from phd.loading import load_segmenter

    if options.max_images is not None and options.max_images < 1:
        raise UserError(f"--max-images is {options.max_images}; give at least 1")
    device = checked_device(options.device)
    model = load_segmenter(options.model, options.image_size)
    teacher = load_segmenter(options.teacher, options.image_size) if options.teacher else None
    if teacher is not None:
        model.contract.require_equal(teacher.contract, f"the model {options.model}", f"the teacher {options.teacher}")

    def measure(segmenter: Any, name: str) -> dict[str, Any]:
        samples = labelled_images(ShardReader(options.data), options.max_images)
        report = evaluate_images(segmenter, samples, device=device)
        report.num_crowd = samples.num_crowd
        size = segmenter.contract.image_size
        return {**report.to_dict(), "model": name, "image_size": size, "data": options.data}

    result = measure(model, options.model)
    if teacher is not None:
        result["teacher"] = measure(teacher, options.teacher)
    print_rows(result)
    write_json(options.json, result)
    return result


def print_rows(result: dict[str, Any]) -> None:
    """Print the numbers as a table, the teacher as 100 %."""
    from rich.console import Console
    from rich.table import Table

    teacher = result.get("teacher")
    table = Table(title=f"{result['num_images']} images, {result['num_instances']} instances")
    table.add_column("mean IoU")
    table.add_column(Path(result["model"]).name or result["model"], justify="right")
    if teacher:
        table.add_column("teacher", justify="right")
        table.add_column("share", justify="right")
    for row in ROWS:
        cells = [row, f"{result[row]:.4f}"]
        if teacher:
            share = result[row] / teacher[row] if teacher[row] else float("nan")
            cells += [f"{teacher[row]:.4f}", f"{share:.1%}"]
        table.add_row(*cells)
    Console().print(table)
