"""A simulated user: where the next click goes.

The protocol of SAM (Kirillov et al. 2023, appendix D.1) and of SAM 2 (Ravi et al. 2024), after RITM (Sofiiuk et al.
2021): the first click is the pixel of the object farthest from its border, each further click the pixel farthest from
the border of the largest error region. It has no randomness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

POSITIVE, NEGATIVE = 1, 0

# Two pixels that touch at a corner belong to the same region (8-connectivity).
_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Click(NamedTuple):
    """A pixel (column x, row y) of the image, and whether it shows the object (1) or the background (0)."""

    x: int
    y: int
    label: int


def centre(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of the mask that is farthest from the mask's border.

    The distance is Euclidean and the edge of the image is border too. Of equally far pixels the first in row-major
    order is taken.

    Args:
        mask: (H, W) bool, not empty.

    Raises:
        ValueError: The mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no centre")
    rows, columns = _bounds(mask)
    distance = np.asarray(ndimage.distance_transform_edt(np.pad(mask[rows, columns], 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return int(x) + columns.start, int(y) + rows.start


def first_click(target: np.ndarray) -> Click:
    """The positive click at the centre of the whole mask (H, W), bool, not empty."""
    return Click(*centre(target), POSITIVE)


def next_click(prediction: np.ndarray, target: np.ndarray) -> Click | None:
    """The click that corrects the largest error region.

    An error region is a connected set (8 neighbours) of pixels that are all missed or all added. The one with the most
    pixels is clicked at its centre. Of equally large regions a missed one goes first, then the one whose first pixel
    comes first in row-major order.

    Args:
        prediction: (H, W) bool.
        target: (H, W) bool.

    Returns:
        A positive click on a missed region, a negative one on an added region, or None where nothing is wrong.

    Raises:
        ValueError: The shapes differ, which broadcasting would hide.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction of shape {prediction.shape} against target {target.shape}")
    missed, missed_area = _largest_region(target & ~prediction)
    added, added_area = _largest_region(prediction & ~target)
    if max(missed_area, added_area) == 0:
        return None
    if missed_area >= added_area:
        return Click(*centre(missed), POSITIVE)
    return Click(*centre(added), NEGATIVE)


def _largest_region(error: np.ndarray) -> tuple[np.ndarray, int]:
    """The largest connected region of the error mask, and its area; empty and 0 without any."""
    if not error.any():
        return error, 0
    bounds = _bounds(error)
    regions = np.zeros(error.shape, dtype=np.int32)
    ndimage.label(error[bounds], structure=_NEIGHBOURS, output=regions[bounds])
    areas = np.bincount(regions[bounds].ravel())[1:]
    # scipy numbers regions by their first pixel in row-major order, and argmax takes the first of equals.
    largest = int(areas.argmax())
    return regions == largest + 1, int(areas[largest])


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that a mask, not empty, reaches over; what follows is much cheaper on these alone."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
