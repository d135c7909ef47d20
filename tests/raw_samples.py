"""Small raw data sets of rectangles, for the tests of the data path."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules import rle
from phd.contract import Contract, Level


def contract(image_size: int = 64, mask_size: int = 16, resize: str = "squash") -> Contract:
    return Contract(
        family="sam3",
        image_size=image_size,
        resize=resize,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        tracker=(Level(8, 16),),
        detector=(),
        trunk=(),
        mask_size=mask_size,
    )


def rectangle(height: int, width: int, top: int, left: int, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[top : top + rows, left : left + columns] = 1
    return mask


def annotation(number: int, mask: np.ndarray, **more: Any) -> dict[str, Any]:
    code = rle.encode(mask)
    box = rle.bounding_box(code)
    return {"id": number, "segmentation": code, "bbox": box, "area": int(mask.sum()), **more}


def image_bytes(pixels: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    quality = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(buffer, kind, **quality, **options)
    return buffer.getvalue()


def write_raw_sa1b(folder: Path, count: int, seed: int = 0, height: int = 40, width: int = 60) -> Path:
    """`count` images sa_0, sa_1, ... with two rectangles each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        masks = [rectangle(height, width, *rng.integers(0, (20, 30)), 15, 20) for _ in range(2)]
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (folder / f"sa_{number}.jpg").write_bytes(image_bytes(pixels))
        record = {
            "image": {"image_id": number, "width": width, "height": height, "file_name": f"sa_{number}.jpg"},
            "annotations": [annotation(index, mask, stability_score=0.9) for index, mask in enumerate(masks)],
        }
        (folder / f"sa_{number}.json").write_text(json.dumps(record))
    return folder
