"""Mean J, F and J&F over objects, with sum states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class JAndF(Metric):
    """Mean over objects of each object's mean over frames, as DAVIS 2017 and SA-V report it.

    Fed with the scores of whole objects, so that a clip is not split between two updates. NaN before the first object.

    Args:
        part: "j", "f" or "jf", their mean.
    """

    higher_is_better: ClassVar[bool] = True
    is_differentiable: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False
    total: Tensor
    count: Tensor

    def __init__(self, part: str = "jf") -> None:
        super().__init__()
        if part not in ("j", "f", "jf"):
            raise ValueError(f"part {part!r} is none of j, f, jf")
        self.part = part
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, j: Sequence[float], f: Sequence[float]) -> None:
        """Add one object.

        Args:
            j: Region similarity of each frame that counts, in [0, 1].
            f: Boundary accuracy of each frame that counts, in [0, 1].

        Raises:
            ValueError: There is no frame, or the two differ in length.
        """
        if not j or len(j) != len(f):
            raise ValueError(f"{len(j)} values of J against {len(f)} of F; an object needs one of each for every frame")
        means = {"j": sum(j) / len(j), "f": sum(f) / len(f)}
        self.total += means[self.part] if self.part in means else (means["j"] + means["f"]) / 2
        self.count += 1

    def compute(self) -> Tensor:
        """Mean over objects in [0, 1], scalar."""
        return (self.total / self.count).float()
