"""Prompts from masks; every grid has x and y apart, so that swapping them shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_segmenter import make_contract
from scipy import ndimage
from torch import Tensor

from phd.preprocess import boxes_to_canvas, points_to_canvas
from phd.prompts import (
    boxes_from_masks,
    boxes_to_pixels,
    centre_points,
    coarse_masks,
    corrective_points,
    jitter_boxes,
    points_to_pixels,
    random_points,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rectangle(rows: tuple[int, int], columns: tuple[int, int], size: int = 12) -> Tensor:
    """Mask (1, size, size); ends are exclusive."""
    mask = torch.zeros(1, size, size)
    mask[:, rows[0] : rows[1], columns[0] : columns[1]] = 1
    return mask


def blobs(count: int, size: int = 24, seed: int = 0) -> Tensor:
    """Ragged masks, some of them touching the edges of the grid or in several pieces."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size))
    smooth = np.stack([ndimage.gaussian_filter(map_, 2.5) for map_ in noise])
    masks = torch.from_numpy(smooth > np.quantile(smooth, 0.7, axis=(1, 2), keepdims=True)).float()
    assert (masks.flatten(1).sum(1) > 0).all()
    return masks


def cells(points: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the cells whose centres the points are."""
    x, y = points.unbind(-1)
    assert torch.equal(x % 1, torch.full_like(x, 0.5))
    assert torch.equal(y % 1, torch.full_like(y, 0.5))
    return y.floor().long(), x.floor().long()


def values_at(masks: Tensor, points: Tensor) -> Tensor:
    rows, columns = cells(points)
    return masks[torch.arange(len(masks)), rows, columns]


def test_boxes_are_tight_with_exclusive_ends() -> None:
    masks = torch.cat([rectangle((2, 4), (5, 10)), rectangle((0, 12), (0, 12)), rectangle((11, 12), (0, 1))])
    assert boxes_from_masks(masks).tolist() == [[5, 2, 10, 4], [0, 0, 12, 12], [0, 11, 1, 12]]


def test_a_box_spans_all_pieces() -> None:
    mask = rectangle((1, 2), (9, 10)) + rectangle((7, 9), (3, 4))
    assert boxes_from_masks(mask).tolist() == [[3, 1, 10, 9]]
    # Values up to 0.5 are background.
    assert boxes_from_masks(mask + 0.5 * rectangle((0, 12), (0, 12))).tolist() == [[3, 1, 10, 9]]


def test_jitter_keeps_to_the_limit_and_the_grid() -> None:
    boxes = torch.tensor([[4.0, 10.0, 44.0, 20.0], [0.0, 0.0, 64.0, 64.0]]).repeat(500, 1)
    moved = jitter_boxes(boxes, 0.1, 3.0, 64, seeded())
    change = moved - boxes
    assert change.abs().max() == 3
    assert moved.min() == 0
    assert moved.max() == 64
    # Noise in proportion to the side: 0.1 x 10 is seldom clipped at 3, 0.1 x 40 often.
    x_edges, y_edges = change[::2, [0, 2]], change[::2, [1, 3]]
    assert y_edges.std() == pytest.approx(1.0, abs=0.1)
    assert (x_edges.abs() == 3).float().mean() == pytest.approx(0.45, abs=0.05)
    assert (y_edges.abs() == 3).float().mean() < 0.02
    # Each edge moves by itself.
    assert np.abs(np.corrcoef(change[::2].T.numpy()) - np.eye(4)).max() < 0.15


def test_jitter_of_a_thin_box_does_not_turn_it_inside_out() -> None:
    boxes = torch.tensor([[10.0, 5.0, 12.0, 30.0]]).repeat(300, 1)
    moved = jitter_boxes(boxes, 1.0, 20.0, 64, seeded())
    sides = torch.tensor([2.0, 25.0, 2.0, 25.0])
    raw = (boxes + (torch.randn(300, 4, generator=seeded()) * sides).clamp(-20, 20)).clamp(0, 64)
    assert (raw[:, 0] > raw[:, 2]).any()
    torch.testing.assert_close(moved[:, [0, 2]], raw[:, [0, 2]].sort(dim=1).values)
    torch.testing.assert_close(moved[:, [1, 3]], raw[:, [1, 3]].sort(dim=1).values)


def test_jitter_is_a_function_of_the_generator() -> None:
    boxes = boxes_from_masks(blobs(4))
    assert torch.equal(jitter_boxes(boxes, 0.1, 3.0, 24, seeded(1)), jitter_boxes(boxes, 0.1, 3.0, 24, seeded(1)))
    assert not torch.equal(jitter_boxes(boxes, 0.1, 3.0, 24, seeded(1)), jitter_boxes(boxes, 0.1, 3.0, 24, seeded(2)))
    assert torch.equal(jitter_boxes(boxes, 0.0, 3.0, 24, seeded(1)), boxes)


def test_random_points_lie_on_the_mask() -> None:
    masks = blobs(200)
    points = random_points(masks, seeded())
    assert points.shape == (200, 2)
    assert (values_at(masks, points) == 1).all()
    assert torch.equal(points, random_points(masks, seeded()))
    assert not torch.equal(points, random_points(masks, seeded(1)))


def test_random_points_reach_every_cell_alike() -> None:
    mask = rectangle((2, 4), (5, 8))
    rows, columns = cells(random_points(mask.expand(1200, -1, -1), seeded()))
    counts = torch.zeros(12, 12).index_put((rows, columns), torch.ones(1200), accumulate=True)
    inside = counts[mask[0] > 0]
    assert inside.sum() == 1200
    assert (inside - 200).abs().max() < 50


def test_a_point_lies_on_the_mask_even_where_the_noise_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = rectangle((3, 4), (7, 8))
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert random_points(mask, seeded()).tolist() == [[7.5, 3.5]]
    points, labels = corrective_points(torch.zeros_like(mask), mask, seeded())
    assert points.tolist() == [[[7.5, 3.5]]]
    assert labels.tolist() == [[1]]


def test_centre_of_simple_shapes() -> None:
    # A 3 x 5 block: its middle row has depth 2, and of that the middle cell is nearest to the centre of mass.
    assert centre_points(rectangle((2, 5), (6, 11))).tolist() == [[8.5, 3.5]]
    assert centre_points(rectangle((7, 8), (1, 2))).tolist() == [[1.5, 7.5]]
    # The edge of the grid is a border: a mask that fills the grid has its centre in the middle, not in a corner.
    assert centre_points(torch.ones(1, 5, 5)).tolist() == [[2.5, 2.5]]
    # The thicker piece wins, wherever the centre of mass is.
    pieces = rectangle((0, 2), (0, 12)) + rectangle((4, 6), (0, 12)) + rectangle((8, 11), (9, 12))
    assert centre_points(pieces).tolist() == [[10.5, 9.5]]


@pytest.mark.parametrize("size", [23, 24])
def test_centre_is_the_cell_farthest_from_the_border(size: int) -> None:
    masks = torch.cat([blobs(40, size), torch.ones(1, size, size), rectangle((0, size), (0, 7), size)])
    rows, columns = cells(centre_points(masks))
    for mask, row, column in zip(masks.numpy(), rows.tolist(), columns.tolist(), strict=True):
        depth = np.asarray(ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard"))[1:-1, 1:-1]
        assert depth[row, column] == depth.max()
        candidates = np.argwhere(depth == depth.max())
        squared = ((candidates - np.argwhere(mask).mean(axis=0)) ** 2).sum(axis=1)
        assert ((np.array([row, column]) - np.argwhere(mask).mean(axis=0)) ** 2).sum() == pytest.approx(squared.min())


def test_coarse_masks_are_near_and_never_empty() -> None:
    masks = torch.cat([rectangle((2, 3), (5, 6)), rectangle((4, 9), (2, 8)), rectangle((0, 12), (0, 12))])
    masks = masks.repeat(100, 1, 1)
    coarse = coarse_masks(masks, seeded(), logit=7.0)
    assert coarse.shape == (300, 1, 12, 12)
    assert coarse.abs().unique().tolist() == [7.0]
    shapes = [{tuple(boxes_from_masks(found)[0].tolist()) for found in (coarse[i::3] > 0).float()} for i in range(3)]
    # A single cell cannot shrink, and a full grid can neither shrink nor grow.
    assert shapes[0] == {(5, 2, 6, 3), (4, 1, 7, 4), (3, 0, 8, 5)}
    assert shapes[1] == {(3, 5, 7, 8), (2, 4, 8, 9), (1, 3, 9, 10), (0, 2, 10, 11)}
    assert shapes[2] == {(0, 0, 12, 12)}


def test_coarse_masks_are_a_function_of_the_generator() -> None:
    masks = blobs(20)
    assert torch.equal(coarse_masks(masks, seeded(1)), coarse_masks(masks, seeded(1)))
    assert not torch.equal(coarse_masks(masks, seeded(1)), coarse_masks(masks, seeded(2)))


def test_corrective_points_say_what_is_wrong() -> None:
    student, reference = blobs(300, seed=1), blobs(300, seed=2)
    points, labels = corrective_points(student - 0.5, reference - 0.5, seeded())
    assert points.shape == (300, 1, 2)
    assert labels.shape == (300, 1)
    mine, theirs = values_at(student, points[:, 0]), values_at(reference, points[:, 0])
    positive = labels[:, 0] == 1
    assert ((theirs == 1) & (mine == 0))[positive].all()
    assert ((theirs == 0) & (mine == 1))[~positive].all()
    assert (labels[~positive] == 0).all()
    assert 50 < positive.sum() < 250


def test_corrective_points_are_uniform_over_both_kinds_of_error() -> None:
    # Three cells that only the reference has, one that only the student has.
    student, reference = rectangle((0, 2), (9, 10)), rectangle((1, 5), (9, 10))
    many = (student.expand(2000, -1, -1), reference.expand(2000, -1, -1))
    points, labels = corrective_points(*many, seeded())
    rows, columns = cells(points[:, 0])
    assert (columns == 9).all()
    assert torch.bincount(rows, minlength=5).tolist() == pytest.approx([500, 0, 500, 500, 500], abs=80)
    assert torch.equal(labels[:, 0] == 0, rows == 0)


def test_without_an_error_the_label_says_nothing() -> None:
    masks = blobs(3)
    _, labels = corrective_points(masks - 0.5, 5 * masks - 1, seeded())
    assert labels.tolist() == [[-1], [-1], [-1]]
    assert labels.dtype == torch.long


def test_few_cells_in_error_are_let_be() -> None:
    student, reference = rectangle((2, 4), (3, 6)), rectangle((2, 4), (3, 7))  # two cells apart
    found = [corrective_points(student, reference, seeded(), min_cells=n)[1].item() for n in (1, 2, 3)]
    assert found == [1, 1, -1]


def test_errors_on_padding_do_not_count() -> None:
    student, reference = torch.zeros(50, 12, 12), torch.ones(50, 12, 12)
    valid = rectangle((0, 4), (0, 9)).bool().expand(50, -1, -1)
    points, labels = corrective_points(student, reference, seeded(), valid)
    assert values_at(valid, points[:, 0]).all()
    assert (labels == 1).all()
    _, labels = corrective_points(student, reference, seeded(), torch.zeros_like(valid))
    assert (labels == -1).all()


def test_corrective_points_are_a_function_of_the_generator() -> None:
    student, reference = blobs(20, seed=1), blobs(20, seed=2)
    first, again, other = (corrective_points(student, reference, seeded(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pixels_by_hand() -> None:
    # A cell of the grid covers four pixels, 4 to 7; their centre is 5.5.
    assert points_to_pixels(torch.tensor([[1.5, 0.5]]), 16, 64).tolist() == [[5.5, 1.5]]
    assert points_to_pixels(torch.tensor([[3.5, 2.5]]), 16, 16).tolist() == [[3.0, 2.0]]
    assert boxes_to_pixels(torch.tensor([[1.0, 0.0, 3.0, 16.0]]), 16, 64).tolist() == [[4, 0, 12, 64]]


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_grid_to_pixels_agrees_with_the_contract(resize: str) -> None:
    """A mask of the canvas, taken for an image of its own, must lead to the same prompts."""
    contract, grid = make_contract(64, 16, resize), 16
    masks = blobs(10, grid)
    points, boxes = centre_points(masks), boxes_from_masks(masks)
    rows, columns = cells(points)
    in_image = torch.stack([columns, rows], dim=1).float()
    torch.testing.assert_close(
        points_to_pixels(points, grid, 64), points_to_canvas(in_image, contract, grid, grid), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(boxes_to_pixels(boxes, grid, 64), boxes_to_canvas(boxes, contract, grid, grid))


def test_a_point_on_the_mask_is_on_content() -> None:
    """On a padded canvas, points from masks fall inside what `content_size` says, and into the valid cells."""
    contract = make_contract(64, 16, "pad")
    content = torch.tensor([contract.content_size(30, 60)])
    valid = contract.content_mask(content, 16)
    assert content.tolist() == [[32, 64]]
    points = random_points(valid.float().expand(100, -1, -1), seeded())
    pixels = points_to_pixels(points, 16, 64)
    assert pixels[:, 1].max() == 29.5  # the last of eight rows of four pixels
    assert pixels[:, 0].max() > 32
