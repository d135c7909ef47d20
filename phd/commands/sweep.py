"""`phd sweep`: a W&B sweep file on this machine, without a server."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.errors import UserError


def run(arguments: list[str]) -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        prog="phd sweep",
        description="Run a W&B sweep file (grid or random) here; `wandb sweep FILE` runs it on a server.",
    )
    parser.add_argument("--local", dest="file", type=Path, required=True, metavar="FILE", help="the W&B sweep file")
    parser.add_argument("--out", type=Path, default=None, help="folder of the trials; runs/sweep/NAME by default")
    parser.add_argument("--max-runs", type=int, default=None, help="stop after so many trials; a grid ends by itself")
    parser.add_argument("--seed", type=int, default=0, help="of a random search")
    options = parser.parse_args(arguments)

    from phd.sweep import read_sweep_file, run_sweep, summary

    metric = read_sweep_file(options.file).metric
    out = options.out or Path("runs/sweep") / options.file.stem
    trials = run_sweep(options.file, out, options.max_runs, options.seed)
    print(summary(trials, metric))
    if trials and all(trial.status == "failed" for trial in trials):
        raise UserError(f"{options.file}: every trial failed; the last lines of each are in {out}/trials.jsonl")
