"""From a stored sample to the canvas and the mask grid of a contract, augmented.

Augmentation happens here, so that teacher and student see the same pixels; and it is keyed by (seed, epoch, key),
so that it depends neither on workers nor on what was read before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from datamodules.record import decode_rgb, instances
from datamodules.rle import PixelSampler
from phd.contract import Contract
from phd.errors import UserError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for every image and epoch.

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


@dataclass(frozen=True)
class Example:
    """One sample of an `ImageBatch`: canvas (3, S, S), content (2,), masks (M, m, m), valid (M,)."""

    key: str
    image: Tensor
    content: Tensor
    masks: Tensor
    valid: Tensor


def generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The random numbers of one sample in one epoch."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


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


def recolour(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Change the colours of an image (3, H, W) uint8; 1 leaves a property as it is.

    What torchvision's `adjust_brightness`, `_contrast`, `_saturation` do one after the other, but as one linear map,
    at about half the cost; values are rounded and cut off once, at the end.
    """
    if (brightness, contrast, saturation) == (1, 1, 1):
        return image
    grey = torch.tensor(LUMA)
    mean = brightness * (grey @ image[:, ::8, ::8].float().mean(dim=(1, 2)))
    mix = saturation * torch.eye(3) + (1 - saturation) * grey.expand(3, 3)
    # Half a level more, because the conversion to whole numbers cuts off.
    offset = ((1 - contrast) * mean + 0.5).expand(3, 1)
    changed = torch.addmm(offset, brightness * contrast * mix, image.flatten(1).float())
    return changed.clamp_(0, 255).to(torch.uint8).view(image.shape)


class ImageTransform:
    """Makes examples for one contract.

    Args:
        contract: Canvas, resize rule and mask grid.
        augmentation: What to vary, or None.
        max_masks: Places for instances, M.
        min_area_cells: Instances with fewer cells on the mask grid are left out.
        seed: Of augmentation and choice.
        train: Choose instances at random; otherwise the first ones.
    """

    def __init__(
        self,
        contract: Contract,
        augmentation: Augmentation | None = None,
        max_masks: int = 16,
        min_area_cells: int = 4,
        seed: int = 0,
        train: bool = True,
    ) -> None:
        if augmentation is not None:
            augmentation.check()
        self.contract, self.augmentation = contract, augmentation
        self.max_masks, self.min_area_cells = max_masks, min_area_cells
        self.seed, self.train = seed, train

    def __call__(self, jpg: bytes, record: dict[str, Any], key: str, epoch: int = 0, where: str = "") -> Example:
        """Decode, augment, resize; masks straight from their run lengths.

        Args:
            jpg: The image file.
            record: Its `image` and `annotations`; crowds are left out.
            key: Names the sample; keys its random numbers.
            epoch: Likewise.
            where: Names the sample in errors; the key by default.

        Raises:
            UserError: The image cannot be decoded or is too narrow, or a mask is not of its size.
        """
        where = where or key
        rng = generator(self.seed, epoch, key)
        image = decode_rgb(jpg, where)
        height, width = int(image.shape[1]), int(image.shape[2])
        if min(self.contract.content_size(height, width)) < 1:
            raise UserError(
                f"{where}: an image of {width} x {height} pixels is too narrow for a canvas of "
                f"{self.contract.image_size}; crop it or leave it out"
            )
        view = self._draw_view(rng, height, width)
        annotations = instances(record)
        if self.train:
            annotations = [annotations[index] for index in rng.permutation(len(annotations))]
        masks, count = self._masks(annotations, height, width, view, where)
        whole = View(0, 0, height, width)
        if not count and view != whole:
            # The crop shows no instance: show the whole image rather than none.
            view = whole
            masks, count = self._masks(annotations, height, width, view, where)
        canvas, content = self._canvas(rng, image, view)
        return Example(key, canvas, content, masks, torch.arange(self.max_masks) < count)

    def _draw_view(self, rng: np.random.Generator, height: int, width: int) -> View:
        settings = self.augmentation
        if settings is None:
            return View(0, 0, height, width)
        mirrored = bool(rng.random() < settings.horizontal_flip)
        cropped = rng.random() < settings.crop_probability
        side = np.sqrt(rng.uniform(*settings.crop_scale)) if cropped else 1.0
        rows, columns = max(1, round(height * side)), max(1, round(width * side))
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        return View(int(top), int(left), rows, columns, mirrored)

    def _masks(
        self, annotations: list[dict[str, Any]], height: int, width: int, view: View, where: str
    ) -> tuple[Tensor, int]:
        """The first instances that are large enough in this view, (M, m, m) uint8, and how many they are."""
        canvas, grid = self.contract.image_size, self.contract.mask_size
        content = self.contract.content_size(view.height, view.width)
        rows = sampled_pixels(content[0], canvas, grid, view.top, view.height, mirrored=False)
        columns = sampled_pixels(content[1], canvas, grid, view.left, view.width, mirrored=view.mirrored)
        sample = PixelSampler(height, width, rows, columns)
        masks = np.zeros((self.max_masks, grid, grid), dtype=np.uint8)
        count = 0
        for annotation in annotations:
            if count == self.max_masks:
                break
            try:
                visible = sample(annotation.get("segmentation"))
            except UserError as error:
                raise UserError(f"{where}: annotation {annotation.get('id')}: {error}") from error
            if np.count_nonzero(visible) >= self.min_area_cells:
                masks[count, : len(rows), : len(columns)] = visible
                count += 1
        return torch.from_numpy(masks), count

    def _canvas(self, rng: np.random.Generator, image: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """The canvas (3, S, S) uint8 and its content (2,)."""
        shown = image[:, view.top : view.top + view.height, view.left : view.left + view.width]
        height, width = self.contract.content_size(view.height, view.width)
        shown = v2.resize(shown, [height, width], antialias=True)
        if view.mirrored:
            shown = v2.horizontal_flip(shown)
        if self.augmentation is not None:
            settings = self.augmentation
            strengths = np.array([settings.brightness, settings.contrast, settings.saturation])
            shown = recolour(shown, *rng.uniform(1 - strengths, 1 + strengths).tolist())
        size = self.contract.image_size
        canvas = shown
        if (height, width) != (size, size):
            canvas = torch.zeros(3, size, size, dtype=torch.uint8)
            canvas[:, :height, :width] = shown
        return canvas.contiguous(), torch.tensor([height, width])
