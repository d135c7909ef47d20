"""`phd shapes`: the embedded world as raw files."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.errors import UserError


def run(arguments: list[str]) -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(prog="phd shapes", description="Write the embedded world as raw files.")
    parser.add_argument("out", type=Path, help="empty or new folder")
    parser.add_argument(
        "--format", default="sa1b", choices=["sa1b", "sav"], help="whose raw format to write: still images or clips"
    )
    parser.add_argument("--samples", type=int, default=500, help="number of scenes or clips")
    parser.add_argument("--seed", type=int, default=7, help="the same seed writes the same bytes")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    clips = parser.add_argument_group("clips (--format sav)")
    clips.add_argument(
        "--seconds", type=float, nargs=2, metavar=("LEAST", "MOST"), help="duration of a clip (default: 3 to 5)"
    )
    clips.add_argument(
        "--occlusion",
        choices=["any", "long"],
        help="long: in each clip, an object that is seen in the first frame is hidden for at least half of the frames "
        "(default: any)",
    )
    options = parser.parse_args(arguments)
    if options.samples < 1:
        raise UserError(f"--samples is {options.samples}; give at least 1")
    order = {"samples": options.samples, "seed": options.seed, "workers": options.workers}
    further = {name: value for name in ("seconds", "occlusion") if (value := getattr(options, name)) is not None}
    if options.format == "sav":
        from datamodules.shapes.sav import write_sav

        write_sav(options.out, **order, **further)
        return
    if further:
        raise UserError(f"--{next(iter(further))} is for clips; add --format sav or leave it out")
    from datamodules.shapes import write_sa1b

    write_sa1b(options.out, **order)
