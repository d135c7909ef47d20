"""Intersection over union of masks, averaged over instances."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


def mask_iou(prediction: Tensor, target: Tensor, threshold: float = 0.0) -> Tensor:
    """IoU of each of P pairs of masks (the Jaccard index; Everingham et al., PASCAL VOC, 2010).

    Two empty masks agree everywhere, so their IoU is 1.

    Args:
        prediction: (P, h, w) logits, or bool or integers {0, 1}.
        target: (P, h, w), in any of the same forms.
        threshold: Logits above it are mask.

    Returns:
        (P,) IoU in [0, 1], float32.

    Raises:
        ValueError: The shapes differ, which broadcasting would hide.
    """
    if prediction.shape != target.shape or prediction.ndim != 3:
        raise ValueError(f"masks of shape {tuple(prediction.shape)} against {tuple(target.shape)}")
    predicted, wanted = _binarise(prediction, threshold), _binarise(target, threshold)
    intersection = (predicted & wanted).sum(dim=(1, 2))
    union = (predicted | wanted).sum(dim=(1, 2))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def _binarise(masks: Tensor, threshold: float) -> Tensor:
    return masks > threshold if masks.is_floating_point() else masks.bool()


class MaskIoU(Metric):
    """Mean IoU over instances: every instance counts once, whatever its size or its image.

    NaN before the first instance.

    Args:
        threshold: Logits above it are mask, in prediction and target alike.
    """

    higher_is_better: ClassVar[bool] = True
    is_differentiable: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False
    total: Tensor
    count: Tensor

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add P instances; see `mask_iou` for shapes."""
        self.total += mask_iou(prediction, target, self.threshold).sum()
        self.count += prediction.shape[0]

    def compute(self) -> Tensor:
        """Mean IoU in [0, 1], scalar."""
        return self.total / self.count
