"""Masks that follow the borders of an image, against the guided filter by its own formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from fake_segmenter import make_contract
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import uniform_filter
from tiny_video import tiny_sam2_video

from phd import VideoPredictor
from phd.borders import EVEN, LEAD, follow_borders
from phd.contract import Contract
from phd.heads.memory.rules import PLAIN, TrackRules
from phd.teachers import Teacher

HEIGHT, WIDTH = 60, 90


def contract(mask_size: int, resize: Literal["squash", "pad"] = "squash") -> Contract:
    return replace(make_contract(), image_size=64, mask_size=mask_size, resize=resize)


def halves(edge: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Two colours with an upright edge, and noise of the size that a codec leaves."""
    image = np.full((height, width, 3), (60, 90, 120), dtype=np.uint8)
    image[:, edge:] = (160, 80, 40)
    return image + np.random.default_rng(0).integers(0, 3, image.shape, dtype=np.uint8)


def left_of(column: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return (torch.arange(width) < column).expand(1, height, width)


def by_the_paper(mask: np.ndarray, image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Equations 19 to 21 of the paper of 2010, pixel by pixel in double precision."""
    colours = image / 255.0
    size = (2 * rows + 1, 2 * columns + 1)
    around = ((rows, rows), (columns, columns))
    windows = sliding_window_view(np.pad(colours, (*around, (0, 0)), mode="edge"), size, axis=(0, 1))
    marks = sliding_window_view(np.pad(mask.astype(float), around, mode="edge"), size)
    slope, offset = np.zeros_like(colours), np.zeros(mask.shape)
    for place in np.ndindex(mask.shape):
        guide, mark = windows[place].reshape(3, -1), marks[place].ravel()
        spread = np.cov(guide, bias=True) + EVEN * np.eye(3)
        slope[place] = np.linalg.solve(spread, (guide * mark).mean(1) - guide.mean(1) * mark.mean())
        offset[place] = mark.mean() - slope[place] @ guide.mean(1)
    slope = uniform_filter(slope, (*size, 1), mode="nearest")
    return (slope * colours).sum(-1) + uniform_filter(offset, size, mode="nearest")


@pytest.mark.parametrize(("resize", "rows", "columns"), [("squash", 4, 6), ("pad", 6, 6)])
def test_it_is_the_filter_of_the_paper_with_windows_in_cells(
    resize: Literal["squash", "pad"], rows: int, columns: int
) -> None:
    """With 30 x 30 cells, a cell of the squashed image has 2 x 3 pixels; a padded one has as many both ways."""
    mask, image = left_of(40), halves(43)
    shares = follow_borders(mask, image, contract(30, resize), 2)
    expected = by_the_paper(mask[0].numpy(), image, rows, columns)
    assert np.abs(shares[0].numpy() - expected).max() < 2e-3


@pytest.mark.parametrize("off", [-3, -1, 0, 1, 3])
def test_a_border_near_an_edge_moves_to_it(off: int) -> None:
    """By a third of the nine pixels that a window reaches."""
    shares = follow_borders(left_of(43 + off), halves(43), contract(30), 3)
    assert ((shares > 0.5) == left_of(43)).all()


def test_a_border_in_an_even_place_stays() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 100, dtype=np.uint8)
    shares = follow_borders(left_of(40), image, contract(30), 3)
    assert ((shares > 0.5) == left_of(40)).all()


def test_an_edge_out_of_reach_attracts_nothing() -> None:
    shares = follow_borders(left_of(40), halves(70), contract(30), 2)
    assert ((shares > 0.5)[..., :60] == left_of(40)[..., :60]).all()


def test_masks_are_filtered_each_for_itself_and_empty_ones_stay_empty() -> None:
    image, one, other = halves(43), left_of(40), ~left_of(46)
    none = torch.zeros_like(one)
    together = follow_borders(torch.cat([one, none, other]), image, contract(30), 2)
    for row, mask in enumerate((one, none, other)):
        torch.testing.assert_close(together[row : row + 1], follow_borders(mask, image, contract(30), 2))
    assert not together[1].any()
    assert not follow_borders(none, image, contract(30), 2).any()
    assert follow_borders(one[:0], image, contract(30), 2).shape == (0, HEIGHT, WIDTH)


def test_of_a_large_image_every_few_pixels_are_enough() -> None:
    """With cells of 6 pixels the filter runs on every third."""
    image, mask = halves(200, 180, 270), left_of(190, 180, 270)
    found = follow_borders(mask, image, replace(contract(30), image_size=60), 3) > 0.5
    assert (found != left_of(200, 180, 270)).float().mean() < 0.01


def test_autocast_does_not_change_it() -> None:
    mask, image = left_of(40), halves(43)
    alone = follow_borders(mask, image, contract(30), 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(follow_borders(mask, image, contract(30), 2), alone)


@pytest.fixture(scope="module")
def model() -> Teacher:
    """Random weights that find objects to be there."""
    made = tiny_sam2_video()
    with torch.no_grad():
        made.heads.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2)
    return made


def tracked(model: Teacher, rules: TrackRules, frames: list[np.ndarray]) -> list[tuple[np.ndarray, torch.Tensor]]:
    """Masks and logits of an object with a box and one with a mask, and in the third frame a correction."""
    predictor, found, drawn = VideoPredictor(model, rules=rules), [], np.zeros(frames[0].shape[:2], dtype=bool)
    drawn[10:30, 50:70] = True
    predictor.add(1, box=[5, 5, 40, 50])
    predictor.add(2, mask=drawn)
    for place, frame in enumerate(frames):
        answer = predictor.track(frame)
        if place == 2:
            frame[:] = 0  # a camera that writes its next frame already
            answer = predictor.correct(1, points=[[20, 20]])
        found.append((answer.masks, answer.logits))
    return found


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_predictor_moves_masks_but_not_what_it_remembers(model: Teacher, exclusive: bool) -> None:
    frames = [np.roll(halves(43), 2 * place, axis=1) for place in range(4)]
    rules = replace(PLAIN, exclusive=exclusive)
    before = tracked(model, rules, [frame.copy() for frame in frames])
    after = tracked(model, replace(rules, border_cells=2), [frame.copy() for frame in frames])
    moved = []
    for frame, (masks, logits), (others, same) in zip(frames, before, after, strict=True):
        assert torch.equal(logits, same)
        shares = follow_borders(torch.from_numpy(masks), frame, model.contract, 2)
        background = 1 - (shares.sum(0) if exclusive else shares)
        expected = shares > background - LEAD
        if exclusive:
            expected &= shares == shares.amax(0)
        moved.append(bool((masks != others).any()))
        if frame is frames[0]:
            # The mask that was given stays, and with `exclusive` no other one has any of it.
            expected = torch.stack([expected[0] & ~torch.from_numpy(masks[1] & exclusive), torch.from_numpy(masks[1])])
        assert (expected.numpy() == others).all()
        assert not exclusive or others.sum(0).max() < 2
    assert any(moved)
