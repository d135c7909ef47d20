"""Tracks of phrases in the format of SA-Co/VEval, for `phd evaluate concepts-video`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from phd.predict import mask_box
from phd.video_concepts import ConceptFrame

ABSENT: dict[str, Any] = {"segmentations": None, "bboxes": [0, 0, 0, 0], "areas": 0}


class VevalTracks:
    """Collects one entry for each object and frame.

    Format: https://github.com/facebookresearch/sam3, scripts/eval/veval. An object has the score of the detection with
    which it began; where it is not seen it has no mask, and a box of zeros.
    """

    def __init__(self) -> None:
        self.length = 0
        self._objects: dict[int, tuple[str, float]] = {}
        self._seen: dict[int, dict[int, dict[str, Any]]] = {}

    def add(self, found: ConceptFrame) -> None:
        """Add the next frame."""
        for number, phrase, score, mask in zip(found.ids, found.phrases, found.detected, found.masks, strict=True):
            self._objects[number] = (phrase, score)
            box = mask_box(mask)
            if box is not None:
                x0, y0, x1, y1 = box
                self._seen.setdefault(number, {})[self.length] = {
                    "segmentations": _rle(mask),
                    "bboxes": [x0, y0, x1 - x0, y1 - y0],
                    "areas": int(mask.sum()),
                }
        self.length += 1

    def predictions(self, video_id: int, categories: Mapping[str, int]) -> list[dict[str, Any]]:
        """A list of results.

        Args:
            video_id: Of the video in the file of truth.
            categories: Id of each phrase there.
        """
        results = []
        for number, (phrase, score) in self._objects.items():
            frames = [self._seen.get(number, {}).get(place, ABSENT) for place in range(self.length)]
            columns = {name: [frame[name] for frame in frames] for name in ABSENT}
            results.append({"video_id": video_id, "category_id": categories[phrase], "score": score, **columns})
        return results


def _rle(mask: np.ndarray) -> dict[str, Any]:
    counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return {"size": list(mask.shape), "counts": counts if isinstance(counts, str) else counts.decode("ascii")}
