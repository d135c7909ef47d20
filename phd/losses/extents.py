"""What a cell knows of the thing that it shows: how far its borders are."""

from __future__ import annotations

import torch
from torch import Tensor


def extents_loss(offsets: Tensor, boxes: Tensor, cover: Tensor, image_index: Tensor) -> Tensor:
    """Each cell of a thing says how far the four sides of the thing's box are, as in FCOS (arXiv 1904.01355).

    The error is relative to the box, half its width and height together, so that things of all sizes count the same.

    Args:
        offsets: (B, 4, h, w) said distances to the left, upper, right and lower side, in cells.
        boxes: (K, 4) x0 y0 x1 y1 of the things, in [0, 1] of the canvas.
        cover: (K, h, w) weight of each cell in its thing, in [0, 1]; a thing without any does not count.
        image_index: (K,) image of each thing.

    Returns:
        The mean over the things, a scalar; 0 without any.
    """
    rows, columns = offsets.shape[-2:]
    y = torch.arange(rows, device=offsets.device)[:, None] + 0.5
    x = torch.arange(columns, device=offsets.device)[None] + 0.5
    left, top, right, bottom = (side[:, None, None] for side in boxes.unbind(-1))
    sides = torch.broadcast_tensors(x - left * columns, y - top * rows, right * columns - x, bottom * rows - y)
    error = (offsets[image_index] - torch.stack(sides, 1)).abs().sum(1)
    size = ((right - left) * columns + (bottom - top) * rows).clamp(min=1e-6)
    weight = cover / cover.sum((1, 2), keepdim=True).clamp(min=1e-6)
    return (weight * error / size).sum() / (cover.sum((1, 2)) > 0).sum().clamp(min=1)
