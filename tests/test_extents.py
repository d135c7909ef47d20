"""How far the borders of a thing are: the loss by hand."""

from __future__ import annotations

import pytest
import torch

from phd.losses.extents import extents_loss


def truth() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two things of the second of two images with 4 x 4 cells, one of them without any cell."""
    boxes = torch.tensor([[0.25, 0.0, 0.75, 1.0], [0.0, 0.0, 0.1, 0.1]])
    cover = torch.zeros(2, 4, 4)
    cover[0, 0, 1], cover[0, 3, 2] = 1.0, 0.5
    return boxes, cover, torch.tensor([1, 1])


def test_right_distances_cost_nothing() -> None:
    boxes, cover, image = truth()
    offsets = torch.full((2, 4, 4, 4), 7.0)
    # (left, top, right, bottom) in cells, from the centres of row 0, column 1 and of row 3, column 2.
    offsets[1, :, 0, 1] = torch.tensor([0.5, 0.5, 1.5, 3.5])
    offsets[1, :, 3, 2] = torch.tensor([1.5, 3.5, 0.5, 0.5])
    assert extents_loss(offsets, boxes, cover, image).item() == 0.0


def test_errors_are_relative_to_the_box_and_weighed_by_cover() -> None:
    boxes, cover, image = truth()
    offsets = torch.zeros(2, 4, 4, 4)
    offsets[1, :, 0, 1] = torch.tensor([0.5, 0.5, 1.5, 3.5])
    offsets[1, :, 3, 2] = torch.tensor([1.5, 3.5, 0.5, 2.0])
    # The second cell is wrong by 1.5 of 2 + 4 cells and has a third of the weight; the other thing is left out.
    assert extents_loss(offsets, boxes, cover, image).item() == pytest.approx(1.5 / 6 / 3)
    assert extents_loss(offsets, boxes[:0], cover[:0], image[:0]).item() == 0.0
