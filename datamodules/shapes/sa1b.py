"""The embedded world in the raw format of SA-1B: `sa_000001.jpg` and `sa_000001.json` side by side."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt

from datamodules.shapes.render import render
from datamodules.shapes.world import numbered_scene
from datamodules.shapes.writing import check_order, jpeg, write_numbered


def write_sa1b(out: Path, samples: int, seed: int, workers: int = 1) -> None:
    """Write scenes 0 to `samples - 1` of the world `seed`; the same seed gives the same bytes.

    Args:
        out: a folder that does not exist or is empty.
        samples: number of scenes.
        seed: number of the world.
        workers: processes that render; the files do not depend on it.

    Raises:
        UserError: `out` is a file or holds something, or a number is out of range.
    """
    check_order(out, samples, seed, workers)
    write_numbered(partial(_write_one, out, seed), samples, workers, "rendering scenes")


def sa1b_record(masks: NDArray[np.bool_], image_id: int, file_name: str) -> dict[str, Any]:
    """Describe an image as SA-1B does.

    Args:
        masks: the visible pixels of each thing `(things, height, width)`, none empty.
        image_id: number of the image.
        file_name: name of the image beside the record.

    Returns:
        `image` and `annotations`; boxes are (x, y, width, height), points (x, y), in pixels.
    """
    height, width = masks.shape[1:]
    encoded: Any = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    annotations = []
    for index, (mask, run_lengths) in enumerate(zip(masks, encoded, strict=True)):
        annotations.append(
            {
                "id": 100 * image_id + index,
                "segmentation": {"size": [height, width], "counts": run_lengths["counts"].decode("ascii")},
                "bbox": [float(value) for value in coco_mask.toBbox(run_lengths)],
                "area": int(coco_mask.area(run_lengths)),
                "predicted_iou": 1.0,
                "stability_score": 1.0,
                "crop_box": [0.0, 0.0, float(width), float(height)],
                "point_coords": [_deepest_pixel(mask)],
            }
        )
    image = {"image_id": image_id, "width": width, "height": height, "file_name": file_name}
    return {"image": image, "annotations": annotations}


def _write_one(out: Path, seed: int, index: int) -> None:
    scene, height, width = numbered_scene(seed, index)
    image, masks = render(scene, height, width)
    image_id = index + 1
    stem = f"sa_{image_id:06d}"
    (out / f"{stem}.jpg").write_bytes(jpeg(image))
    (out / f"{stem}.json").write_text(json.dumps(sa1b_record(masks, image_id, f"{stem}.jpg")), encoding="utf-8")


def _deepest_pixel(mask: NDArray[np.bool_]) -> list[float]:
    """Return the pixel (x, y) of a mask `(height, width)` that is farthest from its border."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    depth = np.asarray(distance_transform_edt(box))
    y, x = np.unravel_index(int(np.argmax(depth)), box.shape)
    return [float(x - 1 + columns[0]), float(y - 1 + rows[0])]
