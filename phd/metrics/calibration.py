"""Can scores be trusted? Reliability diagram and expected calibration error, with sum states."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from phd.metrics.concept_matching import as_datapoint


class CalibrationError(Metric):
    """Expected calibration error and the reliability diagram behind it.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017, arXiv 1706.04599, section 2): confidences fall
    into bins of equal width; the error is the mean over samples of the distance between a bin's mean confidence and
    the share of it that is right. (The class of `torchmetrics` keeps every sample; this one keeps sums by bins.)

    Args:
        num_bins: Of [0, 1]. A bin is closed below; 1 belongs to the last one.
    """

    higher_is_better: ClassVar[bool] = False
    is_differentiable: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False
    count: Tensor
    correct: Tensor
    confidence: Tensor

    def __init__(self, num_bins: int = 15) -> None:
        super().__init__()
        if num_bins < 1:
            raise ValueError(f"num_bins is {num_bins}; give at least 1")
        self.num_bins = num_bins
        self.add_state("count", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("confidence", torch.zeros(num_bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add N samples.

        Args:
            confidence: (N,) in [0, 1].
            correct: (N,) bool, whether what was said with this confidence is true.

        Raises:
            ValueError: The shapes differ, or a confidence lies outside [0, 1] or is NaN.
        """
        if confidence.shape != correct.shape or confidence.ndim != 1:
            raise ValueError(f"confidences of shape {tuple(confidence.shape)} against {tuple(correct.shape)}")
        if not ((confidence >= 0) & (confidence <= 1)).all():
            raise ValueError("a confidence lies outside [0, 1]")
        confidence = confidence.to(self.confidence)
        bins = (confidence * self.num_bins).long().clamp(max=self.num_bins - 1)
        self.count.index_add_(0, bins, torch.ones_like(bins))
        self.correct.index_add_(0, bins, correct.to(self.correct))
        self.confidence.index_add_(0, bins, confidence)

    def compute(self) -> dict[str, Tensor]:
        """The error and the diagram.

        Returns:
            `error`: scalar in [0, 1]; `bias`: mean confidence minus the share that is right, in [-1, 1], above 0 for
            scores that promise too much; both NaN before the first sample. `count`, `confidence` and `accuracy` of
            each bin (num_bins,); the last two NaN where a bin is empty.
        """
        total = self.count.sum()
        gaps = self.confidence - self.correct
        return {
            "error": gaps.abs().sum() / total,
            "bias": gaps.sum() / total,
            "count": self.count.clone(),
            "confidence": self.confidence / self.count,
            "accuracy": self.correct / self.count,
        }


def correct_predictions(scores: Any, ious: Any, iou_threshold: float = 0.5) -> np.ndarray:
    """Which predictions of a datapoint are right, for the calibration of their scores.

    In the order of their scores each takes the free target with which its IoU is largest, if it reaches the
    threshold; a second prediction of one instance is wrong. So average precision counts (Everingham et al., PASCAL
    VOC, 2010, section 4.2), and so Küppers et al. define what a detector's confidence has to meet ("Multivariate
    Confidence Calibration for Object Detection", CVPRW 2020, arXiv 2004.13546, section 3).

    Args:
        scores: (N,) confidence in [0, 1].
        ious: (N, M) IoU of every prediction with every target.
        iou_threshold: From here on a prediction is right.

    Returns:
        (N,) bool.
    """
    scores, ious = as_datapoint(scores, ious)
    right = np.zeros(len(scores), dtype=bool)
    free = ious.copy()
    for row in np.argsort(-scores, kind="stable") if ious.shape[1] else []:
        column = free[row].argmax()
        if free[row, column] >= iou_threshold:
            right[row] = True
            free[:, column] = -1.0
    return right
