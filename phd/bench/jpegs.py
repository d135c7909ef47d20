"""Photo-like images with many masks, as SA-1B's raw files, quickly made.

SA-1B's images have a short side of 1500 pixels and about 100 masks each, from a few hundred pixels to a good part of
the image (Kirillov et al., Segment Anything, arXiv 2304.02643, section 5). What matters for the speed of a loader is
the number of pixels, the bytes of the JPEG and the runs of the masks; the scene need not make sense.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import track

from datamodules import rle

QUALITY = 90  # with 4:2:0 chroma, Pillow's default
GRAIN = 4.0  # grey levels of sensor noise: an image of 1500 x 2250 has 740 kB
RADII = (1 / 100, 1 / 5)  # smallest and largest object, of the shorter side
WAVES = 60  # frequencies of an outline


def write_raw(folder: Path, images: int, height: int, width: int, masks: int, seed: int = 0) -> None:
    """Write `sa_0.jpg`, `sa_0.json`, ...; the same arguments give the same files.

    Args:
        folder: Made where it is not there.
        images: How many.
        height: Of each, pixels.
        width: Of each, pixels.
        masks: In each.
        seed: Of everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grain = GRAIN * np.random.default_rng(seed).standard_normal((height, width, 1), dtype=np.float32)
    for number in track(range(images), "drawing images", console=Console(stderr=True), transient=True):
        rng = np.random.default_rng((seed, number))
        outlines = [outline(rng, height, width) for _ in range(masks)]
        shift = rng.integers(height), rng.integers(width)
        jpeg = photo(rng, outlines, np.roll(grain, shift, (0, 1)))
        (folder / f"sa_{number}.jpg").write_bytes(jpeg)
        (folder / f"sa_{number}.json").write_text(json.dumps(record(number, outlines, height, width)))


def outline(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A closed polygon (N, 2) of x, y inside the image: an ellipse with waves, high frequencies weaker.

    Radii are spread evenly over their logarithm: most objects are small.
    """
    radius = min(height, width) * np.exp(rng.uniform(*np.log(RADII)))
    stretch = rng.uniform(0.6, 1.6)
    angles = np.linspace(0, 2 * np.pi, max(16, int(2 * np.pi * radius / 4)), endpoint=False)
    waves = np.arange(1, min(len(angles) // 2, WAVES))
    sines, cosines = rng.normal(size=(2, len(waves))) * 0.25 / waves**1.3
    phases = np.outer(angles, waves)
    radii = radius * np.clip(1 + np.cos(phases) @ cosines + np.sin(phases) @ sines, 0.3, 2.5)
    x = rng.uniform(0, width) + radii * np.cos(angles) * stretch
    y = rng.uniform(0, height) + radii * np.sin(angles) / stretch
    return np.stack([np.clip(x, 0, width), np.clip(y, 0, height)], axis=1)


def photo(rng: np.random.Generator, outlines: list[np.ndarray], grain: np.ndarray) -> bytes:
    """A JPEG of coloured objects, the large ones behind the small ones, on a smooth ground.

    Args:
        rng: Of the colours.
        outlines: Polygons (N, 2) of x, y.
        grain: What is added to every channel, (H, W, 1).
    """
    height, width, _ = grain.shape
    ground = np.clip(128 + 35 * rng.standard_normal((24, 36, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(ground).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for polygon in sorted(outlines, key=lambda points: -float(np.ptp(points[:, 0]))):
        draw.polygon(polygon.ravel().tolist(), fill=tuple(rng.integers(30, 225, 3).tolist()))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def record(number: int, outlines: list[np.ndarray], height: int, width: int) -> dict[str, Any]:
    """The image and its masks as SA-1B describes them."""
    annotations = []
    for index, polygon in enumerate(outlines):
        mask = rle.from_polygons([polygon.ravel().tolist()], height, width)
        annotations.append(
            {
                "id": 1000 * number + index,
                "segmentation": mask,
                "bbox": rle.bounding_box(mask),
                "area": rle.area(mask, height, width),
                "predicted_iou": 0.95,
                "stability_score": 0.97,
                "crop_box": [0.0, 0.0, float(width), float(height)],
                "point_coords": [polygon.mean(axis=0).tolist()],
            }
        )
    image = {"image_id": number, "width": width, "height": height, "file_name": f"sa_{number}.jpg"}
    return {"image": image, "annotations": annotations}
