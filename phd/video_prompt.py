"""A prompt for one object in one frame of a user's video, from its pixels to the canvas of a contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from phd.contract import Contract, ObjectPrompt
from phd.errors import UserError
from phd.predict import check_box, check_points
from phd.preprocess import boxes_to_canvas, place, points_to_canvas


@dataclass(frozen=True)
class VideoPrompt:
    """Points, a box, both, or a mask, in pixels of the frame.

    Attributes:
        points: Points (x, y).
        labels: One for each point: 1 object, 0 background.
        box: x0 y0 x1 y1, x1 and y1 exclusive, or None.
        mask: (H, W) bool, or None; stands alone.
    """

    points: tuple[Sequence[float], ...] = ()
    labels: tuple[int, ...] = ()
    box: Sequence[float] | None = None
    mask: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
    ) -> Self:
        """A prompt of what a user gave; labels are 1 by default.

        Raises:
            UserError: There is nothing, a mask does not stand alone, or labels do not fit the points.
        """
        if points is None and labels is None and box is None and mask is None:
            raise UserError("no prompt; give points, a box or a mask")
        if mask is not None and not (points is None and labels is None and box is None):
            raise UserError("a mask together with points or a box; give the mask alone, and correct it afterwards")
        pairs = () if points is None else tuple(points)
        signs = (1,) * len(pairs) if labels is None else tuple(labels)
        if len(signs) != len(pairs) or not (pairs or box is not None or mask is not None):
            raise UserError(f"{len(pairs)} points with {len(signs)} labels: give a point, and a label for each")
        return cls(pairs, signs, box, mask)

    def after(self, earlier: VideoPrompt | None) -> VideoPrompt:
        """The prompt with the points and the box that the object had before; a mask puts aside what was before it."""
        if earlier is None or self.mask is not None:
            return self
        box = earlier.box if self.box is None else self.box
        return VideoPrompt(earlier.points + self.points, earlier.labels + self.labels, box)

    def check(self, height: int, width: int) -> None:
        """Check the prompt against a frame.

        Raises:
            UserError: It does not fit a frame of this size.
        """
        if self.mask is not None:
            check_mask(self.mask, height, width)
        if self.box is not None:
            check_box(self.box, height, width)
        if self.points:
            check_points(self.points, self.labels, height, width)

    def on_canvas(self, contract: Contract, height: int, width: int) -> ObjectPrompt:
        """The prompt in contract pixels.

        Raises:
            UserError: It does not fit a frame of this size.
        """
        self.check(height, width)
        if self.mask is not None:
            return ObjectPrompt(mask=mask_to_canvas(self.mask, contract))
        prompt = ObjectPrompt()
        if self.box is not None:
            corners = torch.tensor([float(value) for value in self.box])
            prompt.box = boxes_to_canvas(corners, contract, height, width)
        if self.points:
            places = torch.tensor([[float(x), float(y)] for x, y in self.points])
            prompt.points = points_to_canvas(places, contract, height, width)
            prompt.labels = torch.tensor([int(label) for label in self.labels])
        return prompt


def mask_to_canvas(mask: np.ndarray, contract: Contract) -> Tensor:
    """A mask (H, W), bool, on the canvas: (S, S) of 0 and 1, where at least half of a cell is covered.

    The threshold is SAM 2's (Ravi et al. 2024, released code, `add_new_mask`). An object thinner than that keeps the
    cells of which it covers most, so that it does not vanish.
    """
    content = contract.content_size(*mask.shape)
    share = place(torch.from_numpy(mask.astype(np.float32)).unsqueeze(0), content, contract.image_size)[0]
    return (share >= share.max().clamp(max=0.5)).float()


def check_mask(mask: np.ndarray, height: int, width: int) -> None:
    """Check a mask against its frame.

    Raises:
        UserError: It is not boolean, not of the frame's size, or empty.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != bool:
        raise UserError(f"mask of type {getattr(mask, 'dtype', type(mask).__name__)}: give a boolean array (H, W)")
    if mask.shape != (height, width):
        raise UserError(
            f"the mask is {' x '.join(map(str, mask.shape))} pixels (height x width) but the frame is "
            f"{height} x {width}; give a mask of the frame's size"
        )
    if not mask.any():
        raise UserError("the mask is empty; mark at least one pixel of the object")
