"""Small files in the formats of SA-Co/Gold and SA-Co/VEval, of rectangles, for the tests of their evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 40, 60
Box = tuple[int, int, int, int]


def rle(box: Box, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Any]:
    """A rectangle x y width height as compressed RLE."""
    x, y, w, h = box
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    encoded: Any = coco_mask.encode(mask)
    return {"size": [height, width], "counts": encoded["counts"].decode()}


def fractions(box: Box) -> list[float]:
    return [box[0] / WIDTH, box[1] / HEIGHT, box[2] / WIDTH, box[3] / HEIGHT]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def changed(path: Path, change: Callable[[Any], None]) -> None:
    """Read a file, change its content and write it again."""
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def gold(questions: dict[int, list[Box]], **settings: Any) -> dict[str, Any]:
    """One annotator's file: image id -> true boxes."""
    entries = [
        {
            "id": number,
            "file_name": "a.jpg",
            "text_input": f"phrase {number}",
            "height": HEIGHT,
            "width": WIDTH,
            "is_instance_exhaustive": 1,
            **settings,
        }
        for number in questions
    ]
    boxes = [(number, box) for number, found in questions.items() for box in found]
    annotations = [
        {
            "id": place,
            "image_id": number,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": fractions(box),
            "segmentation": rle(box),
        }
        for place, (number, box) in enumerate(boxes, 1)
    ]
    return {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def result(number: int, box: Box, score: float) -> dict[str, Any]:
    return {"image_id": number, "category_id": 1, "bbox": fractions(box), "segmentation": rle(box), "score": score}


def track(boxes: list[Box | None], category: int, video: int = 1, **more: Any) -> dict[str, Any]:
    """A masklet of one box or None for each frame."""
    return {
        "video_id": video,
        "category_id": category,
        "segmentations": [None if box is None else rle(box) for box in boxes],
        "bboxes": [None if box is None else list(box) for box in boxes],
        "areas": [None if box is None else box[2] * box[3] for box in boxes],
        **more,
    }


def veval(tracks: list[dict[str, Any]], pairs: list[tuple[int, int]], frames: int = 4) -> dict[str, Any]:
    """A file of VEval: tracks as true masklets, pairs of video and category as what was asked."""
    videos = [
        {
            "id": number,
            "height": HEIGHT,
            "width": WIDTH,
            "file_names": [f"v{number}/{t}.jpg" for t in range(frames)],
        }
        for number in dict.fromkeys(number for number, _ in pairs)
    ]
    return {
        "videos": videos,
        "annotations": [{"id": place, "iscrowd": 0, **found} for place, found in enumerate(tracks, 1)],
        "categories": [{"id": number, "name": f"phrase {number}"} for number in range(1, 6)],
        "video_np_pairs": [
            {"id": place, "video_id": number, "category_id": category} for place, (number, category) in enumerate(pairs)
        ],
    }
