"""Checkpoints appear as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from phd.errors import UserError

# What torch.save raises when a file cannot be written: its own writer wraps the OSError.
UNWRITABLE = (OSError, RuntimeError)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes `<file>.partial` beside the checkpoint, to the disk, and renames it.

    Lightning 2.6 writes into the system's temporary folder and moves the file from there. Between two file systems,
    which is the rule, such a move is a copy: a process that is killed in it leaves half a checkpoint where the earlier
    one was. Here the earlier file stays whole until the new one is, also when the machine goes down.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; a URL is left to Lightning, object stores show no half of a file.

        Raises:
            UserError: The disk is full or the folder cannot be written; the earlier checkpoint is kept.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, str(path), storage_options)
            return
        target = Path(path)
        partial = target.with_name(f"{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync_folder(target.parent)
        except UNWRITABLE as error:
            _remove(partial)
            raise UserError(
                f"{target}: the checkpoint cannot be written ({_reason(error)}); an earlier one is kept. "
                f"Free space or allow writing, then resume from it"
            ) from error


def _reason(error: BaseException) -> str:
    """The system's own words, which torch's writer hides behind its own."""
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__


def _remove(partial: Path) -> None:
    if partial.is_file():
        partial.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last; Windows opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
