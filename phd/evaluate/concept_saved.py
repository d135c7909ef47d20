"""Predictions of a model and the truth that they were asked for, as the files of SA-Co."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phd.evaluate.concept_masks import areas, boxes_of
from phd.outputs import LabelledConcepts, LabelledPhrase
from phd.predict_concepts import Detection, coco_result

CATEGORY = 1


def as_fractions(box: Sequence[float], height: int, width: int) -> list[float]:
    """A box x y width height in pixels as fractions of the image."""
    return [box[0] / width, box[1] / height, box[2] / width, box[3] / height]


def true_boxes(masks: Sequence[dict[str, Any]], height: int, width: int) -> list[list[float]]:
    """Boxes x y width height around masks, as fractions of the image."""
    return [as_fractions(box, height, width) for box in boxes_of(masks).tolist()]


class SavedConcepts:
    """Collects what a model predicts and what it should have, in the format of SA-Co (see `concept_gold`).

    Pairs of image and phrase are numbered from 1, since ids of phrases may recur from image to image. Where a phrase
    has fewer annotators than others its first answer stands for the missing ones, which changes no number.

    Attributes:
        predictions: COCO results; `category_name` and `presence` are ours.
    """

    def __init__(self) -> None:
        self.predictions: list[dict[str, Any]] = []
        self._pairs: list[tuple[dict[str, Any], LabelledPhrase]] = []

    def add(self, sample: LabelledConcepts, phrase: LabelledPhrase, found: Sequence[Detection]) -> None:
        """Add one phrase of one image."""
        height, width = sample.image.shape[:2]
        number = len(self._pairs) + 1
        entry = {
            "id": number,
            "file_name": sample.file_name,
            "text_input": phrase.text,
            "height": height,
            "width": width,
            "is_instance_exhaustive": int(phrase.exhaustive),
        }
        self._pairs.append((entry, phrase))
        for detection in found:
            result = coco_result(detection, number, CATEGORY)
            self.predictions.append({**result, "bbox": as_fractions(result["bbox"], height, width)})

    def truths(self) -> list[dict[str, Any]]:
        """One file of truth for each annotator."""
        count = max((len(phrase.answers) for _, phrase in self._pairs), default=1)
        return [self._truth(annotator) for annotator in range(count)]

    def _truth(self, annotator: int) -> dict[str, Any]:
        annotations: list[dict[str, Any]] = []
        for entry, phrase in self._pairs:
            height, width = entry["height"], entry["width"]
            masks = phrase.answers[annotator if annotator < len(phrase.answers) else 0]
            boxes = true_boxes(masks, height, width)
            for mask, box, area in zip(masks, boxes, areas(masks).tolist(), strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": entry["id"],
                        "category_id": CATEGORY,
                        "iscrowd": 0,
                        "segmentation": mask,
                        "bbox": box,
                        "area": area / (height * width),
                    }
                )
        entries = [entry for entry, _ in self._pairs]
        return {"images": entries, "annotations": annotations, "categories": [{"id": CATEGORY, "name": "object"}]}
