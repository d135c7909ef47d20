"""Longer clips as the training goes on."""

from __future__ import annotations

from typing import Any

import lightning as L

from phd.errors import UserError


class ClipLength(L.Callback):
    """Sets the frames of a training clip by epoch, through the data module's `set_clip_length`.

    EdgeTAM (arXiv 2501.07256, section 4.1) trains on 8 frames, then on 16, then on 32. A pure function of the epoch,
    so a resumed run needs no state.

    Args:
        lengths: Frames from an epoch on, by epoch; from epoch 0 on it is the data module's own setting unless given.

    Raises:
        UserError: An epoch or a length is out of range; at setup, the data module has no clips.
    """

    def __init__(self, lengths: dict[int, int]) -> None:
        for epoch, length in lengths.items():
            if epoch < 0 or length < 1:
                raise UserError(f"ClipLength: lengths has {epoch}: {length}; give epochs from 0 on, at least 1 frame")
        self.lengths = lengths

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Tell the data module before it plans its batches."""
        if stage != "fit":
            return
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "set_clip_length"):
            raise UserError(f"ClipLength: {type(data).__name__} has no clips; use it with datamodules.Clips")
        for epoch, length in sorted(self.lengths.items()):
            data.set_clip_length(length, epoch)
