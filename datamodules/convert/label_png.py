"""Masks as PNG: every pixel holds the number of its object."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.convert.raw import check_pixels, read_file
from phd.errors import UserError

# Pillow spreads grey values of 2 and 4 bits over 0 to 255.
GREY_STEP = {2: 85, 4: 17}
DEPTH_AT = 24  # the byte of a PNG that holds the bits per sample, in its first chunk


def read_labels(path: Path, height: int, width: int, max_pixels: int) -> np.ndarray:
    """Read an indexed or grey PNG as numbers of objects, never as colours.

    Args:
        path: Of the PNG.
        height: Of its frame, in pixels.
        width: Likewise.
        max_pixels: More are refused before anything is decoded.

    Returns:
        (H, W) uint8.

    Raises:
        UserError: It is damaged, holds colours, or has another size than its frame.
    """
    data = read_file(path)
    check_pixels(data, str(path), max_pixels)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            mode, size = image.mode, (image.height, image.width)
            labels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a PNG ({error}); replace or remove it") from error
    if mode not in ("P", "L", "1"):
        raise UserError(
            f"{path}: is a PNG of colours (mode {mode}), but the pixels must be the numbers of the objects; "
            f"save it with a palette or as grey of 8 bits"
        )
    if size != (height, width):
        raise UserError(
            f"{path}: the mask is {size[0]} x {size[1]} pixels (height x width) but its frame is {height} x {width}; "
            f"give the masks of these frames"
        )
    step = GREY_STEP.get(data[DEPTH_AT], 1) if mode == "L" else 1
    return labels.astype(np.uint8) // step
