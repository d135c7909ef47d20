"""One datapoint of concept segmentation: a phrase asked of an image or a video, its predictions and its targets.

After SAM 3 (Carion et al. 2025, arXiv 2511.16719), the section on cgF1, and to the last digit of its published
evaluator, which keeps what is predicted with enough confidence and lets the best pairing count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

# IoU from 0.50 to 0.95 in steps of 0.05, as in COCO; the rows at 0.5 and 0.75 are the first and the sixth.
THRESHOLDS: np.ndarray = np.linspace(0.5, 0.95, 10)
ROWS = {"50": 0, "75": 5}
# A prediction counts from this score on, also exactly at it.
SCORE_THRESHOLD = 0.5
# Added to the denominators of precision, recall and F1, so that perfection is 0.9999 and not 1.
EPSILON = 1e-4


@dataclass(frozen=True)
class DatapointScore:
    """What the matching of one datapoint found.

    Attributes:
        true_positives: (10,) int64, matched pairs whose IoU reaches each threshold.
        num_predictions: Predictions that count.
        num_targets: Instances that there are.
    """

    true_positives: np.ndarray
    num_predictions: int
    num_targets: int

    @property
    def false_positives(self) -> np.ndarray:
        """(10,) predictions that found nothing."""
        return self.num_predictions - self.true_positives

    @property
    def false_negatives(self) -> np.ndarray:
        """(10,) instances that were not found."""
        return self.num_targets - self.true_positives

    @property
    def true_negative(self) -> bool:
        """Nothing was there and nothing was found: F1 is not defined, and no answer is better."""
        return not self.num_predictions and not self.num_targets

    @property
    def local_f1(self) -> np.ndarray:
        """(10,) F1 of this datapoint alone."""
        return precision_recall_f1(self.true_positives, self.false_positives, self.false_negatives)[2]


def precision_recall_f1(true_positives: Any, false_positives: Any, false_negatives: Any) -> tuple[Any, Any, Any]:
    """Precision, recall and F1 of counts in arrays or tensors of any one shape, each with `EPSILON`."""
    precision = true_positives / (true_positives + false_positives + EPSILON)
    recall = true_positives / (true_positives + false_negatives + EPSILON)
    return precision, recall, 2 * precision * recall / (precision + recall + EPSILON)


def match_datapoint(scores: Any, ious: Any, score_threshold: float = SCORE_THRESHOLD) -> DatapointScore:
    """Match predictions and targets one to one so that the sum of IoU is largest; scores do not order the matching.

    Args:
        scores: (N,) confidence in [0, 1] of every prediction.
        ious: (N, M) IoU of every prediction with every target; crowd regions are no targets.
        score_threshold: Predictions below it do not count.

    Raises:
        ValueError: The shapes do not belong together.
    """
    scores, ious = as_datapoint(scores, ious)
    kept = ious[scores >= score_threshold]
    matched = kept[linear_sum_assignment(-kept)]
    found = (matched[None, :] >= THRESHOLDS[:, None]).sum(axis=1)
    return DatapointScore(found, *kept.shape)


def as_datapoint(scores: Any, ious: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N,) and IoUs (N, M) as float64 arrays, from arrays or tensors on any device.

    Raises:
        ValueError: The shapes do not belong together.
    """
    scores, ious = (np.asarray(v.detach().cpu() if hasattr(v, "detach") else v, dtype=float) for v in (scores, ious))
    if scores.ndim != 1 or ious.ndim != 2 or len(scores) != len(ious):
        raise ValueError(f"scores of shape {scores.shape} against IoUs of shape {ious.shape}; need (N,) and (N, M)")
    return scores, ious


def best_annotator(candidates: Sequence[DatapointScore]) -> int:
    """The annotator whose answer suits the prediction best: the oracle of SA-Co/Gold.

    It has the largest mean of `local_f1` over the thresholds. An annotator with whom the datapoint is a true negative
    wins over every other; of two such the last one, which changes nothing. Equal means keep the first one: the number
    of a data set depends on the order of the annotators' files. (The paper breaks ties of humans by fewer mistakes;
    the published evaluator does not.)

    Args:
        candidates: One for each annotator, in the order of their files.
    """
    best = 0
    for place, current in enumerate(candidates):
        if current.true_negative or current.local_f1.mean() > candidates[best].local_f1.mean():
            best = place
    return best
