"""A W&B sweep file, run on this machine without a server."""

from phd.sweep.records import Trial
from phd.sweep.run import run_sweep, summary
from phd.sweep.sweep_file import SweepFile, read_sweep_file

__all__ = ["SweepFile", "Trial", "read_sweep_file", "run_sweep", "summary"]
