"""One prompt for each object from its mask; what stage 1 asks of an image and stage 2 of a clip's first frame."""

from __future__ import annotations

import torch
from torch import Tensor

from phd.contract import Prompts
from phd.prompts import boxes_from_masks, boxes_to_pixels, jitter_boxes, points_to_pixels


def box_prompts(
    masks: Tensor,
    image_index: Tensor,
    image_size: int,
    generator: torch.Generator | None = None,
    jitter: float = 0.0,
    jitter_limit: float = 0.0,
) -> Prompts:
    """Boxes around P objects; tight ones without a generator.

    Args:
        masks: (P, m, m), foreground above 0.5, none of them empty.
        image_index: (P,) image of each object.
        image_size: Contract pixels.
        generator: On the device of the masks; draws the jitter.
        jitter: Standard deviation of an edge, as a share of the side.
        jitter_limit: Largest move of an edge, in contract pixels.
    """
    size, boxes = masks.shape[-1], boxes_from_masks(masks)
    if generator is not None:
        boxes = jitter_boxes(boxes, jitter, jitter_limit * size / image_size, size, generator)
    return Prompts(image_index, boxes=boxes_to_pixels(boxes, size, image_size))


def point_prompts(points: Tensor, image_index: Tensor, grid: int, image_size: int) -> Prompts:
    """One positive point for each of P objects.

    Args:
        points: (P, 2) x, y in grid units.
        image_index: (P,) image of each object.
        grid: Side of the grid.
        image_size: Contract pixels.
    """
    points = points_to_pixels(points, grid, image_size).unsqueeze(1)
    labels = torch.ones(points.shape[:2], dtype=torch.long, device=points.device)
    return Prompts(image_index, points=points, labels=labels)
