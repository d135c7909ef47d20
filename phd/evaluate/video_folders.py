"""Writes tracked masks as trees of indexed PNG files: DAVIS's label maps, or SA-V's folder for each object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from phd.errors import UserError


def new_folder(path: Path) -> Path:
    """A folder for masks.

    Raises:
        UserError: It holds something, which would then be taken for predictions.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: --save-masks needs a new or an empty folder; name another one, or remove it")
    path.mkdir(parents=True, exist_ok=True)
    return path


def davis_palette() -> list[int]:
    """The 256 colours of DAVIS and PASCAL VOC: bits of the label spread over the high bits of red, green and blue."""
    colours = []
    for label in range(256):
        channels, rest = [0, 0, 0], label
        for bit in range(7, -1, -1):
            for channel in range(3):
                channels[channel] |= (rest >> channel & 1) << bit
            rest >>= 3
        colours += channels
    return colours


def write_frames(folder: Path, frames: list[str], labels: Callable[[int], np.ndarray], places: list[int]) -> None:
    """Write label maps as PNGs with a palette.

    Args:
        folder: Made anew.
        frames: Names of all frames.
        labels: Gives the label map (H, W) uint8 of a place.
        places: Which ones to write.
    """
    folder.mkdir(parents=True)
    palette = davis_palette()
    for place in places:
        image = Image.fromarray(labels(place))
        image.putpalette(palette)
        image.save(folder / f"{frames[place]}.png")
