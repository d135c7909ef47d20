"""People who annotate the embedded world: they draw borders a pixel or two off, and rarely miss something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from datamodules.shapes.background import smooth_noise

MISSED = 0.02  # probability of an instance to be missed
_FARTHEST = 2.0  # pixels that a border moves at most
_CAREFUL = 0.06  # of the square root of the area: nobody draws a small thing so roughly
_CELLS = (3, 3)


def redraw(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Draw a mask `(height, width)` again by hand.

    Its border moves in or out by a smooth random distance, at most two pixels and less for small masks.

    Args:
        rng: Of the annotator.
        mask: What there is to see; not empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = int(np.ceil(_FARTHEST)) + 1
    box = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    part = mask[box]
    farthest = min(_FARTHEST, max(_CAREFUL * float(np.sqrt(mask.sum())), 0.6))
    height, width = part.shape
    wobble = smooth_noise(rng, _CELLS, 0.3, max(height, width))[:height, :width]
    move = np.clip(farthest * (rng.uniform(-0.6, 0.6) + 0.4 * wobble), -farthest, farthest)
    # Half a pixel each way, so that the border lies between the last pixel inside and the first one outside.
    depth = np.where(part, np.asarray(distance_transform_edt(part)) - 0.5, 0.5 - _outside(part))
    drawn = np.zeros_like(mask)
    drawn[box] = depth + move > 0.0
    return drawn if drawn.any() else mask


def misses(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """Draw which of so many instances an annotator overlooks."""
    return rng.random(count) < MISSED


def _outside(part: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each pixel to the mask."""
    return np.asarray(distance_transform_edt(~part))
