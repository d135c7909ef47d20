"""The masks of a video's objects by frame, and their numbers in label maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from phd.errors import UserError
from phd.evaluate.video_protocol import VOID
from phd.outputs import LabelledVideo

Rle = dict[str, Any]


def decoded(rle: Rle | None, height: int, width: int) -> np.ndarray:
    """A mask (H, W) bool; empty where there is none."""
    if rle is None:
        return np.zeros((height, width), dtype=bool)
    return coco_mask.decode(rle).astype(bool)  # pyright: ignore[reportArgumentType]


def encoded(mask: np.ndarray) -> Rle | None:
    """The run lengths of a mask (H, W) bool, which take little memory; None where it is empty."""
    return dict(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))) if mask.any() else None


def label_numbers(video: LabelledVideo) -> list[int]:
    """The number of each object in label maps: its id where all ids are 1 to 254, else 1, 2, ... in their order.

    Raises:
        UserError: There are too many objects for a label map.
    """
    if len(video.ids) >= VOID:
        raise UserError(f"{video.name}: {len(video.ids)} objects do not fit into a map of labels; use --protocol sav")
    kept = [number for number in video.ids if isinstance(number, int) and 0 < number < VOID]
    return kept if len(kept) == len(video.ids) else list(range(1, len(video.ids) + 1))


def object_names(video: LabelledVideo) -> list[str]:
    """The folder of each object in SA-V's layout: 000, 001, ..."""
    return [f"{number:03d}" if isinstance(number, int) else str(number) for number in video.ids]


def true_labels(video: LabelledVideo, place: int) -> np.ndarray:
    """The label map (H, W) uint8 of a place, 255 where it is void.

    Raises:
        UserError: Two objects overlap, which a label map cannot hold.
    """
    labels = np.zeros((video.height, video.width), dtype=np.uint8)
    for number, masks in zip(label_numbers(video), video.masks, strict=True):
        mask = decoded(masks[place], video.height, video.width)
        if labels[mask].any():
            other = int(labels[mask].max())
            raise UserError(
                f"{video.name}/{video.frames[place]}: the true masks of objects {other} and {number} overlap, which a "
                f"map of labels cannot hold; use --protocol sav"
            )
        labels[mask] = number
    labels[decoded(video.void[place], video.height, video.width) & (labels == 0)] = VOID
    return labels
