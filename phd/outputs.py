"""What steps and evaluations hand on: predictions, what a step returns, and labelled images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from phd.contract import ImageFeatures, Prompts


@dataclass
class MaskPrediction:
    """What a step predicted for the prompts of one kind; metrics and panels read it.

    Attributes:
        prompts: The P prompts as first given, without corrective points.
        student: (P, m, m) mask logits of the trained model, after the last round.
        teacher: (P, m, m) mask logits of the teacher for the same prompts, or None without a teacher.
        target: (P, m, m) uint8 ground truth, or None without any.
    """

    prompts: Prompts
    student: Tensor
    teacher: Tensor | None
    target: Tensor | None


@dataclass
class ClipPrediction:
    """What a step tracked: N objects through T frames, on the mask grid.

    Attributes:
        student: (T, N, m, m) mask logits of the trained model.
        teacher: (T, N, m, m) mask logits of the teacher, or None without one.
        target: (T, N, m, m) bool, ground truth.
        labelled: (T, N) bool, whether the frame has ground truth.
        void: (T, N, m, m) bool, cells that count neither way.
        clip_index: (N,) clip of each object in the batch.
        keys: Sample keys of the clips.
    """

    student: Tensor
    teacher: Tensor | None
    target: Tensor
    labelled: Tensor
    void: Tensor
    clip_index: Tensor
    keys: list[str]


@dataclass
class StepOutput:
    """What a step of any stage returns; the base module logs the terms, callbacks read the rest.

    Attributes:
        loss: Scalar to descend.
        terms: Its unweighted parts by name, scalars, for the log.
        batch_size: Number of images; in stage 2, of frames.
        masks: Predictions by prompt kind ("box", "point", "mask").
        student_features: What the trained model encoded, or None.
        teacher_features: What the teacher encoded, or None.
        content: (B, 2) filled part of the canvas in contract pixels; features beyond it do not count.
        clip: What was tracked, in stage 2.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    batch_size: int
    masks: dict[str, MaskPrediction] = field(default_factory=dict)
    student_features: ImageFeatures | None = None
    teacher_features: ImageFeatures | None = None
    content: Tensor | None = None
    clip: ClipPrediction | None = None


@dataclass
class LabelledImage:
    """One image with its instances, for evaluation.

    Attributes:
        key: Names the sample in reports and errors.
        image: (H, W, 3) uint8 RGB, at its own size.
        masks: COCO compressed RLE of each instance, `{"size": [H, W], "counts": str}`.
        ids: Id of each instance in its data set.
    """

    key: str
    image: np.ndarray
    masks: list[dict[str, Any]]
    ids: list[int]
