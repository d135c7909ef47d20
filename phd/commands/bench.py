"""`phd bench`: what parts of the project cost on this machine."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from phd.commands import bench_memory
from phd.commands.json_file import write_json
from phd.errors import UserError

ROWS = {
    "ours": "our sample from shards",
    "jpeg_alone": "decoding the JPEG alone",
    "pil_folder": "folder, Pillow, 16 masks in full",
    "pil_folder_tensor_masks": "the same, masks scaled by torch",
    "ours_resized": "our sample, shards made with --resize",
    "cache": "a batch of cached features",
}


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(prog="phd bench", description="Measure what parts of the project cost.")
    what = parser.add_subparsers(dest="what", required=True)
    loader = what.add_parser("loader", help="samples of stage 1 and cached features, on one core")
    loader.add_argument("--json", type=Path, default=None, help="write the numbers here")
    loader.add_argument("--data-dir", type=Path, default=None, help="keep the generated data here, and use it again")
    loader.add_argument("--images", type=int, default=24, help="generated images (%(default)s)")
    loader.add_argument("--rounds", type=int, default=3, help="how often each is loaded (%(default)s)")
    memory = what.add_parser("memory", help="a frame with dense and with compressed memory, and a long clip")
    bench_memory.add_arguments(memory)
    options = parser.parse_args(arguments)
    bench_memory.run(options) if options.what == "memory" else bench_loader(options)


def bench_loader(options: argparse.Namespace) -> dict[str, Any]:
    """Make the data, measure, print, and write the numbers."""
    for name in ("images", "rounds"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}; give at least 1")
    from phd.bench.loader import LoaderBench

    bench = LoaderBench(images=options.images)
    with tempfile.TemporaryDirectory(prefix="phd-bench-") as temporary:
        root = options.data_dir or Path(temporary)
        bench.write(root)
        result = bench.measure(root, options.rounds)
    print_result(result)
    write_json(options.json, result)
    return result


def print_result(result: dict[str, Any]) -> None:
    """Print medians, ratios and goals."""
    import statistics

    from rich.console import Console
    from rich.table import Table

    from phd.bench.loader import GOALS

    environment, data, console = result["environment"], result["data"], Console()
    console.print(
        f"{data['images']} images of {data['height']} x {data['width']} pixels and {data['jpeg_bytes'] / 1e3:.0f} kB, "
        f"{data['masks']} masks each; one core of {environment['cpu']}, torch {environment['torch']}"
    )
    table = Table("median of each", "CPU ms", "wall ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, title in ROWS.items():
        times = result["milliseconds"][name]
        table.add_row(title, *(f"{statistics.median(times[clock]):.2f}" for clock in ("cpu", "wall")))
    console.print(table)
    goals = Table("by CPU time", "here", "goal", "")
    for name, value in result.items():
        if isinstance(value, float):
            goal = GOALS.get(name)
            said = "" if goal is None else "met" if value >= goal else "missed"
            goals.add_row(name, f"{value:.2f}", "" if goal is None else f"{goal:g}", said)
    console.print(goals)
