"""Log the mask IoU of the student, and the teacher's own beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torchmetrics import Metric

from callbacks.metric_logger import MetricLogger
from phd.contract import Contract
from phd.errors import UserError
from phd.metrics import MaskIoU
from phd.outputs import StepOutput

References = Literal["teacher", "ground_truth"]


class LogMaskIoU(MetricLogger):
    """Mean IoU over instances, on the mask grid, by what the masks are compared with and by prompt kind.

    - `val/mask_iou/teacher/<kind>`: the student against the teacher's masks,
    - `val/mask_iou/ground_truth/<kind>`: the student against the ground truth,
    - `val/teacher_mask_iou/ground_truth/<kind>`: the teacher against the ground truth, the 100 % of the table,
    - `val/mask_iou`: the student, all kinds together, every prompt counting once. Against the teacher where
      there is one, otherwise against the ground truth; `reference` fixes it.

    Args:
        reference: What `val/mask_iou` compares with.
        kinds: The prompt kinds that a step may return.
    """

    def __init__(self, reference: References | None = None, kinds: Sequence[str] = ("box", "point", "mask")) -> None:
        super().__init__()
        self.reference = reference
        self.kinds = tuple(kinds)

    def build(self, contract: Contract) -> dict[str, Metric]:
        """One metric per comparison and kind, and the headline."""
        comparisons = ("mask_iou/teacher", "mask_iou/ground_truth", "teacher_mask_iou/ground_truth")
        metrics: dict[str, Metric] = {f"{name}/{kind}": MaskIoU() for name in comparisons for kind in self.kinds}
        return {"mask_iou": MaskIoU(), **metrics}

    def update(self, output: StepOutput, contract: Contract) -> None:
        """Add the predictions of one batch.

        Raises:
            UserError: A prompt kind that `kinds` lacks, or `reference` names masks that the step does not have.
        """
        for kind, prediction in output.masks.items():
            if kind not in self.kinds:
                raise UserError(f"LogMaskIoU: the step returns the prompt kind {kind!r}; add it to kinds")
            references = {"teacher": prediction.teacher, "ground_truth": prediction.target}
            present = {name: masks for name, masks in references.items() if masks is not None}
            for name, masks in present.items():
                self.metrics[f"mask_iou/{name}/{kind}"].update(prediction.student, masks)
            if len(present) == 2:
                own = self.metrics[f"teacher_mask_iou/ground_truth/{kind}"]
                own.update(present["teacher"], present["ground_truth"])
            headline = self.reference or next(iter(present), None)
            if headline is not None:
                if headline not in present:
                    raise UserError(
                        f"LogMaskIoU: reference is {headline}, but the step has no such masks; "
                        f"choose another reference, or the data and supervision that have them"
                    )
                self.metrics["mask_iou"].update(prediction.student, present[headline])
