"""Log how well concepts are found, whether their presence can be trusted, and the teacher's own numbers beside them."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric, SumMetric

from callbacks.metric_logger import MetricLogger
from phd.contract import Contract
from phd.metrics import CalibrationError, ConceptF1
from phd.metrics.concept_overlap import mask_overlaps
from phd.outputs import ConceptPrediction, FoundInstances, StepOutput

PARTS = ("cgf1", "il_mcc", "pmf1")
WITHOUT_NEGATIVES = (
    "without a phrase that is absent for certain, {what}; add negative phrases (`phd shards convert` keeps those "
    "of the data, `phd shards negatives` finds hard ones)"
)


class LogConcepts(MetricLogger):
    """cgF1 and its parts on the mask grid, and the calibration of presence, over (image, phrase) pairs.

    - `val/cgf1`, `val/il_mcc`, `val/pmf1`: the student, on pairs that are annotated exhaustively,
    - `val/presence_ece`: expected calibration error of its presence, on pairs of which presence is known,
    - `val/teacher_cgf1` and so on: the teacher on the same pairs, the 100 % of the table.

    The masks are compared at low resolution: `phd evaluate concepts` has the protocol. A warning says how many phrases
    were cut because they are longer than the text encoder's context, and whether the training data (after its first
    epoch) or the validation data has no negative phrase: presence then cannot be learned or measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.negatives: Any = 0  # a tensor, so that no step waits for the device
        self.cut = self.asked = 0
        self._counting = False
        self._warned = False

    def build(self, contract: Contract) -> dict[str, Metric]:
        """One metric for each number of each model, and two counts for the warnings."""
        metrics: dict[str, Metric] = {}
        for who in ("", "teacher_"):
            metrics |= {f"{who}{part}": _Part(part) for part in PARTS}
            metrics[f"{who}presence_ece"] = _Error()
        return {**metrics, "_negatives": SumMetric(), "_cut": SumMetric()}

    def update(self, output: StepOutput, contract: Contract) -> None:
        """Add the pairs of one batch."""
        concepts = output.concepts
        if concepts is None:
            return
        self.metrics["_negatives"].update(_negatives(concepts))
        self.metrics["_cut"].update(concepts.cut)
        for who, found in (("", concepts.student), ("teacher_", concepts.teacher)):
            if found is None:
                continue
            known = concepts.truth.present | concepts.truth.exhaustive
            self.metrics[f"{who}presence_ece"].update(found.presence[known], concepts.truth.present[known])
            for scores, overlaps in datapoints(found, concepts):
                for part in PARTS:
                    self.metrics[f"{who}{part}"].update(scores, overlaps)

    def summarise(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The metrics; the counts become warnings."""
        shown = {name: value for name, value in values.items() if not name.startswith("_")}
        if "cgf1" in shown and not self._warned:
            self._warned = True
            if values["_negatives"] == 0:
                rank_zero_warn("validation data " + WITHOUT_NEGATIVES.format(what="cgF1 is 0, however good the model"))
            _warn_of_cut(int(values["_cut"]), "in validation")
        return shown

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count over the first epoch, if it is seen whole."""
        self.negatives, self.cut, self.asked = 0, 0, 0
        self._counting = trainer.current_epoch == 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the phrases of a batch."""
        concepts = cast(StepOutput, outputs["output"]).concepts
        if self._counting and concepts is not None:
            self.negatives = self.negatives + _negatives(concepts)
            self.cut += concepts.cut
            self.asked += len(concepts.phrases)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn of what the first epoch lacked."""
        if not self._counting:
            return
        self._counting = False
        counts = torch.tensor([float(self.negatives), self.cut, self.asked], device=pl_module.device)
        negatives, cut, asked = (int(count) for count in trainer.strategy.reduce(counts, reduce_op="sum"))
        if asked and not negatives:
            rank_zero_warn("training data " + WITHOUT_NEGATIVES.format(what="presence is not learned: cgF1 will be 0"))
        _warn_of_cut(cut, "in the first epoch")


def datapoints(found: FoundInstances, concepts: ConceptPrediction) -> list[tuple[Tensor, Tensor]]:
    """Scores (N,) and mask IoUs (N, M) of every pair that is annotated exhaustively."""
    truth = concepts.truth
    masks = truth.masks if truth.masks is not None else found.masks[:0]
    targets = masks.split(truth.counts.tolist())
    sizes = torch.bincount(found.pair, minlength=len(truth)).tolist()
    answers = zip(found.scores.split(sizes), found.masks.split(sizes), strict=True)
    rows = zip(answers, targets, truth.exhaustive.tolist(), strict=True)
    return [(scores, mask_overlaps(mine, theirs)) for (scores, mine), theirs, whole in rows if whole]


def _negatives(concepts: ConceptPrediction) -> Tensor:
    """How many phrases are absent for certain."""
    return (~concepts.truth.present & concepts.truth.exhaustive).sum()


def _warn_of_cut(count: int, when: str) -> None:
    if count:
        rank_zero_warn(
            f"{count} times {when} a phrase was longer than the text encoder's context and lost its end; a longer "
            f"model.text_context reads more"
        )


class _Part(ConceptF1):
    """One number of `ConceptF1`; NaN without any pair."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def compute(self) -> Tensor:  # type: ignore[override]
        value = super().compute()[self.part]
        return value if self.images.sum() > 0 else torch.full_like(value, torch.nan)


class _Error(CalibrationError):
    """The error alone."""

    def compute(self) -> Tensor:  # type: ignore[override]
        return super().compute()["error"]
