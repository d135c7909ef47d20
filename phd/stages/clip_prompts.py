"""How a clip is prompted: what the first frame gets, and which frames are corrected by clicks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from phd.contract import Prompts
from phd.errors import UserError
from phd.prompts import centre_points, random_points
from phd.stages.object_prompts import box_prompts, point_prompts

ClipKind = Literal["mask", "point", "box"]
KINDS: tuple[ClipKind, ...] = ("mask", "point", "box")


@dataclass
class ClipMix:
    """Shares of the first prompts, and corrections (SAM 2, arXiv 2408.00714, appendix D.2.2; its training code).

    Attributes:
        mask: Share of clips whose first frame is given as a mask.
        point: Share of clips that begin with a point anywhere on the object.
        box: Share of clips that begin with a box.
        corrected_frames: Most frames of a clip that are corrected by clicks, the first one among them unless it was
            given as a mask; how many is drawn.
        clicks: Corrective clicks in such a frame.
        box_jitter: Standard deviation of a box edge, as a share of the side.
        box_jitter_limit: Largest move of an edge, in contract pixels.
        stills: Share of steps that use the first frame of each clip alone, from a point or a box and with clicks:
            without them the mask decoder forgets single images while it learns to track. SAM 2 mixes in SA-1B.
    """

    mask: float = 0.5
    point: float = 0.25
    box: float = 0.25
    corrected_frames: int = 2
    clicks: int = 3
    box_jitter: float = 0.1
    box_jitter_limit: float = 20.0
    stills: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.mask, self.point, self.box)
        if min(shares) < 0 or sum(shares) <= 0:
            raise UserError(
                f"prompts: the shares of mask, point and box are {shares}; give shares of at least 0, not all 0"
            )
        if not 0 <= self.stills < 1:
            raise UserError(f"prompts: stills is {self.stills}; give a share of the steps from 0 to below 1")
        if self.stills > 0 and self.point + self.box <= 0:
            raise UserError("prompts: stills begin with a point or a box; give one of them a share of more than 0")
        if self.corrected_frames < 0 or self.clicks < 0:
            raise UserError("prompts: corrected_frames and clicks count; give at least 0")


@dataclass(frozen=True)
class ClipPlan:
    """What one step asks.

    Attributes:
        kind: Of the first prompt.
        corrected: Numbers of the frames that are corrected.
        clicks: Corrective clicks in each of them.
        frames: Frames that take part, from the first one on; None for all.
        lead_in: How many of them, from the first one on, are tracked without gradients.
    """

    kind: ClipKind
    corrected: tuple[int, ...] = ()
    clicks: int = 0
    frames: int | None = None
    lead_in: int = 0


def draw_plan(mix: ClipMix, frames: int, generator: torch.Generator, lead_in: int = 0) -> ClipPlan:
    """A plan for training; one for the whole batch, so that all processes take about as long.

    Args:
        mix: Shares and counts.
        frames: Of the clip.
        generator: Draws.
        lead_in: Most frames without gradients; how many is drawn. As many as are trained on follow in any case.
    """
    shares = torch.tensor([mix.mask, mix.point, mix.box], device=generator.device)
    if mix.stills > 0 and bool(torch.rand((), generator=generator, device=generator.device) < mix.stills):
        kind = KINDS[1 + int(torch.multinomial(shares[1:], 1, generator=generator))]
        return ClipPlan(kind, (0,) if mix.clicks else (), mix.clicks, frames=1)
    kind = KINDS[int(torch.multinomial(shares, 1, generator=generator))]
    before = 0
    if lead_in > 0:
        before = int(torch.randint(0, lead_in + 1, (1,), generator=generator, device=generator.device))
        frames = frames - lead_in + before
    if mix.corrected_frames == 0 or mix.clicks == 0 or frames < 2:
        return ClipPlan(kind, frames=frames, lead_in=before)
    first = () if kind == "mask" else (0,)
    count = int(torch.randint(1, mix.corrected_frames + 1, (1,), generator=generator, device=generator.device))
    others = (torch.randperm(frames - 1, generator=generator, device=generator.device) + 1).tolist()
    corrected = sorted({*first, *others[: max(0, count - len(first))]})
    return ClipPlan(kind, tuple(corrected), mix.clicks, frames, before)


def first_prompts(
    kind: ClipKind, mix: ClipMix, masks: Tensor, image_size: int, generator: torch.Generator | None
) -> Prompts:
    """Points or boxes for the first frame of N objects; fixed ones (centres, tight boxes) without a generator.

    Args:
        kind: "point" or "box".
        mix: The jitter of boxes.
        masks: (N, m, m) in {0, 1}, none of them empty.
        image_size: Contract pixels.
        generator: On the device of the masks, or None.
    """
    index = torch.arange(len(masks), device=masks.device)
    if kind == "box":
        return box_prompts(masks, index, image_size, generator, mix.box_jitter, mix.box_jitter_limit)
    points = centre_points(masks) if generator is None else random_points(masks, generator)
    return point_prompts(points, index, masks.shape[-1], image_size)
