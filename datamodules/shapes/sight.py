"""How well the things of a picture can be seen: what is annotated, and what keeps a phrase from being exhaustive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.placement import Pose, outline_mask
from datamodules.shapes.world import MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE, Identity


def sight(
    identities: Sequence[Identity], poses: Sequence[Pose], masks: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which things are clear, and which can be seen at all.

    Args:
        identities: Of the things.
        poses: Where they are.
        masks: Their visible pixels `(things, height, width)`.

    Returns:
        clear: `(things,)`; at least 45 % and 60 pixels of the thing are visible, of what lies outside the frame too.
        seen: `(things,)`; a pixel of it is.
    """
    height, width = masks.shape[1:]
    visible = masks.sum(axis=(1, 2))
    whole = [outline_mask(item.shape, pose, height, width)[1] for item, pose in zip(identities, poses, strict=True)]
    clear = (visible >= MIN_VISIBLE_SHARE * np.array(whole)) & (visible >= MIN_VISIBLE_PIXELS)
    return clear, visible > 0
