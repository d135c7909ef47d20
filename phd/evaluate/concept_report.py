"""What an evaluation of concepts adds up, and how it is written down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phd.metrics import CalibrationError, ConceptF1
from phd.metrics.calibration import correct_predictions
from phd.metrics.concept_matching import SCORE_THRESHOLD, THRESHOLDS, best_annotator, match_datapoint

# Choices that all evaluations of concepts share.
PROTOCOL = {
    "metric": "cgF1 (SAM 3, arXiv 2511.16719), fractions",
    "score_threshold": f"score >= {SCORE_THRESHOLD}",
    "iou_thresholds": [round(float(value), 2) for value in THRESHOLDS],
    "matching": "one to one with the largest sum of IoU; scores do not order it",
    "crowd": "crowd regions are dropped and not ignored: a prediction on one is a false positive",
    "positive_macro_f1": "a true phrase without prediction adds 0 to the sum and nothing to the count, as in the "
    "reference; positive_macro_f1_all counts it",
    "calibration": "presence: the largest score of a phrase against whether it has an instance; scores: all "
    "predictions against whether they take a free instance at IoU 0.5 in the order of their scores; 15 bins",
}
NO_NEGATIVE = "no phrase is false: presence cannot be judged, so il_mcc and cgf1 are 0 whatever is predicted"
NO_POSITIVE = "no phrase is true: il_mcc and cgf1 are 0 whatever is predicted"


class ConceptTally:
    """The metrics of a data set, fed datapoint by datapoint."""

    def __init__(self) -> None:
        self.f1 = ConceptF1()
        self.presence = CalibrationError()
        self.scores = CalibrationError()
        self.num_positive = self.num_negative = self.num_predictions = self.num_below = 0

    def add(self, scores: Sequence[float], answers: Sequence[np.ndarray], presence: float | None = None) -> int:
        """Add one datapoint.

        Args:
            scores: (N,) in [0, 1].
            answers: IoU (N, M) of the predictions with the targets of each annotator.
            presence: The model's own probability that the phrase is true; the largest score where there is none.

        Returns:
            The annotator that counts.
        """
        confidence = np.asarray(scores, dtype=float)
        best = best_annotator([match_datapoint(confidence, answer) for answer in answers])
        ious = answers[best]
        self.f1.update(confidence, ious)
        present = ious.shape[1] > 0
        probability = confidence.max(initial=0.0) if presence is None else presence
        self.presence.update(torch.tensor([probability], dtype=torch.float64), torch.tensor([present]))
        self.scores.update(torch.from_numpy(confidence), torch.from_numpy(correct_predictions(confidence, ious)))
        self.num_positive += present
        self.num_negative += not present
        self.num_predictions += len(confidence)
        self.num_below += int((confidence < SCORE_THRESHOLD).sum())
        return best

    def numbers(self) -> dict[str, float | None]:
        """All of `ConceptF1`, None where one is not defined."""
        return {name: plain(value) for name, value in self.f1.compute().items()}

    def calibration(self) -> dict[str, Any]:
        """Expected calibration errors, None before the first sample, and reliability diagrams."""
        found: dict[str, Any] = {}
        diagrams: dict[str, Any] = {}
        for name, metric in (("presence", self.presence), ("score", self.scores)):
            values = metric.compute()
            found |= {f"{name}_ece": plain(values["error"]), f"{name}_bias": plain(values["bias"])}
            diagrams[name] = diagram(values)
        return {**found, "reliability": diagrams}

    def counts(self) -> dict[str, int]:
        """How many datapoints and predictions there were."""
        return {
            "num_datapoints": self.num_positive + self.num_negative,
            "num_positive": self.num_positive,
            "num_negative": self.num_negative,
            "num_predictions": self.num_predictions,
            "num_below_threshold": self.num_below,
        }

    def warnings(self) -> list[str]:
        """What makes the numbers say less than they seem to."""
        notes = ((self.num_negative, NO_NEGATIVE), (self.num_positive, NO_POSITIVE))
        return [note for count, note in notes if not count]


def diagram(values: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The bins of a reliability diagram."""
    bins = len(values["count"])
    return [
        {
            "from": place / bins,
            "to": (place + 1) / bins,
            "count": int(values["count"][place]),
            "confidence": plain(values["confidence"][place]),
            "accuracy": plain(values["accuracy"][place]),
        }
        for place in range(bins)
    ]


def plain(value: Any) -> float | None:
    """A number for JSON; NaN, what is not defined, becomes None."""
    number = float(value)
    return None if math.isnan(number) else number
