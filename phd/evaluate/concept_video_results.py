"""Numbers of masks or boxes in videos, and their published names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from phd.evaluate.concept_report import ConceptTally
from phd.evaluate.concept_video_ap import Ranked, average_precision
from phd.evaluate.concept_video_files import Pair
from phd.metrics import HOTA
from phd.metrics.concept_matching import ROWS, match_datapoint
from phd.metrics.concept_teta import Tracks, teta

# Published name of a number of cgF1 -> ours; each at three thresholds.
CONCEPT_NAMES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "pmf1": "positive_macro_f1",
    "cgf1": "cgf1_macro",
    "positive_micro_f1": "pmf1",
    "cgf1_micro": "cgf1",
}
THRESHOLD_NAMES = {"50_95": "", "50": "_50", "75": "_75"}


class KindResults:
    """Everything about the masks, or about the boxes.

    Args:
        kind: "mask" or "bbox".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.tally = ConceptTally()
        self.hota = HOTA()
        self.ranked: list[tuple[int, Pair, Ranked]] = []
        self.pairs: dict[Pair, dict[str, float]] = {}

    def add_datapoint(self, place: int, pair: Pair, scores: np.ndarray, volumes: np.ndarray, crowd: np.ndarray) -> None:
        """Add one phrase of one video.

        Args:
            place: Number of the pair.
            pair: Ids of video and category.
            scores: (D,) of the predicted tracks.
            volumes: (D, G) IoU over the video.
            crowd: (G,) bool.
        """
        ious = volumes[:, ~crowd]
        self.tally.add(scores.tolist(), [ious])
        if volumes.shape != (0, 0):
            # The reference counts boxes in single precision, where an IoU of 0.7 does not reach the threshold 0.7.
            ranked = volumes.astype(np.float32).astype(float) if self.kind == "bbox" else volumes
            self.ranked.append((place, pair, Ranked(place + 1, 1, scores, ranked, crowd)))
        score = match_datapoint(scores, ious)
        counts = {"TP": score.true_positives, "FP": score.false_positives, "FN": score.false_negatives}
        whole = 2 * counts["TP"] + counts["FP"] + counts["FN"]
        counts["F1"] = np.divide(2 * counts["TP"], whole, out=np.ones(len(whole)), where=whole > 0)
        row = self.pairs.setdefault(pair, {})
        for suffix, threshold in (("50_95", slice(None)), *ROWS.items()):
            row |= {f"{self.kind}_{name}_{suffix}": float(np.mean(found[threshold])) for name, found in counts.items()}

    def add_tracks(self, pair: Pair, similarity: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> None:
        """Add the sequence of one pair; see `phd.metrics.hota.HOTA.update`."""
        one = HOTA()
        for metric in (self.hota, one):
            metric.update(similarity, targets, predictions)
        row = {f"{self.kind}_{name}": float(value) for name, value in one.compute().items()}
        self.pairs[pair] = row | self.pairs.get(pair, {})

    def tracking(self) -> dict[str, float]:
        """HOTA and its parts over all pairs."""
        return {name: float(value) for name, value in self.hota.compute().items()}

    def phrase_ap(self) -> tuple[float, float, float]:
        """AP, AP50 and AP75 with every pair as an image of one class."""
        return average_precision([ranked for _, _, ranked in self.ranked])

    def class_ap(self, videos: dict[Any, int], classes: dict[Any, int]) -> float:
        """MAP over classes; the arguments number videos and categories."""
        return average_precision(
            [
                Ranked(videos[number], classes[category], ranked.scores, ranked.volumes, ranked.crowd)
                for _, (number, category), ranked in self.ranked
            ]
        )[0]

    def concept_names(self) -> dict[str, float | None]:
        """cgF1 and its parts, by published names."""
        numbers = self.tally.numbers()
        prefix = f"video_{self.kind}_demo"
        found: dict[str, float | None] = {}
        for suffix, own in THRESHOLD_NAMES.items():
            found |= {f"{prefix}_{name}_{suffix}": numbers[f"{key}{own}"] for name, key in CONCEPT_NAMES.items()}
            found[f"{prefix}_ilmcc_{suffix}"] = numbers["il_mcc"]
        found[f"{prefix}_pmf1_w0dt_50_95"] = numbers["positive_macro_f1_all"]
        found[f"{prefix}_cgf1_w0dt_50_95"] = numbers["cgf1_macro_all"]
        return found


def published_results(
    kinds: Sequence[KindResults], tracks: Sequence[Tracks], classes: Sequence[Any], pairs: Sequence[Pair]
) -> dict[str, Any]:
    """`dataset_results` and `video_np_results` with the names of SAM 3's evaluators.

    Args:
        kinds: Results of masks and of boxes.
        tracks: Of the masks of every video.
        classes: Categories that have a true masklet, in the order of the file.
        pairs: All pairs of video and category, in the order of the rows.
    """
    videos = {number: place for place, number in enumerate(dict.fromkeys(number for number, _ in pairs), 1)}
    numbered = {category: place for place, category in enumerate(dict.fromkeys(category for _, category in pairs), 1)}
    found: dict[str, float | None] = {}
    for results in kinds:
        found[f"video_{results.kind}_mAP_50_95"] = results.class_ap(videos, numbered)
        for suffix, value in zip(("50_95", *ROWS), results.phrase_ap(), strict=True):
            found[f"video_{results.kind}_phrase_ap_{suffix}"] = value
        found |= {f"video_{results.kind}_all_phrase_{name}": value for name, value in results.tracking().items()}
        found |= results.concept_names()
    # The reference reports TETA in per cent, rounded to five digits.
    found |= {f"video_mask_{name}": float(f"{100 * value:1.5g}") for name, value in teta(tracks, classes).items()}
    rows = [
        {"video_id": pair[0], "category_id": pair[1]}
        | {name: value for results in kinds for name, value in results.pairs.get(pair, {}).items()}
        for pair in pairs
    ]
    return {"dataset_results": found, "video_np_results": rows}
