"""From an image file, and from prompts in its pixels, to the canvas of a contract."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from phd.contract import Contract
from phd.errors import UserError

# What Pillow raises on damaged files, besides OSError: which one depends on the format and on the damaged byte.
_DAMAGED = (OSError, SyntaxError, ValueError, IndexError, struct.error, Image.DecompressionBombError)


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file, turned upright as its EXIF orientation says.

    Args:
        path: Any format that Pillow reads, 8 bit.

    Returns:
        (H, W, 3) uint8 RGB; transparency is dropped.

    Raises:
        UserError: The file is missing, truncated, no image, or has more than 8 bit per channel.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such image file; check the path")
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except _DAMAGED as error:
        raise UserError(f"{path}: not a readable image ({_one_line(error)}); replace the file") from error
    if mode.startswith(("I", "F")):
        raise UserError(f"{path}: more than 8 bit per channel (mode {mode}); convert it to 8 bit RGB first")
    return pixels


def place(image: Tensor, content: tuple[int, int], size: int) -> Tensor:
    """Resize (C, H, W) to the content's height and width, bilinear with antialiasing, and pad with 0 to a square.

    The padding is on the right and at the bottom. This is the one place where images are resized: training,
    evaluation and prediction must see the same pixels.
    """
    height, width = content
    resized = transforms.resize(image, [height, width], InterpolationMode.BILINEAR, antialias=True)
    return transforms.pad(resized, [0, 0, size - width, size - height])


def to_canvas(image: np.ndarray, contract: Contract) -> tuple[Tensor, tuple[int, int]]:
    """Put an image on the contract's canvas.

    Args:
        image: (H, W, 3) uint8 RGB.
        contract: Says the size of the canvas, and whether to squash or to pad.

    Returns:
        The canvas (3, S, S) uint8, and height and width of the filled part in contract pixels.

    Raises:
        UserError: The array is no RGB image, or so narrow that nothing of it is left on the canvas.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise UserError(f"image array {image.dtype} of shape {image.shape}: give (H, W, 3) uint8 RGB")
    content = contract.content_size(*image.shape[:2])
    if min(content) < 1:
        raise UserError(
            f"image of {image.shape[1]} x {image.shape[0]} pixels is too narrow for a canvas of {contract.image_size}; "
            "crop it first"
        )
    # The copy: torch reads neither a read-only array nor negative strides.
    pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)
    return place(pixels, content, contract.image_size), content


def points_to_canvas(points: Tensor, contract: Contract, height: int, width: int) -> Tensor:
    """Scale points (..., 2) x, y from image pixels to contract pixels; the centre of a pixel stays the centre.

    On both sides a whole number is the centre of a pixel, so a plain scaling would shift a click towards the upper left
    by half a pixel of a small image (by 7 contract pixels where 64 become 1008).
    """
    return contract.to_canvas(points + 0.5, height, width) - 0.5


def boxes_to_canvas(boxes: Tensor, contract: Contract, height: int, width: int) -> Tensor:
    """Scale boxes (..., 4) x0 y0 x1 y1 from image pixels to contract pixels; edges are edges on both sides."""
    return contract.to_canvas(boxes.unflatten(-1, (2, 2)), height, width).flatten(-2)


def mask_to_prompt(mask: np.ndarray, contract: Contract) -> Tensor:
    """Logits (1, 1, m, m) of a mask (H, W), bool, of the image: 10 inside, -10 outside, between on the border.

    The size of the logits is what SAM 2 uses for a mask given by the user (Ravi et al. 2024, released code).
    """
    content = contract.content_size(*mask.shape)
    canvas = place(torch.from_numpy(mask.astype(np.float32)).unsqueeze(0), content, contract.image_size)
    side = contract.mask_size
    share = transforms.resize(canvas, [side, side], InterpolationMode.BILINEAR, antialias=True)
    return (20 * share - 10).unsqueeze(0)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
