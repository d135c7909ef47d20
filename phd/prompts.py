"""Prompts from masks: boxes, points, mask prompts, and corrective points where two masks disagree.

All functions work on a mask grid (P, m, m) and return coordinates in grid units, where cell (row i, column j) covers
[j, j + 1] x [i, i + 1]; `to_pixels` scales them to contract pixels. Randomness comes from the generator given.
"""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_from_masks(masks: Tensor) -> Tensor:
    """Tight boxes (P, 4) x0 y0 x1 y1 in grid units; the right and lower edges are exclusive.

    Args:
        masks: (P, m, m), foreground above 0.5; every mask has at least one cell.
    """
    foreground = masks > 0.5
    columns, rows = foreground.any(dim=1), foreground.any(dim=2)
    size = masks.shape[-1]
    index = torch.arange(size, device=masks.device)

    def bounds(line: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.where(line, index, size).amin(dim=1)
        last = torch.where(line, index, -1).amax(dim=1)
        return first, last + 1

    (x0, x1), (y0, y1) = bounds(columns), bounds(rows)
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def jitter_boxes(boxes: Tensor, scale: float, limit: float, size: int, generator: torch.Generator) -> Tensor:
    """Move every edge by Gaussian noise in proportion to the box's side (SAM, arXiv 2304.02643, appendix A).

    Args:
        boxes: (P, 4) in grid units.
        scale: Standard deviation as a share of the side; SAM uses 0.1.
        limit: Largest move, in grid units.
        size: Side of the grid; edges stay inside.
        generator: Source of the noise, on the device of the boxes.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(boxes.shape, generator=generator, device=boxes.device) * sides * scale
    moved = (boxes + noise.clamp(-limit, limit)).clamp(0, size)
    # A very thin box may turn inside out; its two corners then swap.
    return torch.cat([torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], 1)


def random_points(masks: Tensor, generator: torch.Generator) -> Tensor:
    """One cell centre (P, 2) x, y drawn uniformly from each mask's foreground.

    Args:
        masks: (P, m, m), foreground above 0.5; a mask without a cell yields a point anywhere.
        generator: On the device of the masks.
    """
    noise = torch.rand(masks.shape, generator=generator, device=masks.device)
    return _cell_centres(_drawn_cell(masks > 0.5, noise), masks.shape[-1])


def centre_points(masks: Tensor) -> Tensor:
    """The cell centre (P, 2) x, y farthest from the mask's border, counting the edge of the grid as border.

    The distance is the number of erosions by a 3 x 3 square that a cell survives (Chebyshev), which runs on the device
    of the masks; evaluation uses the exact Euclidean one. Among equals the cell nearest to the centre of mass wins.

    Args:
        masks: (P, m, m), foreground above 0.5; every mask has at least one cell.
    """
    foreground = (masks > 0.5).float().unsqueeze(1)
    size = masks.shape[-1]
    depth, eroded = foreground.clone(), foreground
    for _ in range(size // 2):
        eroded = -torch.nn.functional.max_pool2d(
            torch.nn.functional.pad(-eroded, (1, 1, 1, 1), value=0.0), kernel_size=3, stride=1
        )
        depth = depth + eroded
    depth, weight = depth.squeeze(1), foreground.squeeze(1)
    axis = torch.arange(size, device=masks.device) + 0.5
    total = weight.sum((1, 2)).clamp(min=1)
    mean_x, mean_y = (weight.sum(1) * axis).sum(1) / total, (weight.sum(2) * axis).sum(1) / total
    squared = (axis[None, None, :] - mean_x[:, None, None]) ** 2 + (axis[None, :, None] - mean_y[:, None, None]) ** 2
    ranked = depth - squared / (2 * size * size + 1)
    return _cell_centres(ranked.flatten(1).argmax(1), size)


def coarse_masks(masks: Tensor, generator: torch.Generator, logit: float = 10.0) -> Tensor:
    """Mask prompts (P, 1, m, m): each mask shrunk by one cell, as it is, or grown by one or two, as confident logits.

    A mask prompt is another model's guess or a user's brush, mostly near the answer. The four are equally likely: one
    prompt in four is the answer itself, which a model has to learn to leave alone. So is a mask that shrinking would
    empty.

    Args:
        masks: (P, m, m), foreground above 0.5.
        generator: On the device of the masks.
        logit: Magnitude of the logits.
    """
    foreground = (masks > 0.5).float().unsqueeze(1)
    change = torch.randint(0, 4, (len(masks), 1, 1, 1), generator=generator, device=masks.device)

    def grown(maps: Tensor, cells: int) -> Tensor:
        return torch.nn.functional.max_pool2d(maps, 2 * cells + 1, stride=1, padding=cells)

    def shrunk(maps: Tensor, cells: int) -> Tensor:
        smaller = 1 - grown(1 - maps, cells)
        return torch.where(smaller.flatten(1).any(1)[:, None, None, None], smaller, maps)

    choices = (shrunk(foreground, 1), foreground, grown(foreground, 1), grown(foreground, 2))
    coarse = torch.stack([choice * (change == number) for number, choice in enumerate(choices)]).sum(0)
    return (2 * coarse - 1) * logit


def corrective_points(
    student: Tensor, reference: Tensor, generator: torch.Generator, valid: Tensor | None = None, min_cells: int = 1
) -> tuple[Tensor, Tensor]:
    """Points where student and reference disagree: positive where only the reference has mask, else negative.

    One cell is drawn uniformly over both kinds of error together (EdgeSAM, arXiv 2312.06660, section 3.3). Where the
    two agree but for fewer than `min_cells`, the label is -1: a place in the prompt that says nothing.

    Args:
        student: (P, m, m) logits or masks; foreground above 0.
        reference: (P, m, m) logits or masks; foreground above 0.
        generator: On the device of the masks.
        valid: (P, m, m) bool, where errors count; padding does not.
        min_cells: Fewest cells in error that are worth a point.

    Returns:
        Points (P, 1, 2) x, y in grid units, and labels (P, 1).
    """
    mine, theirs = student > 0, reference > 0
    error = mine ^ theirs
    if valid is not None:
        error = error & valid
    noise = torch.rand(error.shape, generator=generator, device=error.device)
    index = _drawn_cell(error, noise)
    positive = theirs.flatten(1).gather(1, index[:, None]).long()
    enough = error.flatten(1).sum(1, keepdim=True) >= min_cells
    labels = torch.where(enough, positive, -1)
    return _cell_centres(index, error.shape[-1]).unsqueeze(1), labels


def points_to_pixels(points: Tensor, grid: int, image_size: int) -> Tensor:
    """Scale points (..., 2) from grid units to contract pixels, whose centres carry whole numbers."""
    return points * (image_size / grid) - 0.5


def boxes_to_pixels(boxes: Tensor, grid: int, image_size: int) -> Tensor:
    """Scale boxes (..., 4) from grid units to contract pixels; edges are edges in both."""
    return boxes * (image_size / grid)


def _drawn_cell(allowed: Tensor, noise: Tensor) -> Tensor:
    """Flat index (P,) of the allowed cell with the largest noise; noise may be 0, so the others get less."""
    return noise.masked_fill(~allowed, -1.0).flatten(1).argmax(1)


def _cell_centres(index: Tensor, size: int) -> Tensor:
    rows, columns = torch.div(index, size, rounding_mode="floor"), index % size
    return torch.stack([columns, rows], dim=-1) + 0.5
