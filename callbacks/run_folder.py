"""Where a run writes."""

from __future__ import annotations

from pathlib import Path

import lightning as L


def run_folder(trainer: L.Trainer) -> Path:
    """The folder of this run: the log folder of the first logger, or `trainer.default_root_dir` without any.

    Every process has to call it, since Lightning asks rank 0.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def is_dry_run(trainer: L.Trainer) -> bool:
    """Whether this is a `fast_dev_run`, which leaves no files."""
    return bool(getattr(trainer, "fast_dev_run", False))
