"""Where a thing is in the frame, and the local coordinates and outline that follow from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.outlines import ALL_OUTLINES, Field


@dataclass(frozen=True)
class Pose:
    """Where a thing is.

    Attributes:
        x: centre, as a fraction of the image width.
        y: centre, as a fraction of the image height.
        size: diameter, as a fraction of the image's short side.
        rotation: clockwise angle in radians.
    """

    x: float
    y: float
    size: float
    rotation: float


@dataclass(frozen=True)
class Patch:
    """The part of the frame around a thing, in the thing's own coordinates.

    Attributes:
        rows: the rows of the frame that it covers; may be empty.
        columns: the columns of the frame that it covers; may be empty.
        u: local coordinate to the thing's right `(rows, columns)`, in radii.
        v: local coordinate to the thing's bottom `(rows, columns)`, in radii.
        radius: the thing's radius in pixels.
    """

    rows: slice
    columns: slice
    u: Field
    v: Field
    radius: float


def patch_around(pose: Pose, height: int, width: int, margin: float = 0.0, clip: bool = True) -> Patch:
    """Cut the frame around a pose.

    Args:
        pose: where the thing is.
        height: frame height in pixels.
        width: frame width in pixels.
        margin: room around the thing, in radii.
        clip: leave out what is outside the frame.
    """
    radius = 0.5 * pose.size * min(height, width)
    centre_x, centre_y = pose.x * width, pose.y * height
    reach = radius * (1.0 + margin) + 1.0
    spans: list[slice] = []
    for centre, limit in ((centre_y, height), (centre_x, width)):
        start, stop = int(np.floor(centre - reach)), int(np.ceil(centre + reach))
        if clip:
            start, stop = min(max(start, 0), limit), min(max(stop, 0), limit)
        spans.append(slice(start, stop))
    rows, columns = spans
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - centre_y)) / np.float32(radius)
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - centre_x)) / np.float32(radius)
    cosine, sine = np.float32(np.cos(pose.rotation)), np.float32(np.sin(pose.rotation))
    u = (cosine * x)[None, :] + (sine * y)[:, None]
    v = (cosine * y)[:, None] - (sine * x)[None, :]
    return Patch(rows, columns, u, v, radius)


def outline_mask(shape: str, pose: Pose, height: int, width: int) -> tuple[NDArray[np.bool_], float]:
    """Rasterise one thing alone.

    Returns:
        Its mask in the frame `(height, width)`, and its area in pixels, what lies outside the frame included.
    """
    patch = patch_around(pose, height, width, clip=False)
    inside = ALL_OUTLINES[shape](patch.u, patch.v) < 0
    mask = np.zeros((height, width), dtype=bool)
    top, left = max(patch.rows.start, 0), max(patch.columns.start, 0)
    bottom, right = min(patch.rows.stop, height), min(patch.columns.stop, width)
    if top < bottom and left < right:
        offset_y, offset_x = -patch.rows.start, -patch.columns.start
        mask[top:bottom, left:right] = inside[top + offset_y : bottom + offset_y, left + offset_x : right + offset_x]
    return mask, float(inside.sum())
