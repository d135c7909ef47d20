"""Average precision of tracks, counted by pycocotools from overlaps that are known already."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


@dataclass(frozen=True)
class Ranked:
    """The tracks that are ranked together: of one video and one class.

    Attributes:
        image: What pycocotools takes for the image: a number for the video, or for the pair of video and phrase.
        category: The class.
        scores: (D,) of the predicted tracks.
        volumes: (D, G) IoU over the video.
        crowd: (G,) bool, true tracks that neither count nor make a prediction false.
    """

    image: int
    category: int
    scores: np.ndarray
    volumes: np.ndarray
    crowd: np.ndarray


class _TrackEval(COCOeval):
    """COCO's evaluation on given overlaps, at most 100 tracks of a class in a video."""

    def __init__(self, ranked: Sequence[Ranked]) -> None:
        truth, found = _annotations(ranked)
        super().__init__(_data_set(truth, ranked), _data_set(found, ranked), "bbox")
        self.volumes = {(entry.image, entry.category): entry for entry in ranked}
        everything = self.params.areaRng[0]
        self.params.areaRng, self.params.areaRngLbl = [everything], ["all"]

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """The overlaps with the predictions in the order of their scores."""
        entry = self.volumes.get((imgId, catId))
        if entry is None or not entry.volumes.size:
            return []
        order = np.argsort(-entry.scores, kind="mergesort")[: self.params.maxDets[-1]]
        return entry.volumes[order]


def _annotations(ranked: Sequence[Ranked]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """True and predicted tracks as COCO's annotations, without shapes; the area is only there to be in range."""
    truth, found = [], []
    for entry in ranked:
        place = {"image_id": entry.image, "category_id": entry.category, "area": 1.0}
        truth += [{**place, "iscrowd": int(crowd)} for crowd in entry.crowd]
        found += [{**place, "iscrowd": 0, "score": float(score)} for score in entry.scores]
    return truth, found


def _data_set(annotations: list[dict[str, Any]], ranked: Sequence[Ranked]) -> COCO:
    data_set: Any = COCO()  # the stubs ask for shapes, which the overlaps replace
    data_set.dataset = {
        "images": [{"id": image} for image in dict.fromkeys(entry.image for entry in ranked)],
        "categories": [{"id": category} for category in dict.fromkeys(entry.category for entry in ranked)],
        "annotations": [{**item, "id": number} for number, item in enumerate(annotations, 1)],
    }
    data_set.createIndex()
    return data_set


def average_precision(ranked: Sequence[Ranked]) -> tuple[float, float, float]:
    """AP averaged over IoU 0.50 to 0.95, at 0.5 and at 0.75, each a mean over classes.

    After Yang et al., "Video Instance Segmentation" (ICCV 2019, section 3). -1, as COCO has it, without a true track.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _TrackEval(ranked)
        evaluation.evaluate()
        evaluation.accumulate()
    # (thresholds, recalls, classes, areas, numbers of predictions)
    precision: np.ndarray = evaluation.eval["precision"][..., 0, -1]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    return mean(precision), mean(precision[0]), mean(precision[5])
