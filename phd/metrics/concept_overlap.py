"""IoU of every prediction with every target."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_overlaps(prediction: Tensor, target: Tensor, threshold: float = 0.0) -> Tensor:
    """IoU of N predicted with M true masks of one image; an empty mask overlaps nothing, not even another empty one.

    Args:
        prediction: (N, h, w) logits, or bool or integers {0, 1}.
        target: (M, h, w), in any of the same forms.
        threshold: Logits above it are mask.

    Returns:
        (N, M) IoU in [0, 1], float64.

    Raises:
        ValueError: The sizes of the masks differ.
    """
    if prediction.ndim != 3 or target.ndim != 3 or prediction.shape[1:] != target.shape[1:]:
        raise ValueError(f"masks of shape {tuple(prediction.shape)} against {tuple(target.shape)}")
    # Sums of 0 and 1 are exact in float32 up to 16.7 million pixels.
    mine, theirs = (
        (masks > threshold if masks.is_floating_point() else masks.bool()).flatten(1).float()
        for masks in (prediction, target)
    )
    intersection = (mine @ theirs.T).double()
    union = mine.sum(1)[:, None].double() + theirs.sum(1)[None, :].double() - intersection
    return intersection / union.clamp(min=1)


def box_overlaps(prediction: Tensor, target: Tensor) -> Tensor:
    """IoU of N predicted with M true boxes of one image.

    Args:
        prediction: (N, 4) x0 y0 x1 y1, in any unit that both share.
        target: (M, 4).

    Returns:
        (N, M) IoU in [0, 1], float64; 0 for boxes without area.

    Raises:
        ValueError: These are no boxes.
    """
    if prediction.ndim != 2 or target.ndim != 2 or prediction.shape[1] != 4 or target.shape[1] != 4:
        raise ValueError(f"boxes of shape {tuple(prediction.shape)} against {tuple(target.shape)}")
    mine, theirs = prediction.double()[:, None], target.double()[None]
    shared = torch.minimum(mine[..., 2:], theirs[..., 2:]) - torch.maximum(mine[..., :2], theirs[..., :2])
    intersection = shared.clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (mine, theirs)]
    union = areas[0] + areas[1] - intersection
    return torch.where(union > 0, intersection / union, 0.0)
