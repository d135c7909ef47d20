"""The loader that one writes first: a folder of files, Pillow, and every chosen mask decoded in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor


class PlainFolder:
    """Samples of SA-1B's raw files.

    Args:
        folder: With `sa_0.jpg`, `sa_0.json`, ...
        keys: Names of the samples, without suffix.
        image_size: Side of the canvas, to which both sides are scaled.
        mask_size: Side of the masks.
        max_masks: Masks of a sample.
        tensors_only: Scale masks with `torch.nn.functional.interpolate` instead of Pillow, which turns them around in
            memory first; fewer people write this, and it is faster.
    """

    def __init__(
        self,
        folder: Path,
        keys: list[str],
        image_size: int,
        mask_size: int,
        max_masks: int = 16,
        tensors_only: bool = False,
    ) -> None:
        self.folder, self.keys = folder, keys
        self.image_size, self.mask_size, self.max_masks = image_size, mask_size, max_masks
        self.scale = self.scaled_as_tensor if tensors_only else self.scaled_by_pillow

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Canvas (3, S, S) and the first masks (M, m, m), uint8."""
        path = self.folder / f"{self.keys[number]}.jpg"
        with Image.open(path) as file:
            image = file.convert("RGB").resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        record = json.loads(path.with_suffix(".json").read_bytes())
        annotations = record["annotations"][: self.max_masks]
        masks = [self.scale(coco_mask.decode(annotation["segmentation"])) for annotation in annotations]
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), torch.stack(masks)

    def scaled_by_pillow(self, mask: Any) -> Tensor:
        """A mask (H, W) at the side of the masks, by the nearest pixel."""
        size = (self.mask_size, self.mask_size)
        return torch.from_numpy(np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))

    def scaled_as_tensor(self, mask: Any) -> Tensor:
        """The same."""
        size = (self.mask_size, self.mask_size)
        return torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest-exact")[0, 0]
