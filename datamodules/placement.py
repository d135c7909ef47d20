"""Where the view of an image lies on the canvas and on the mask grid of a contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from datamodules.augmentation import View
from datamodules.rle import PixelSampler
from phd.contract import Contract
from phd.errors import UserError


def sampled_pixels(content: int, canvas: int, cells: int, begin: int, length: int, mirrored: bool) -> np.ndarray:
    """Along one axis, the image pixel under the centre of each cell of the mask grid that lies on content.

    Args:
        content: Canvas pixels filled with image.
        canvas: Canvas pixels.
        cells: Cells of the mask grid.
        begin: First image pixel shown.
        length: Image pixels shown.
        mirrored: Whether the axis is reversed.
    """
    centres = (np.arange(cells) + 0.5) * (canvas / cells)
    centres = centres[centres < content]
    if mirrored:
        centres = content - centres
    return begin + np.clip((centres * (length / content)).astype(np.int64), 0, length - 1)


def require_fit(contract: Contract, height: int, width: int, where: str) -> None:
    """Check that an image leaves at least one pixel of either side on the canvas.

    Raises:
        UserError: It is too narrow.
    """
    if min(contract.content_size(height, width)) < 1:
        raise UserError(
            f"{where}: an image of {width} x {height} pixels is too narrow for a canvas of "
            f"{contract.image_size}; crop it or leave it out"
        )


class Placement:
    """Carries images, masks and boxes of one size to the canvas, all through the same view.

    Args:
        contract: Canvas, resize rule and mask grid.
        height: Of the images, pixels.
        width: Of the images, pixels.
        view: What is shown of them.
        mask_scale: How many times finer than the contract's the mask grid is.
    """

    def __init__(self, contract: Contract, height: int, width: int, view: View, mask_scale: int = 1) -> None:
        self.view, self.canvas_size, self.grid = view, contract.image_size, contract.mask_size * mask_scale
        self.content = contract.content_size(view.height, view.width)
        rows = sampled_pixels(self.content[0], self.canvas_size, self.grid, view.top, view.height, mirrored=False)
        columns = sampled_pixels(self.content[1], self.canvas_size, self.grid, view.left, view.width, view.mirrored)
        self._sample = PixelSampler(height, width, rows, columns)
        self._filled = (slice(len(rows)), slice(len(columns)))

    def mask(self, rle: Any) -> np.ndarray:
        """A mask on the grid, (m, m) uint8, straight from its run lengths.

        Raises:
            UserError: The RLE is damaged or of another size.
        """
        mask = np.zeros((self.grid, self.grid), dtype=np.uint8)
        self._sample.draw(rle, mask[self._filled])
        return mask

    def shown(self, image: Tensor) -> Tensor:
        """The view of an image (3, H, W) uint8 at the size of the content."""
        view = self.view
        part = image[:, view.top : view.top + view.height, view.left : view.left + view.width]
        part = v2.resize(part, list(self.content), antialias=True)
        return v2.horizontal_flip(part) if view.mirrored else part

    def canvas(self, shown: Tensor) -> Tensor:
        """The canvas (3, S, S) uint8 with this content, the rest 0."""
        size = self.canvas_size
        if self.content == (size, size):
            return shown.contiguous()
        canvas = torch.zeros(3, size, size, dtype=torch.uint8)
        canvas[:, : self.content[0], : self.content[1]] = shown
        return canvas

    def box(self, left: float, top: float, right: float, bottom: float) -> list[float]:
        """Edges in image pixels, inside the view, to x0 y0 x1 y1 in contract pixels."""
        height, width = self.content
        across, down = width / self.view.width, height / self.view.height
        x0, x1 = (left - self.view.left) * across, (right - self.view.left) * across
        if self.view.mirrored:
            x0, x1 = width - x1, width - x0
        return [x0, (top - self.view.top) * down, x1, (bottom - self.view.top) * down]
