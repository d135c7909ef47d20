"""Which prompts a step asks: every instance gets one kind, and each kind is decoded in one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phd.contract import Prompts
from phd.errors import UserError
from phd.prompts import centre_points, coarse_masks, random_points
from phd.stages.object_prompts import box_prompts, point_prompts

KINDS = ("box", "point", "mask")
# Validation asks what can be compared across runs: tight boxes and centre points.
FIXED_KINDS = ("box", "point")


@dataclass
class PromptMix:
    """Shares of the prompt kinds in training.

    Attributes:
        box: Share of boxes.
        point: Share of lone points.
        mask: Share of mask prompts.
        centre: Share of the points that lie at the mask's centre; the others lie anywhere on it.
        box_jitter: Standard deviation of a box edge, as a share of the side (SAM, appendix A: 0.1).
        box_jitter_limit: Largest move of an edge, in contract pixels (SAM: 20 at 1024).
    """

    box: float = 0.5
    point: float = 0.5
    mask: float = 0.0
    centre: float = 0.3
    box_jitter: float = 0.1
    box_jitter_limit: float = 20.0

    def __post_init__(self) -> None:
        shares = (self.box, self.point, self.mask)
        if min(shares) < 0 or sum(shares) <= 0:
            raise UserError(
                f"prompts: the shares of box, point and mask are {shares}; give shares of at least 0, not all 0"
            )


def draw_prompts(
    mix: PromptMix, masks: Tensor, image_index: Tensor, image_size: int, generator: torch.Generator
) -> dict[str, tuple[Tensor, Prompts]]:
    """Training prompts for P instances.

    Args:
        mix: The shares.
        masks: (P, m, m) in {0, 1}, none of them empty.
        image_index: (P,) image of each instance.
        image_size: Contract pixels.
        generator: On the device of the masks.

    Returns:
        By kind: the instances it got, as indices into the P, and their prompts.
    """
    shares = torch.tensor([mix.box, mix.point, mix.mask], device=masks.device)
    kinds = torch.multinomial(shares, len(masks), replacement=True, generator=generator)
    drawn: dict[str, tuple[Tensor, Prompts]] = {}
    for number, kind in enumerate(KINDS):
        chosen = (kinds == number).nonzero().squeeze(1)
        if len(chosen):
            drawn[kind] = chosen, _prompts(kind, mix, masks[chosen], image_index[chosen], image_size, generator)
    return drawn


def fixed_prompts(masks: Tensor, image_index: Tensor, image_size: int) -> dict[str, tuple[Tensor, Prompts]]:
    """Validation prompts for P instances: each gets its tight box and its centre point.

    Arguments and result are those of `draw_prompts`.
    """
    everyone = torch.arange(len(masks), device=masks.device)
    return {
        "box": (everyone, box_prompts(masks, image_index, image_size)),
        "point": (everyone, point_prompts(centre_points(masks), image_index, masks.shape[-1], image_size)),
    }


def _prompts(
    kind: str, mix: PromptMix, masks: Tensor, image_index: Tensor, image_size: int, generator: torch.Generator
) -> Prompts:
    if kind == "box":
        return box_prompts(masks, image_index, image_size, generator, mix.box_jitter, mix.box_jitter_limit)
    if kind == "mask":
        return Prompts(image_index, masks=coarse_masks(masks, generator))
    central = torch.rand(len(masks), 1, generator=generator, device=masks.device) < mix.centre
    points = torch.where(central, centre_points(masks), random_points(masks, generator))
    return point_prompts(points, image_index, masks.shape[-1], image_size)
