"""The teachers' own necks, built from their configuration; a student may keep them (`neck: teacher`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam3VideoConfig, SamConfig
from transformers.models.sam.modeling_sam import SamVisionNeck
from transformers.models.sam2.modeling_sam2 import Sam2VisionNeck
from transformers.models.sam3.modeling_sam3 import Sam3VisionNeck

from phd.contract import Branch, Family


class TeacherNeck(nn.Module):
    """One neck of the `transformers` library per branch, from trunk maps (B, C, h, w) to the heads' levels.

    Args:
        family: Decides how the maps are laid out for the neck.
        necks: By branch.
        num_levels: How many levels the heads read; SAM 3's necks write one more that nobody reads.
    """

    def __init__(self, family: Family, necks: dict[Branch, nn.Module], num_levels: int) -> None:
        super().__init__()
        self.family = family
        self.necks = nn.ModuleDict(cast(dict[str, nn.Module], necks))
        self.num_levels = num_levels

    def forward(
        self, trunk: Sequence[Tensor], branches: Sequence[Branch] | None = None, coarsest: bool = False
    ) -> dict[Branch, tuple[Tensor, ...]]:
        """Levels by branch, finest first.

        Args:
            trunk: The maps that `Contract.trunk` describes, finest first.
            branches: Which to compute; all by default.
            coarsest: Return the coarsest level of each alone; SAM 3, each level by itself, is spared the finer ones.
        """
        wanted = branches or cast(Sequence[Branch], tuple(self.necks))
        return {branch: self._levels(self.necks[branch], trunk, coarsest) for branch in wanted}

    def _levels(self, neck: nn.Module, trunk: Sequence[Tensor], coarsest: bool) -> tuple[Tensor, ...]:
        first = -1 if coarsest else 0
        if self.family == "sam":
            return (neck(trunk[0].permute(0, 2, 3, 1)),)
        if self.family == "sam2":
            levels, _ = neck([level.permute(0, 2, 3, 1) for level in trunk])
            return tuple(levels[-self.num_levels :][::-1])[first:]
        # SAM 3 writes each level from the same map, and one more that nobody reads.
        layers = cast(nn.ModuleList, neck.fpn_layers)[: self.num_levels][first:]
        return tuple(layer(trunk[0]) for layer in layers)


def build_neck(family: Family, config: dict[str, Any]) -> TeacherNeck:
    """A teacher's neck with new weights.

    Args:
        family: Which neck.
        config: The teacher's `transformers` configuration as a dictionary.
    """
    if family == "sam":
        sam: Any = SamConfig.from_dict(config)
        return TeacherNeck(family, {"tracker": SamVisionNeck(sam.vision_config)}, 1)
    if family == "sam2":
        sam2: Any = Sam2VideoConfig.from_dict(config).vision_config
        return TeacherNeck(family, {"tracker": Sam2VisionNeck(sam2)}, sam2.num_feature_levels)
    sam3: Any = Sam3VideoConfig.from_dict(config)
    vision = sam3.detector_config.vision_config
    return TeacherNeck(family, {"tracker": Sam3VisionNeck(vision), "detector": Sam3VisionNeck(vision)}, 3)
