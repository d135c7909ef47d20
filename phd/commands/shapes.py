"""`phd shapes`: the embedded world as raw files."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.errors import UserError


def run(arguments: list[str]) -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(prog="phd shapes", description="Write the embedded world as raw files.")
    parser.add_argument("out", type=Path, help="empty or new folder")
    parser.add_argument("--format", default="sa1b", choices=["sa1b"], help="whose raw format to write")
    parser.add_argument("--samples", type=int, default=500, help="number of scenes")
    parser.add_argument("--seed", type=int, default=7, help="the same seed writes the same bytes")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    if options.samples < 1:
        raise UserError(f"--samples is {options.samples}; give at least 1")
    from datamodules.shapes import write_sa1b

    write_sa1b(options.out, samples=options.samples, seed=options.seed, workers=options.workers)
