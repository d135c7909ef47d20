"""From the trunk's four maps to the levels that the heads read.

The necks of SAM 3 take 107 GMACs each at 1008 px because they make their fine levels from a coarse map, by transposed
and full 3x3 convolutions at 288 x 288 x 256. A hierarchical trunk has fine maps already: here they are fused in few
channels, down the pyramid (FPN, arXiv 1612.03144) and up again (PANet, arXiv 1803.01534), and widened last, by one
1x1 convolution per level.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from phd.contract import Branch, Contract, Level
from phd.heads import build_neck
from phd.student.backbones import STRIDES

NeckKind = Literal["light", "teacher"]

# Channels at strides 4, 8, 16, 32: a channel at stride 4 costs 64 times one at stride 32.
WIDTHS = (64, 128, 256, 256)
# Hidden channels of a refinement, as a multiple of its width.
EXPANSIONS = (1, 1, 2, 4)
# From this ratio on, a level that is finer than its source gets its detail from channels, not from interpolation.
SHUFFLE_RATIO = 1.5


class ConvNorm(nn.Sequential):
    """Convolution and batch norm, which fold into one convolution for inference."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def fuse(self) -> nn.Conv2d:
        """One convolution that computes the same in eval mode; timm's re-parameterisation calls it by name."""
        return fuse_conv_bn_eval(cast(nn.Conv2d, self[0]), cast(nn.BatchNorm2d, self[1]))


class Refine(nn.Module):
    """Residual depthwise-separable refinement (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(width, width, 3, groups=width)
        self.expand = ConvNorm(width, width * expansion)
        self.project = ConvNorm(width * expansion, width)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a map."""
        return x + self.project(functional.gelu(self.expand(self.depthwise(x))))


class Fusion(nn.Module):
    """Fuse the trunk's maps on their own grids.

    Args:
        channels: Of the trunk's maps, finest first.
        coarsest: Index of the coarsest map that is read. The way up ends there, so that no parameter stays without
            gradient.
    """

    def __init__(self, channels: Sequence[int], coarsest: int) -> None:
        super().__init__()
        finer_and_coarser = list(itertools.pairwise(WIDTHS))
        self.laterals = nn.ModuleList(ConvNorm(c, width) for c, width in zip(channels, WIDTHS, strict=True))
        self.narrow = nn.ModuleList(ConvNorm(coarser, finer) for finer, coarser in finer_and_coarser)
        self.refine_down = nn.ModuleList(map(Refine, WIDTHS, EXPANSIONS))
        climbed = finer_and_coarser[:coarsest]
        self.shrink = nn.ModuleList(ConvNorm(finer, finer, 3, stride=2, groups=finer) for finer, _ in climbed)
        self.widen = nn.ModuleList(ConvNorm(finer, coarser) for finer, coarser in climbed)
        self.refine_up = nn.ModuleList(Refine(WIDTHS[index], EXPANSIONS[index]) for index in range(1, coarsest + 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Fused maps (B, width, h, w) on the grids of the four given ones, finest first."""
        fused = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        fused[-1] = self.refine_down[-1](fused[-1])
        for index in reversed(range(len(fused) - 1)):
            coarser = double_to(self.narrow[index](fused[index + 1]), fused[index].shape[-2:])
            fused[index] = self.refine_down[index](fused[index] + coarser)
        for index, (shrink, widen, refine) in enumerate(zip(self.shrink, self.widen, self.refine_up, strict=True)):
            height, width = fused[index + 1].shape[-2:]
            finer = widen(shrink(fused[index]))[..., :height, :width]
            fused[index + 1] = refine(fused[index + 1] + finer)
        return fused


class LevelHead(nn.Module):
    """One level of one branch from a fused map.

    Args:
        width: Channels of the fused map.
        source_size: Its side, in cells.
        level: What the heads read.
    """

    def __init__(self, width: int, source_size: float, level: Level) -> None:
        super().__init__()
        self.size = level.size
        shuffled = level.size >= SHUFFLE_RATIO * source_size
        self.unfold = nn.Sequential(ConvNorm(width, 4 * width), nn.PixelShuffle(2)) if shuffled else nn.Identity()
        self.depthwise = ConvNorm(width, width, 3, groups=width)
        self.project = nn.Conv2d(width, level.channels, 1)

    def forward(self, fused: Tensor) -> Tensor:
        """Write the level (B, C, size, size)."""
        x = self.unfold(fused)
        if x.shape[-2:] != (self.size, self.size):
            x = functional.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return self.project(functional.gelu(x + self.depthwise(x)))


class LightNeck(nn.Module):
    """A shared fusion, then cheap heads: one per branch and level, on the fused map of the nearest grid.

    Batch norm throughout, as in the trunks: it folds into the convolutions. A stage that freezes the neck or sees
    few images a step puts it in eval mode.

    Args:
        channels: Of the trunk's maps at strides 4, 8, 16, 32.
        branches: The levels to write, by name, each finest first.
        image_size: Side of the images, in pixels.
    """

    def __init__(self, channels: Sequence[int], branches: Mapping[Any, Sequence[Level]], image_size: int) -> None:
        super().__init__()
        sizes = [image_size / stride for stride in STRIDES]
        self.sources = {branch: [nearest(sizes, level.size) for level in levels] for branch, levels in branches.items()}
        self.fusion = Fusion(channels, max(max(sources) for sources in self.sources.values()))
        self.branches = nn.ModuleDict(
            {
                branch: nn.ModuleList(
                    LevelHead(WIDTHS[source], sizes[source], level)
                    for source, level in zip(self.sources[branch], levels, strict=True)
                )
                for branch, levels in branches.items()
            }
        )

    def forward(
        self, maps: Sequence[Tensor], branches: Sequence[Any] | None = None, coarsest: bool = False
    ) -> dict[Any, tuple[Tensor, ...]]:
        """Levels by branch, finest first.

        Args:
            maps: The trunk's four maps, finest first.
            branches: Which to compute; all by default.
            coarsest: Compute the coarsest level of each alone.
        """
        fused = self.fusion(maps)
        first = -1 if coarsest else 0
        found: dict[Any, tuple[Tensor, ...]] = {}
        for branch in branches or tuple(self.sources):
            heads = cast(nn.ModuleList, self.branches[branch])
            pairs = list(zip(self.sources[branch], heads, strict=True))[first:]
            found[branch] = tuple(head(fused[source]) for source, head in pairs)
        return found


class InheritedNeck(nn.Module):
    """The teacher's own neck, on an imitation of the maps that the teacher's trunk gives it."""

    def __init__(self, channels: Sequence[int], contract: Contract, teacher_config: dict[str, Any]) -> None:
        super().__init__()
        self.adapter = LightNeck(channels, {"trunk": contract.trunk}, contract.image_size)
        self.teacher = build_neck(contract.family, teacher_config)

    def forward(
        self, maps: Sequence[Tensor], branches: Sequence[Branch] | None = None, coarsest: bool = False
    ) -> dict[Branch, tuple[Tensor, ...]]:
        """See `LightNeck.forward`."""
        return self.teacher(self.adapter(maps)["trunk"], branches, coarsest)


def new_neck(
    kind: NeckKind, channels: Sequence[int], contract: Contract, teacher_config: dict[str, Any]
) -> LightNeck | InheritedNeck:
    """A neck with fresh weights.

    Args:
        kind: "light", or "teacher" for the teacher's own behind an adapter.
        channels: Of the trunk's maps at strides 4, 8, 16, 32.
        contract: Which levels the heads, or the teacher's neck, read.
        teacher_config: The teacher's `transformers` configuration as a dictionary.
    """
    if kind == "teacher":
        return InheritedNeck(channels, contract, teacher_config)
    return LightNeck(channels, contract.branches, contract.image_size)


def nearest(sizes: Sequence[float], size: int) -> int:
    """Index of the grid whose cells are nearest in size, by ratio."""
    return min(range(len(sizes)), key=lambda index: abs(math.log(sizes[index] / size)))


def double_to(coarse: Tensor, size: torch.Size) -> Tensor:
    """Double a map bilinearly and crop it, or repeat its border, to a size.

    At 1008 px the map of stride 32 has 32 cells, over 1024 px: to stretch it over the 63 cells of stride 16 would
    shift objects by up to one of them, growing from left to right.
    """
    doubled = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    height, width = size
    pad = (0, width - doubled.shape[-1], 0, height - doubled.shape[-2])
    if max(pad) > 0:
        return functional.pad(doubled, pad, mode="replicate")
    return doubled[..., :height, :width]
