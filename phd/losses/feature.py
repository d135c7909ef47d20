"""Feature losses: means over the valid elements, so that a weight means the same at every width and size.

Each compares (B, C, h, w) of the student with the teacher's; `mask` (B, h, w) bool says which positions are valid, all
of them by default. The result is a scalar.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def feature_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error over valid elements.

    EfficientSAM3 (arXiv 2511.15833, stage 1) sums over channels instead, which ties its weight to the width.
    """
    squared = (student.float() - teacher.float()).square()
    if mask is None:
        return squared.mean()
    weight = mask.unsqueeze(1).to(squared.dtype)
    return (squared * weight).sum() / (weight.sum() * squared.shape[1]).clamp(min=1)


def relative_feature_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error over the teacher's mean square: 1 for a student that answers 0, at any scale.

    The levels of one teacher differ in scale by orders of magnitude; relative to it, one weight serves them all.
    """
    power = feature_mse(teacher.new_zeros(()).expand_as(teacher), teacher, mask)
    return feature_mse(student, teacher, mask) / power.clamp(min=1e-12)


def feature_cosine(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus the cosine over channels, mean over valid positions; in [0, 2] (EfficientSAM3, stage 1)."""
    distance = 1 - F.cosine_similarity(student.float(), teacher.float(), dim=1)
    if mask is None:
        return distance.mean()
    weight = mask.to(distance.dtype)
    return (distance * weight).sum() / weight.sum().clamp(min=1)
