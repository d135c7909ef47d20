"""Log J, F and J&F of tracked clips, and the teacher's own beside them."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from callbacks.metric_logger import MetricLogger
from phd.contract import Contract
from phd.metrics.j_and_f import JAndF
from phd.metrics.video import boundary_accuracy, region_similarity
from phd.outputs import ClipPrediction, StepOutput

PARTS = ("j", "f", "jf")


class LogJAndF(MetricLogger):
    """Mean over objects of their mean over frames, on the mask grid, by the code of `phd evaluate video`.

    Frames with ground truth count, but for the first one, which is given; void cells count neither way. An object
    without a further labelled frame has nothing to score. The numbers of a validation during training are those of
    short clips at low resolution: `phd evaluate video` has the protocols.

    - `val/jf`, `val/j`, `val/f`: the student,
    - `val/teacher_jf` and so on: the teacher on the same clips, the 100 % of the table,
    - `val/memory_tokens`: what a frame leaves in the student's memory, for each object.
    """

    def build(self, contract: Contract) -> dict[str, Metric]:
        """One metric for each number."""
        return {f"{who}{part}": JAndF(part) for who in ("", "teacher_") for part in PARTS}

    def update(self, output: StepOutput, contract: Contract) -> None:
        """Add the objects of one batch."""
        if output.clip is None:
            return
        for who, masks in (("", output.clip.student), ("teacher_", output.clip.teacher)):
            if masks is None:
                continue
            for j, f in scores(masks, output.clip):
                for part in PARTS:
                    metric: Any = self.metrics[f"{who}{part}"]
                    metric.update(j, f)

    def summarise(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The metrics, and how much memory they cost."""
        return {**values, "memory_tokens": torch.tensor(float(self.tokens))} if "jf" in values else values

    def _start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super()._start(trainer, pl_module)
        heads: Any = getattr(pl_module.learner, "heads", None)
        self.tokens: int = heads.compressor.num_tokens if hasattr(heads, "compressor") else 0


def scores(masks: Tensor, clip: ClipPrediction) -> list[tuple[list[float], list[float]]]:
    """J and F of each object that has frames to score, frame by frame.

    Args:
        masks: (T, N, m, m) logits.
        clip: The ground truth.
    """
    void = clip.void.cpu().numpy()
    predicted, truth = (masks > 0).cpu().numpy() & ~void, clip.target.cpu().numpy() & ~void
    labelled = clip.labelled.cpu().numpy()
    found: list[tuple[list[float], list[float]]] = []
    for item in range(predicted.shape[1]):
        frames = [int(frame) for frame in np.flatnonzero(labelled[:, item]) if frame > 0]
        if frames:
            pairs = [(predicted[frame, item], truth[frame, item]) for frame in frames]
            found.append(([region_similarity(*pair) for pair in pairs], [boundary_accuracy(*pair) for pair in pairs]))
    return found
