"""Mean squared error between the features of student and teacher."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class FeatureMSE(Metric):
    """Mean of the squared differences over all valid elements that were seen.

    A cell of padding is no element: images of different shapes weigh by what they show, and a sum of batches equals
    one large batch (a mean of batch means would not). NaN before the first element.
    """

    higher_is_better: ClassVar[bool] = False
    is_differentiable: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        # An integer: a float32 count stops growing by one at 2 ** 24 elements, which is less than one image.
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> None:
        """Add one level of a batch.

        Args:
            student: (B, C, h, w).
            teacher: (B, C, h, w).
            mask: (B, h, w) bool, the cells that lie on image content; all by default.

        Raises:
            ValueError: The shapes differ, which broadcasting would hide.
        """
        if student.shape != teacher.shape or student.ndim != 4:
            raise ValueError(f"features of shape {tuple(student.shape)} against {tuple(teacher.shape)}")
        batch, channels, height, width = student.shape
        if mask is not None and mask.shape != (batch, height, width):
            raise ValueError(f"mask of shape {tuple(mask.shape)} for features of shape {tuple(student.shape)}")
        squared = (student.float() - teacher.float()).square().sum(dim=1)
        if mask is None:
            self.count += student.numel()
        else:
            # Selection, not multiplication: a padded cell may hold NaN or infinity.
            squared = torch.where(mask, squared, 0.0)
            self.count += mask.sum() * channels
        self.total += squared.sum()

    def compute(self) -> Tensor:
        """The mean squared error, scalar."""
        return self.total / self.count
