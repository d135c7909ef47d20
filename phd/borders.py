"""Masks of a coarse grid that end where the colours of the image change."""

from __future__ import annotations

import numpy as np
import torch
from kornia.filters import guided_blur
from torch import Tensor

from phd.contract import Contract

# Variance of colours in [0, 1] below which a window has no border to follow (epsilon of the paper).
EVEN = 3e-5
# A mean over windows rounds corners and thin ends off; so the background must have so much more than a mask.
LEAD = 0.1


def follow_borders(masks: Tensor, image: np.ndarray, contract: Contract, cells: int) -> Tensor:
    """How much of each pixel belongs to each mask, by the colours around: the guided filter.

    In each window a mask is fitted by a linear function of the image's colours, and a pixel has the mean of what the
    windows around it say (He, Sun and Tang, "Guided Image Filtering", ECCV 2010, section 3; on every few pixels for
    large images, arXiv 1505.00996). A border that is off by up to a third of the reach so moves to the edge in the
    image, and one that was right may move to another edge; masks are not moved where the image is even.

    Args:
        masks: (N, H, W) bool.
        image: (H, W, 3) uint8 RGB.
        contract: Of the model: the unit of `cells` is a cell of its mask logits, in pixels of the image.
        cells: How far a window reaches each way.

    Returns:
        (N, H, W) shares, about in [0, 1]; of masks that do not overlap they sum up to what is not background.
    """
    height, width = masks.shape[-2:]
    filled_height, filled_width = contract.content_size(height, width)
    cell = contract.image_size / contract.mask_size
    down, right = cell * height / filled_height, cell * width / filled_width
    window = (2 * round(cells * down) + 1, 2 * round(cells * right) + 1)
    some = masks.flatten(1).any(1)
    shares = torch.zeros(masks.shape, device=masks.device)
    if bool(some.any()):
        guide = torch.tensor(image, device=masks.device).permute(2, 0, 1).unsqueeze(0).float() / 255
        # Differences of near equal means: not in half precision.
        with torch.autocast(masks.device.type, enabled=False):
            every = max(1, int(min(down, right) / 2))
            shares[some] = guided_blur(guide, masks[some][None].float(), window, EVEN, "replicate", every, True)[0]
    return shares
