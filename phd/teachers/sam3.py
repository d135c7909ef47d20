"""SAM 3 as a teacher (Carion et al., arXiv 2511.16719)."""

from __future__ import annotations

from typing import Any, cast

from einops import rearrange
from torch import Tensor, nn
from transformers import Sam3VideoModel

from phd.contract import Contract, Level
from phd.heads import Sam3Heads, TeacherNeck, set_image_size
from phd.teachers.base import Teacher
from phd.teachers.loading import read_config, read_model, read_processor, require_one_size, rgb
from phd.text import TextEncoder


class Sam3Trunk(nn.Module):
    """SAM 3's ViT, with its tokens laid out as a map."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images (B, 3, S, S) to ((B, C, h, w),)."""
        tokens = self.backbone(images).last_hidden_state
        side = images.shape[-1] // self.backbone.config.patch_size
        return (rearrange(tokens, "b (h w) c -> b c h w", h=side, w=side),)


def sam3_contract(config: Any, processor: Any) -> Contract:
    """SAM 3's contract: squash to a square, two branches of three levels on one trunk map."""
    vision = config.detector_config.vision_config
    backbone = vision.backbone_config
    grid = backbone.image_size // backbone.patch_size
    levels = tuple(Level(vision.fpn_hidden_size, factor * grid) for factor in (4, 2, 1))
    return Contract(
        family="sam3",
        image_size=processor.size["height"],
        resize="squash",
        mean=rgb(processor.image_mean),
        std=rgb(processor.image_std),
        tracker=levels,
        detector=levels,
        trunk=(Level(backbone.hidden_size, grid),),
        mask_size=4 * grid,
    )


def make_sam3(name: str, model: Any, processor: Any) -> Teacher:
    """A SAM 3 model behind the four verbs."""
    vision = model.detector_model.vision_encoder
    neck = TeacherNeck("sam3", {"tracker": model.tracker_neck, "detector": vision.neck}, 3)
    contract = sam3_contract(model.config, processor)
    require_one_size(name, contract.image_size, vision.backbone.config.image_size)
    detector = model.detector_model
    context = model.config.detector_config.text_config.max_position_embeddings
    text = TextEncoder(detector.text_encoder.text_model, detector.text_projection, context)
    trunk = Sam3Trunk(vision.backbone)
    return Teacher(name, contract, model, processor, trunk, neck, Sam3Heads.of_model(model), text)


def Sam3(source: str, image_size: int | None = None) -> Teacher:
    """SAM 3 from a hub id or a folder.

    Args:
        source: Hub id or folder.
        image_size: Run at this size instead of the checkpoint's, in pixels: its positions are rotary and tiled, so
            no weight depends on the size, but it was trained at its own.

    Raises:
        UserError: The size is no multiple of the patch size.
    """
    config, processor = read_config(source), read_processor(source)
    if image_size is not None:
        set_image_size(config, image_size)
        processor.size = {"height": image_size, "width": image_size}
        processor.mask_size = {"height": config.low_res_mask_size, "width": config.low_res_mask_size}
    model = cast(Sam3VideoModel, read_model(Sam3VideoModel, source, config=config))
    return make_sam3(source, model, processor)
