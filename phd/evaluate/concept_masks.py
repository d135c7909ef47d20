"""Masks of truth and predictions: checked before the C code sees them, and compared as run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from phd.errors import UserError

COCO_MASK: Any = coco_mask  # the stubs know fewer inputs than the library takes


def checked_mask(segmentation: Any, height: int, width: int, where: str) -> dict[str, Any]:
    """A mask as compressed RLE, from the same, from uncompressed RLE or from polygons.

    Its runs have to fill the image: with others pycocotools reads beyond them or does not return.

    Raises:
        UserError: It is no mask of this image.
    """
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width, where)
    size, counts = (segmentation.get(name) if isinstance(segmentation, dict) else None for name in ("size", "counts"))
    if not isinstance(size, list | tuple) or not isinstance(counts, str | list):
        raise UserError(f'{where}: the segmentation is no RLE {{"size": [height, width], "counts": ...}}; mend it')
    if list(size) != [height, width]:
        raise UserError(f"{where}: the RLE has size {list(size)} but the image [{height}, {width}]; mend it")
    runs = _runs_of_text(counts) if isinstance(counts, str) else counts
    if runs is None or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise UserError(f"{where}: the counts of the RLE are damaged; write it again, e.g. with pycocotools")
    if sum(runs) != height * width:
        raise UserError(f"{where}: the RLE covers {sum(runs)} pixels but the image has {height * width}; mend it")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    return COCO_MASK.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _runs_of_text(counts: str) -> list[int] | None:
    """Run lengths of COCO's compressed counts, None where the text is damaged.

    Six bits a character from code 48 on: five of the number, lowest first, and one that says whether more follow; the
    highest bit of the last is the sign. From the fourth run on a number is the difference to the run two before.
    """
    runs: list[int] = []
    number = shift = 0
    for code in counts.encode("ascii", "replace"):
        bits = code - 48
        if not 0 <= bits < 64:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits >> 4 & 1) << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return None if shift else runs


def _from_polygons(polygons: list[Any], height: int, width: int, where: str) -> dict[str, Any]:
    flat = [value for polygon in polygons if isinstance(polygon, list) for value in polygon]
    long_enough = all(isinstance(polygon, list) and len(polygon) >= 6 for polygon in polygons)
    if not polygons or not long_enough or not all(isinstance(value, int | float) for value in flat):
        raise UserError(f"{where}: the polygons are not [[x0, y0, x1, y1, x2, y2, ...], ...]; mend the annotation")
    # Not a number fails the comparison too. The cost of rasterising grows with the length of the outline.
    if not all(abs(value) <= 10 * max(height, width) for value in flat):
        raise UserError(f"{where}: a polygon lies far outside the image; mend the annotation")
    return COCO_MASK.merge(COCO_MASK.frPyObjects(polygons, height, width))


def ious(predictions: Sequence[Any], targets: Sequence[Any]) -> np.ndarray:
    """IoU (N, M) of masks as compressed RLE, or of boxes x y width height; an empty one overlaps nothing."""
    if not predictions or not targets:
        return np.zeros((len(predictions), len(targets)))
    return np.asarray(COCO_MASK.iou(predictions, targets, [0] * len(targets)))


def intersections(predictions: Sequence[Any], targets: Sequence[Any]) -> np.ndarray:
    """Pixels (N, M) that N predicted and M true masks share, as whole numbers in float64."""
    if not predictions or not targets:
        return np.zeros((len(predictions), len(targets)))
    # Against a "crowd" the library divides by the area of the prediction alone, which can be undone exactly.
    shares = np.asarray(COCO_MASK.iou(predictions, targets, [1] * len(targets)))
    return np.round(shares * areas(predictions)[:, None])


def areas(masks: Sequence[Any]) -> np.ndarray:
    """Pixels (N,) of masks as compressed RLE, float64."""
    return np.asarray(COCO_MASK.area(list(masks)), dtype=float) if masks else np.zeros(0)


def boxes_of(masks: Sequence[Any]) -> np.ndarray:
    """Boxes (N, 4) x y width height in pixels around masks as compressed RLE, zeros around an empty one."""
    return np.asarray(COCO_MASK.toBbox(list(masks)), dtype=float) if masks else np.zeros((0, 4))
