"""SAM 3 at another image size: its positions are rotary or tiled, so no weight depends on the size."""

from __future__ import annotations

from typing import Any

from phd.errors import UserError

SETTINGS = "(model.image_size, --image-size)"


def no_other_size(image_size: int) -> UserError:
    """The error for a model whose positions are learned for one size."""
    return UserError(f"image size {image_size} {SETTINGS}: only SAM 3 runs at another size; leave it out")


def require_whole_patches(image_size: int, patch: int) -> None:
    """Raise unless the canvas is a whole number of patches; a rest would be cut off in silence.

    Raises:
        UserError: The size is no positive multiple of the patch size.
    """
    if image_size < patch or image_size % patch:
        raise UserError(f"image size {image_size} {SETTINGS}: SAM 3 needs a multiple of its patch of {patch} pixels")


def set_image_size(config: Any, image_size: int) -> None:
    """Change the size in every place of a `Sam3VideoConfig` that repeats it.

    Args:
        config: Changed in place.
        image_size: In pixels.

    Raises:
        UserError: The size is no multiple of the patch size.
    """
    vision = config.detector_config.vision_config
    patch = vision.backbone_config.patch_size
    require_whole_patches(image_size, patch)
    grid = image_size // patch
    config.image_size = image_size
    config.low_res_mask_size = 4 * grid
    vision.backbone_feature_sizes = [[factor * grid] * 2 for factor in (4, 2, 1)]
