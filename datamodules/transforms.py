"""From a stored image and its annotations to the canvas and the mask grid of a contract, augmented.

Augmentation happens here, so that teacher and student see the same pixels; and it is keyed by (seed, epoch, key),
so that it depends neither on workers nor on what was read before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.augmentation import Augmentation, View, draw_colours, draw_view, generator, recolour
from datamodules.placement import Placement, require_fit
from datamodules.record import decode_rgb, instances
from phd.contract import Contract
from phd.errors import UserError

__all__ = ["Augmentation", "Example", "ImageTransform"]


@dataclass(frozen=True)
class Example:
    """One sample of an `ImageBatch`: canvas (3, S, S), content (2,), masks (M, m, m), valid (M,)."""

    key: str
    image: Tensor
    content: Tensor
    masks: Tensor
    valid: Tensor


class ImageTransform:
    """Makes examples for one contract.

    Args:
        contract: Canvas, resize rule and mask grid.
        augmentation: What to vary, or None.
        max_masks: Places for instances, M.
        min_area_cells: Instances with fewer cells on the contract's mask grid are left out.
        seed: Of augmentation and choice.
        train: Choose instances at random; otherwise the first ones.
        mask_scale: How many times finer than the contract's the mask grid is.
    """

    def __init__(
        self,
        contract: Contract,
        augmentation: Augmentation | None = None,
        max_masks: int = 16,
        min_area_cells: int = 4,
        seed: int = 0,
        train: bool = True,
        mask_scale: int = 1,
    ) -> None:
        if augmentation is not None:
            augmentation.check()
        self.contract, self.augmentation = contract, augmentation
        self.max_masks, self.mask_scale = max_masks, mask_scale
        self.min_area_cells = min_area_cells * mask_scale**2
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
        require_fit(self.contract, height, width, where)
        view = draw_view(rng, self.augmentation, height, width)
        annotations = instances(record)
        if self.train:
            annotations = [annotations[index] for index in rng.permutation(len(annotations))]
        placement = Placement(self.contract, height, width, view, self.mask_scale)
        masks, count = self._masks(annotations, placement, where)
        whole = View(0, 0, height, width)
        if not count and view != whole:
            # The crop shows no instance: show the whole image rather than none.
            placement = Placement(self.contract, height, width, whole, self.mask_scale)
            masks, count = self._masks(annotations, placement, where)
        canvas = placement.canvas(recolour(placement.shown(image), *draw_colours(rng, self.augmentation)))
        return Example(key, canvas, torch.tensor(placement.content), masks, torch.arange(self.max_masks) < count)

    def _masks(self, annotations: list[dict[str, Any]], placement: Placement, where: str) -> tuple[Tensor, int]:
        """The first instances that are large enough in this view, (M, m, m) uint8, and how many they are."""
        masks = np.zeros((self.max_masks, placement.grid, placement.grid), dtype=np.uint8)
        count = 0
        for annotation in annotations:
            if count == self.max_masks:
                break
            mask = instance_mask(annotation, placement, where)
            if np.count_nonzero(mask) >= self.min_area_cells:
                masks[count] = mask
                count += 1
        return torch.from_numpy(masks), count


def instance_mask(annotation: dict[str, Any], placement: Placement, where: str) -> np.ndarray:
    """The mask of an annotation on the grid, (m, m) uint8.

    Raises:
        UserError: Its RLE is damaged or of another size; names sample and annotation.
    """
    try:
        return placement.mask(annotation.get("segmentation"))
    except UserError as error:
        raise UserError(f"{where}: annotation {annotation.get('id')}: {error}") from error
