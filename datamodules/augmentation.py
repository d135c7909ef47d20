"""What is varied in training, drawn from random numbers that depend on (seed, epoch, key) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phd.errors import UserError

# Side of the smallest square that is shown, in image pixels.
LEAST_VIEW = 16
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Factors of brightness, contrast and saturation.
Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for every image or clip and epoch.

    Attributes:
        horizontal_flip: Probability of a mirror image.
        crop_probability: Probability of a crop.
        crop_scale: Smallest and largest part of the image's area that a crop keeps; the aspect ratio stays.
        brightness: Factors are drawn from [1 - b, 1 + b]; contrast and saturation likewise.
        contrast: See `brightness`.
        saturation: See `brightness`.
    """

    horizontal_flip: float = 0.5
    crop_probability: float = 0.5
    crop_scale: tuple[float, float] = (0.4, 1.0)
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            UserError: Names the setting.
        """
        for name in ("horizontal_flip", "crop_probability", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augmentation.{name} is {getattr(self, name)}; give a number from 0 to 1")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise UserError(f"augmentation.crop_scale is [{low}, {high}]; give 0 < smallest <= largest <= 1")


@dataclass(frozen=True)
class View:
    """Which part of an image is shown, in image pixels, and whether mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


def generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The random numbers of one sample in one epoch."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def draw_view(
    rng: np.random.Generator, settings: Augmentation | None, height: int, width: int, flip: bool = True
) -> View:
    """A view of an image of this size; the whole image without settings.

    Args:
        rng: Of the sample.
        settings: Probabilities.
        height: Of the image, pixels.
        width: Of the image, pixels.
        flip: Whether it may be mirrored at all.
    """
    if settings is None:
        return View(0, 0, height, width)
    mirrored = bool(rng.random() < settings.horizontal_flip) and flip
    cropped = rng.random() < settings.crop_probability
    side = np.sqrt(rng.uniform(*settings.crop_scale)) if cropped else 1.0
    rows, columns = max(1, round(height * side)), max(1, round(width * side))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return View(int(top), int(left), rows, columns, mirrored)


def draw_view_around(
    rng: np.random.Generator, box: Sequence[float], zoom: tuple[float, float], height: int, width: int
) -> View:
    """A square view that holds a box whole, as far as the image reaches; not mirrored.

    Args:
        rng: Of the sample.
        box: Left, top, width and height, in image pixels.
        zoom: Smallest and largest side of the view in longest sides of the box; small and large are drawn as often.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    left, top, columns, rows = (round(value) for value in box)
    side = max(columns, rows) * float(np.exp(rng.uniform(*np.log(zoom))))
    high, wide = (min(most, max(LEAST_VIEW, round(side))) for most in (height, width))

    def begin(first: int, length: int, shown: int, whole: int) -> int:
        low, most = max(0, first + length - shown), min(first, whole - shown)
        return int(rng.integers(low, most + 1)) if low <= most else min(max(0, first), whole - shown)

    return View(begin(top, rows, high, height), begin(left, columns, wide, width), high, wide)


def draw_colours(rng: np.random.Generator, settings: Augmentation | None) -> Colours:
    """Factors of brightness, contrast and saturation; all 1 without settings."""
    if settings is None:
        return 1.0, 1.0, 1.0
    strengths = np.array([settings.brightness, settings.contrast, settings.saturation])
    brightness, contrast, saturation = rng.uniform(1 - strengths, 1 + strengths).tolist()
    return brightness, contrast, saturation


def recolour(
    image: Tensor, brightness: float, contrast: float, saturation: float, like: Tensor | None = None
) -> Tensor:
    """Change the colours of an image (3, H, W) uint8; 1 leaves a property as it is.

    What torchvision's `adjust_brightness`, `_contrast`, `_saturation` do one after the other, but as one linear map,
    at about half the cost; values are rounded and cut off once, at the end.

    Args:
        image: RGB.
        brightness: Factor.
        contrast: Factor of the distance to the mean grey.
        saturation: Factor of the distance to the pixel's grey.
        like: The image whose mean grey counts, itself where None: the frames of a clip change alike.
    """
    if (brightness, contrast, saturation) == (1, 1, 1):
        return image
    grey = torch.tensor(LUMA)
    measured = image if like is None else like
    mean = brightness * (grey @ measured[:, ::8, ::8].float().mean(dim=(1, 2)))
    mix = saturation * torch.eye(3) + (1 - saturation) * grey.expand(3, 3)
    # Half a level more, because the conversion to whole numbers cuts off.
    offset = ((1 - contrast) * mean + 0.5).expand(3, 1)
    changed = torch.addmm(offset, brightness * contrast * mix, image.flatten(1).float())
    return changed.clamp_(0, 255).to(torch.uint8).view(image.shape)
