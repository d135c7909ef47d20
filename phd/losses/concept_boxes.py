"""Losses of matched boxes, in [0, 1] of the canvas, so that they mean the same at every image size."""

from __future__ import annotations

import torch
from torch import Tensor

# Far below the area of one pixel; keeps boxes without area from dividing 0 by 0.
LEAST_AREA = 1e-12


def corners(boxes: Tensor) -> Tensor:
    """Centre and size to edges.

    Args:
        boxes: (..., 4) centre x, centre y, width, height.

    Returns:
        (..., 4) x0 y0 x1 y1.
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def box_overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., arXiv 1902.09630), in fp32.

    Args:
        boxes: (..., 4) cx cy w h.
        others: (..., 4) cx cy w h; the two broadcast.

    Returns:
        IoU in [0, 1] and gIoU in [-1, 1], each (...).
    """
    boxes, others = corners(boxes.float()), corners(others.float())
    inner_low, inner_high = torch.maximum(boxes, others)[..., :2], torch.minimum(boxes, others)[..., 2:]
    outer_low, outer_high = torch.minimum(boxes, others)[..., :2], torch.maximum(boxes, others)[..., 2:]
    intersection = (inner_high - inner_low).clamp(min=0).prod(-1)
    hull = (outer_high - outer_low).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1)
    union = areas - intersection
    iou = intersection / union.clamp(min=LEAST_AREA)
    return iou, iou - (hull - union) / hull.clamp(min=LEAST_AREA)


def box_l1_loss(boxes: Tensor, targets: Tensor, normaliser: Tensor) -> Tensor:
    """Absolute differences of the four numbers, summed (DETR, arXiv 2005.12872, section 3.1).

    Args:
        boxes: (M, 4) matched predictions, cx cy w h.
        targets: (M, 4) what they are matched to.
        normaliser: Scalar, the number of instances.

    Returns:
        Scalar.
    """
    return (boxes.float() - targets.float()).abs().sum() / normaliser


def box_giou_loss(boxes: Tensor, targets: Tensor, normaliser: Tensor) -> Tensor:
    """One minus the generalised IoU, summed (DETR, arXiv 2005.12872, section 3.1).

    Args:
        boxes: (M, 4) matched predictions, cx cy w h.
        targets: (M, 4) what they are matched to.
        normaliser: Scalar, the number of instances.

    Returns:
        Scalar.
    """
    return (1 - box_overlap(boxes, targets)[1]).sum() / normaliser
