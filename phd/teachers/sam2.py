"""SAM 2 as a teacher (Ravi et al., arXiv 2408.00714)."""

from __future__ import annotations

from typing import Any, cast

from einops import rearrange
from torch import Tensor, nn
from transformers import Sam2VideoModel

from phd.contract import Contract, Level
from phd.heads import TeacherNeck, TrackerHeads
from phd.teachers.base import Teacher
from phd.teachers.loading import read_model, read_processor, require_one_size, rgb


class Sam2Trunk(nn.Module):
    """Hiera, with its four stages laid out as maps."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images (B, 3, S, S) to four maps (B, C, h, w), finest first."""
        stages = self.backbone(images).intermediate_hidden_states
        return tuple(rearrange(stage, "b h w c -> b c h w") for stage in stages)


def sam2_contract(config: Any, processor: Any) -> Contract:
    """SAM 2's contract: squash to a square."""
    vision = config.vision_config
    sizes = [height for height, _ in vision.backbone_feature_sizes]
    # The neck reads one level more than the heads; its list of channels is written coarsest first.
    trunk_channels = list(reversed(vision.backbone_channel_list))
    trunk_sizes = [*sizes, sizes[-1] // 2][: len(trunk_channels)]
    return Contract(
        family="sam2",
        image_size=processor.size["height"],
        resize="squash",
        mean=rgb(processor.image_mean),
        std=rgb(processor.image_std),
        tracker=tuple(Level(vision.fpn_hidden_size, size) for size in sizes),
        detector=(),
        trunk=tuple(Level(channels, size) for channels, size in zip(trunk_channels, trunk_sizes, strict=True)),
        mask_size=4 * sizes[-1],
    )


def make_sam2(name: str, model: Any, processor: Any) -> Teacher:
    """A SAM 2 model behind the four verbs."""
    vision = model.vision_encoder
    neck = TeacherNeck("sam2", {"tracker": vision.neck}, vision.num_feature_levels)
    contract = sam2_contract(model.config, processor)
    require_one_size(name, contract.image_size, model.config.prompt_encoder_config.image_size)
    return Teacher(name, contract, model, processor, Sam2Trunk(vision.backbone), neck, TrackerHeads(model))


def Sam2(source: str) -> Teacher:
    """SAM 2 or 2.1 from a hub id or a folder."""
    model = cast(Sam2VideoModel, read_model(Sam2VideoModel, source))
    return make_sam2(source, model, read_processor(source))
