"""SAM as a teacher (Kirillov et al., arXiv 2304.02643)."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import SamModel

from phd.contract import Contract, Level
from phd.heads import SamHeads, TeacherNeck
from phd.teachers.base import Teacher
from phd.teachers.loading import read_model, read_processor, require_one_size, rgb


class SamTrunk(nn.Module):
    """SAM's ViT up to its neck, whose forward the library does not split."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder: Any = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images (B, 3, S, S) to ((B, C, h, w),)."""
        hidden = self.encoder.patch_embed(images)
        if self.encoder.pos_embed is not None:
            hidden = hidden + self.encoder.pos_embed
        for layer in self.encoder.layers:
            hidden = layer(hidden)
        return (hidden.permute(0, 3, 1, 2),)


def sam_contract(config: Any, processor: Any) -> Contract:
    """SAM's contract: the longer side to S, padding after normalisation."""
    vision = config.vision_config
    grid = vision.image_size // vision.patch_size
    return Contract(
        family="sam",
        image_size=processor.size["longest_edge"],
        resize="pad",
        mean=rgb(processor.image_mean),
        std=rgb(processor.image_std),
        tracker=(Level(vision.output_channels, grid),),
        detector=(),
        trunk=(Level(vision.hidden_size, grid),),
        mask_size=4 * grid,
    )


def make_sam(name: str, model: Any, processor: Any) -> Teacher:
    """A SAM model behind the four verbs."""
    neck = TeacherNeck("sam", {"tracker": model.vision_encoder.neck}, 1)
    contract = sam_contract(model.config, processor)
    require_one_size(name, contract.image_size, model.config.vision_config.image_size)
    return Teacher(
        name,
        contract,
        model,
        processor,
        SamTrunk(model.vision_encoder),
        neck,
        SamHeads.of_model(model),
    )


def Sam(source: str) -> Teacher:
    """SAM from a hub id or a folder."""
    return make_sam(source, cast(SamModel, read_model(SamModel, source)), read_processor(source))
