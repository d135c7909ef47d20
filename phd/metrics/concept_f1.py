"""cgF1, pmF1 and IL_MCC of concept segmentation, with sum states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from phd.metrics.concept_matching import (
    ROWS,
    SCORE_THRESHOLD,
    THRESHOLDS,
    best_annotator,
    match_datapoint,
    precision_recall_f1,
)

# Added to the denominators of the numbers at the level of images.
IMAGE_EPSILON = 1e-6


class ConceptF1(Metric):
    """Classification-gated F1 and its parts (SAM 3, arXiv 2511.16719, the section on cgF1).

    - `pmf1`, positive micro F1: how well instances are found where the phrase is true. Counts of all datapoints are
      summed; a false positive counts only where there is a target.
    - `il_mcc`: Matthews' correlation of "something was predicted" with "something is there", over all datapoints.
    - `cgf1`: their product at each IoU threshold, averaged. Without true and false phrases both it is 0.
    - `positive_macro_f1`: mean of the datapoints' own F1. The published evaluator's quirk: a true phrase without
      prediction adds 0 to the sum and nothing to the count. `positive_macro_f1_all` counts it. Both are NaN where
      their count is 0.
    - `cgf1_macro` and `cgf1_macro_all`: with those in place of `pmf1`; the paper's number for video is `cgf1_macro`.
    - `precision`, `recall`, `f1`: of all datapoints, with all false positives.

    Each is a mean over the IoU thresholds 0.50 to 0.95, with `_50` and `_75` appended at one threshold.

    Args:
        score_threshold: Predictions below it do not count.
    """

    higher_is_better: ClassVar[bool] = True
    is_differentiable: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False
    true_positives: Tensor
    false_positives: Tensor
    positive_false_positives: Tensor
    false_negatives: Tensor
    local_f1: Tensor
    images: Tensor

    def __init__(self, score_threshold: float = SCORE_THRESHOLD) -> None:
        super().__init__()
        self.score_threshold = score_threshold
        zeros = torch.zeros(len(THRESHOLDS), dtype=torch.int64)
        for name in ("true_positives", "false_positives", "positive_false_positives", "false_negatives"):
            self.add_state(name, zeros.clone(), dist_reduce_fx="sum")
        self.add_state("local_f1", zeros.double(), dist_reduce_fx="sum")
        # Datapoints by what is there and what was predicted: true and false positives, false and true negatives.
        self.add_state("images", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Any, ious: Any) -> None:
        """Add one datapoint.

        Args:
            scores: (N,) confidence in [0, 1] of every prediction.
            ious: (N, M) IoU of every prediction with every target (`mask_overlaps`, `box_overlaps`), or a sequence of
                such, one for each annotator, of which the best one counts (`best_annotator`).
        """
        answers = ious if isinstance(ious, Sequence) else [ious]
        candidates = [match_datapoint(scores, answer, self.score_threshold) for answer in answers]
        score = candidates[best_annotator(candidates)]
        there, found = score.num_targets > 0, score.num_predictions > 0
        device = self.images.device
        self.images[2 * (not found) + (there != found)] += 1
        self.true_positives += torch.as_tensor(score.true_positives, device=device)
        self.false_positives += torch.as_tensor(score.false_positives, device=device)
        self.false_negatives += torch.as_tensor(score.false_negatives, device=device)
        if there:
            self.positive_false_positives += torch.as_tensor(score.false_positives, device=device)
            self.local_f1 += torch.as_tensor(score.local_f1, device=device)

    def compute(self) -> dict[str, Tensor]:
        """All numbers by name, scalars in float64."""
        image_tp, image_fp, image_tn, image_fn = self.images.double()
        tp, fn = self.true_positives.double(), self.false_negatives.double()
        precision, recall, f1 = precision_recall_f1(tp, self.false_positives, fn)
        positive_precision, _, positive_f1 = precision_recall_f1(tp, self.positive_false_positives, fn)
        of_images = image_level(image_tp, image_fp, image_tn, image_fn)
        mcc = of_images["il_mcc"]
        macro, macro_all = self.local_f1 / image_tp, self.local_f1 / (image_tp + image_fn)
        by_threshold = {
            "cgf1": positive_f1 * mcc,
            "pmf1": positive_f1,
            "positive_micro_precision": positive_precision,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "positive_macro_f1": macro,
            "positive_macro_f1_all": macro_all,
            "cgf1_macro": macro * mcc,
            "cgf1_macro_all": macro_all * mcc,
        }
        # The three that everybody asks for come first.
        values = {"cgf1": by_threshold["cgf1"].mean(), "pmf1": positive_f1.mean(), "il_mcc": mcc}
        values |= {name: row.mean() for name, row in by_threshold.items()} | of_images
        for name, row in by_threshold.items():
            values |= {f"{name}_{suffix}": row[place] for suffix, place in ROWS.items()}
        return values


def image_level(tp: Tensor, fp: Tensor, tn: Tensor, fn: Tensor) -> dict[str, Tensor]:
    """How well the presence of a phrase is known, from counts of datapoints (scalars in float64)."""
    precision = tp / (tp + fp + IMAGE_EPSILON)
    recall = tp / (tp + fn + IMAGE_EPSILON)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "il_mcc": (tp * tn - fp * fn) / (product.sqrt() + IMAGE_EPSILON),
        "il_precision": precision,
        "il_recall": recall,
        "il_f1": 2 * precision * recall / (precision + recall + IMAGE_EPSILON),
        "il_fpr": fp / (fp + tn + IMAGE_EPSILON),
    }
