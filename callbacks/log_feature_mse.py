"""Log how far the student's features are from the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchmetrics import MeanMetric, Metric

from callbacks.metric_logger import MetricLogger
from phd.contract import Contract
from phd.metrics import FeatureMSE
from phd.outputs import StepOutput


class LogFeatureMSE(MetricLogger):
    """Mean squared error and cosine similarity of the features; cells on padding do not count.

    - `val/feature_mse/<branch>_<level>` and `val/feature_cosine/<branch>_<level>`, level 0 the finest: the mean
      over all valid elements (MSE) or cells (cosine, along the channels),
    - `val/feature_mse` and `val/feature_cosine`: the mean over the levels, each counting once.

    Nothing is logged without a teacher.
    """

    def build(self, contract: Contract) -> dict[str, Metric]:
        """Two metrics per level of the contract."""
        levels = [f"{branch}_{i}" for branch, levels in contract.branches.items() for i in range(len(levels))]
        metrics: dict[str, Metric] = {f"feature_mse/{level}": FeatureMSE() for level in levels}
        return {**metrics, **{f"feature_cosine/{level}": MeanMetric() for level in levels}}

    def update(self, output: StepOutput, contract: Contract) -> None:
        """Add the features of one batch, in the branches that both sides encoded."""
        if output.student_features is None or output.teacher_features is None:
            return
        teachers = output.teacher_features.branches
        for branch, students in output.student_features.branches.items():
            if branch not in teachers:
                continue
            for i, (student, teacher) in enumerate(zip(students, teachers[branch], strict=True)):
                mask = torch.ones_like(student[:, 0], dtype=torch.bool)
                if output.content is not None:
                    mask = contract.content_mask(output.content, student.shape[-1])
                self.metrics[f"feature_mse/{branch}_{i}"].update(student, teacher, mask)
                cosine = cosine_similarity(student.float(), teacher.float(), dim=1)
                self.metrics[f"feature_cosine/{branch}_{i}"].update(cosine[mask])

    def summarise(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The levels, and their mean in front."""
        means = {}
        for name in ("feature_mse", "feature_cosine"):
            levels = [value for level, value in values.items() if level.startswith(f"{name}/")]
            if levels:
                means[name] = torch.stack(levels).mean()
        return {**means, **values}
