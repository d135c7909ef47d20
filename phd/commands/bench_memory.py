"""`phd bench memory`: a frame with dense and with compressed memory, and a long clip at constant memory."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from phd.commands.json_file import write_json
from phd.errors import UserError

ROWS = {
    "dense": "dense memory",
    "compressed": "compressed memory",
    "compressed_half_layers": "compressed, half the layers",
    "memory_encoder": "memory encoder, before any compression",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")
    parser.add_argument("--objects", type=int, default=1, help="tracked at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant does a frame (%(default)s)")
    parser.add_argument(
        "--clip-frames", type=int, default=2000, help="length of the long clip; 0 leaves it out (%(default)s)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and write the numbers."""
    from phd.bench.memory_clip import EARLY, measure_clip

    for name, least in (("objects", 1), ("rounds", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; give at least {least}")
    if options.clip_frames and options.clip_frames <= EARLY:
        raise UserError(f"--clip-frames is {options.clip_frames}; give more than {EARLY}, or 0 to leave the clip out")
    from phd.bench.memory import MemoryBench

    clip = measure_clip(options.clip_frames) if options.clip_frames else None
    result = MemoryBench(objects=options.objects).measure(options.rounds)
    if clip is not None:
        result |= {f"peak_growth_{clip['frames']}": clip["growth"], "clip": clip}
    print_result(result)
    write_json(options.json, result)
    return result


def print_result(result: dict[str, Any]) -> None:
    """Print medians, ratios and goals."""
    from rich.console import Console
    from rich.table import Table

    from phd.bench.memory import GOALS
    from phd.bench.memory_clip import MOST_GROWTH

    environment, sizes, console = result["environment"], result["sizes"], Console()
    console.print(
        f"SAM 3's tracker with random weights, {sizes['grid']} x {sizes['grid']} cells, {sizes['memory_frames']} "
        f"frames in memory, objects: {sizes['objects']}; one core of {environment['cpu']}, torch {environment['torch']}"
    )
    table = Table("a frame: read, compress, write", "tokens", "layers", "CPU ms", "wall ms", "GMACs")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, title in ROWS.items():
        times, gmacs = result["milliseconds"][name], result["gmacs"].get(name)
        shape = ["", ""] if gmacs is None else [str(sizes[what][name]) for what in ("tokens_per_frame", "layers")]
        clocks = [f"{statistics.median(times[clock]):.0f}" for clock in ("cpu", "wall")]
        table.add_row(title, *shape, *clocks, "" if gmacs is None else f"{gmacs['read'] + gmacs['write']:.1f}")
    console.print(table)
    goals = Table("medians of ratios within a round", "here", "by GMACs", "goal", "")
    counted = dict(zip(GOALS, result["gmacs_ratios"].values(), strict=True))
    for name, value in result.items():
        if name.startswith("dense_over"):
            goal = GOALS.get(name)
            said = "" if goal is None else "met" if value >= goal else "missed"
            by_count = f"{counted[name]:.2f}" if name in counted else ""
            goals.add_row(name, f"{value:.2f}", by_count, "" if goal is None else f"{goal:g} or more", said)
    if "clip" in result:
        name, growth = next((name, value) for name, value in result.items() if name.startswith("peak_growth"))
        held = growth <= MOST_GROWTH and result["clip"]["bank_shapes_constant"]
        goals.add_row(name, f"{growth:.2%}", "", f"{MOST_GROWTH:.0%} or less", "met" if held else "missed")
    console.print(goals)
    if "clip" in result:
        clip = result["clip"]
        constant = "never changed" if clip["bank_shapes_constant"] else "CHANGED"
        console.print(
            f"long clip: peak {clip['early_peak_mb']:.0f} MB after {clip['early']} frames, {clip['peak_mb']:.0f} MB "
            f"after {clip['frames']}; the shapes of the bank {constant}"
        )
