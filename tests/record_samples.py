"""Small samples of concept data and of video, and shards of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from raw_samples import annotation, image_bytes, rectangle

from datamodules import rle
from datamodules.video_record import frame_extension
from datamodules.writer import new_shards

HEIGHT, WIDTH = 20, 30


def mask(top: int, left: int, rows: int = 5, columns: int = 6) -> np.ndarray:
    return rectangle(HEIGHT, WIDTH, top, left, rows, columns)


def code(top: int, left: int, rows: int = 5, columns: int = 6) -> dict[str, Any]:
    return rle.encode(mask(top, left, rows, columns))


def grey_jpeg(height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return image_bytes(np.full((height, width, 3), 90, dtype=np.uint8))


def concept_record() -> dict[str, Any]:
    """Two dogs and a crowd for annotator 0; annotator 1 sees one dog, and a cat; nobody sees a horse."""
    return {
        "image": {"file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
        "annotations": [
            annotation(1, mask(0, 0)),
            annotation(2, mask(10, 10)),
            annotation(3, mask(0, 20), iscrowd=1),
            annotation(4, mask(1, 1), annotator=1, source_id=1),
            annotation(5, mask(15, 20), annotator=1),
        ],
        "phrases": [
            phrase("dog", [1, 2, 3], [4]),
            phrase("cat", [], [5]),
            {**phrase("horse", [], []), "hard": True},
        ],
    }


def phrase(text: str, *answers: list[int]) -> dict[str, Any]:
    return {"text": text, "id": text, "answers": [{"instances": ids, "exhaustive": True} for ids in answers]}


def video_record() -> dict[str, Any]:
    """Frames 0, 4, 8 of 24 a second, the last without ground truth; the ball comes late."""
    return {
        "video": {"name": "v", "height": HEIGHT, "width": WIDTH, "fps": 24.0},
        "frames": [0, 4, 8],
        "labelled": [0, 1],
        "objects": [
            {"id": 7, "masks": [code(0, 0), code(2, 2), None], "phrase": "dog"},
            {"id": 9, "masks": [None, code(10, 10), None], "phrase": "ball"},
        ],
        "void": [code(19, 0, 1, 30), None, None],
        "phrases": [{"text": "dog", "id": 1, "objects": [7]}, {"text": "horse", "id": 2, "objects": []}],
    }


def changed(record: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """A copy in which what lies at the end of the path is another."""
    record = copy.deepcopy(record)
    place: Any = record
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return record


def concept_members(record: Any) -> dict[str, bytes]:
    return {"jpg": grey_jpeg(), "json": json.dumps(record).encode()}


def video_members(record: Any) -> dict[str, bytes]:
    frames = {frame_extension(number): grey_jpeg() for number in record["frames"]}
    return {**frames, "json": json.dumps(record).encode()}


def write(root: Path, samples: dict[str, dict[str, bytes]], **details: Any) -> Path:
    """Shards of two samples each; `details` are entries of the manifest."""
    with new_shards(root, "test", samples_per_shard=2) as writer:
        for key, members in samples.items():
            writer.write(key, members)
        writer.details = details
    return root
