"""J and F of one mask against another: the region's overlap and the boundary's.

After Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016,
section 4), to the last digit of the reference evaluator of DAVIS 2017.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

# Two boundaries match within this share of the image's diagonal.
TOLERANCE = 0.008


def region_similarity(prediction: np.ndarray, truth: np.ndarray) -> float:
    """J: intersection over union; 1 where both masks are empty.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(prediction, truth)
    union = int(np.count_nonzero(prediction | truth))
    return 1.0 if not union else int(np.count_nonzero(prediction & truth)) / union


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels that differ from their right, lower or lower right neighbour, (H, W) bool.

    A line of one pixel between two pixels that differ; the last row has no lower neighbour and the last column no
    right one, so that the frame of the image is no boundary.
    """
    found = np.zeros_like(mask, dtype=bool)
    found[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    found[:-1] |= mask[:-1] ^ mask[1:]
    found[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return found


def boundary_accuracy(prediction: np.ndarray, truth: np.ndarray) -> float:
    """F: the harmonic mean of how much of the one boundary lies near the other; 1 where neither has one.

    Near is within `TOLERANCE` of the image's diagonal, rounded up to whole pixels. The reference matches by dilating
    with a disk; a pixel lies in the dilated boundary exactly where its distance to the boundary is at most the radius.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(prediction, truth)
    radius = int(np.ceil(TOLERANCE * np.linalg.norm(truth.shape)))
    mine, theirs = boundary(prediction), boundary(truth)
    if not mine.any() or not theirs.any():
        return 1.0 if mine.any() == theirs.any() else 0.0
    window = _around(mine | theirs, radius)
    mine, theirs = mine[window], theirs[window]
    precision = np.count_nonzero(mine & _within(theirs, radius)) / np.count_nonzero(mine)
    recall = np.count_nonzero(theirs & _within(mine, radius)) / np.count_nonzero(theirs)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _within(line: np.ndarray, radius: int) -> np.ndarray:
    distance = np.asarray(distance_transform_edt(~line))
    return distance <= radius


def _around(line: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The smallest window that holds a line and a margin; what lies farther away changes nothing."""
    rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def _require_same_shape(prediction: np.ndarray, truth: np.ndarray) -> None:
    if prediction.shape != truth.shape or prediction.ndim != 2:
        raise ValueError(f"masks of shape {prediction.shape} against {truth.shape}")
