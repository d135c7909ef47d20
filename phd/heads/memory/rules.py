"""What of an answer is remembered, and who gets a place that several objects claim: rules of inference alone.

The library's session knows none of them; the authors' own code of SAM 2 and SAM 3 does, but for the two by looks,
`contested_iou` and `exchange_ratio`, which are ours, and for `border_cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from phd.heads.memory.looks import Looks, Sight
from phd.heads.memory.video import ABSENT, GIVEN_BIAS, TrackedFrame

# An object that keeps less of its mask has only lain on another one (SAM 3's code).
SHRUNK = 0.3


@dataclass(frozen=True)
class TrackRules:
    """Rules between frames and between objects.

    Attributes:
        select_memory: Remember a frame only for the objects that are seen in it. After an occlusion the memory then
            holds what the object looked like, not that it was away. SAM 3's `use_memory_selection`, but for the latest
            frame, which it always reads.
        least_score: Seen is an object whose predicted IoU times `2 p - 1` is above this, where p is the probability
            that it is there; SAM 3's `mf_threshold`.
        exclusive: Masks of different objects may not overlap, neither in the answer nor in the memory: a cell goes to
            the largest logit, and an object that so loses most of its mask is not there. SAM 2's `non_overlap_masks`
            and `non_overlap_masks_for_mem_enc`, and what SAM 3 does with masks that shrink by it.
        contested_iou: With `exclusive`: two masks that overlap by at least this IoU are of one thing, and the object
            that it looks less like, by what both looked like when they were prompted, is not there (`Sight`). 0: never;
            the logits alone decide.
        exchange_ratio: With `exclusive`: two objects exchange their answers where the masks so come nearer to what both
            looked like when they were prompted, to below this share of the distance (`Sight.owners`). 0: never.
        border_cells: Masks at the size of the frame follow the borders in it, by windows that reach so many cells of
            the mask logits each way (`phd.borders`); logits and memory stay as they are. 0: they do not.
    """

    select_memory: bool = False
    least_score: float = 0.01
    exclusive: bool = False
    contested_iou: float = 0.0
    exchange_ratio: float = 0.0
    border_cells: int = 0

    @classmethod
    def of(cls, config: Any) -> TrackRules:
        """Those of a tracker's configuration, by the names of SAM 3's and SAM 2's code; without them, none."""
        return cls(
            bool(getattr(config, "use_memory_selection", False)),
            float(getattr(config, "mf_threshold", 0.01)),
            bool(getattr(config, "non_overlap_masks", False)),
            float(getattr(config, "contested_mask_iou", 0.0)),
            float(getattr(config, "exchanged_look_ratio", 0.0)),
            int(getattr(config, "guided_filter_cells", 0)),
        )

    def remembered(self, answer: TrackedFrame, given: Tensor) -> Tensor:
        """(n,) the rows of the objects that remember the frame.

        Args:
            answer: Of N objects.
            given: (N,) bool, objects with a prompt in this frame, which remember it in any case.
        """
        if not self.select_memory:
            return torch.arange(len(given), device=given.device)
        there = (2 * answer.object_logits.sigmoid() - 1).clamp(min=0)
        return (given | (there * answer.scores.amax(1) > self.least_score)).nonzero()[:, 0]

    def sight(self, levels: Sequence[Tensor], video: Tensor, before: Looks | None) -> Sight | None:
        """What `settled` needs to know of the frame's looks, as `Sight.of`; None where no rule asks for it."""
        asked = self.exclusive and (self.contested_iou > 0 or self.exchange_ratio > 0)
        return Sight.of(levels, video, before) if asked else None

    def settled(
        self,
        answer: TrackedFrame,
        given: Tensor,
        nobody: Tensor,
        video: Tensor | None = None,
        sight: Sight | None = None,
    ) -> TrackedFrame:
        """The answer after what the objects claim of each other.

        Args:
            answer: Of N objects in one frame.
            given: (N,) bool, objects with a prompt in this frame: their masks stay as they are, and come first.
            nobody: (1, C) the pointer of an object that is not there.
            video: (N,) which video each object is of; None where there is one.
            sight: As `sight` made it; without it nothing is contested or exchanged.
        """
        if not self.exclusive or len(given) < 2:
            return answer
        canvas, hidden = answer.canvas, torch.zeros_like(given)
        if sight is not None and self.contested_iou > 0:
            hidden = sight.outdone(canvas, given, self.contested_iou)
            canvas = torch.where(hidden[:, None, None], ABSENT, canvas)
        if sight is not None and self.exchange_ratio > 0:
            rows = sight.owners(canvas, given, self.exchange_ratio)
            # Hidden objects exchange nothing. What the decoder read stays, which is compared with a teacher's.
            canvas, logits, scores = canvas[rows], answer.logits[rows], answer.scores[rows]
            there, pointers = answer.object_logits[rows], answer.pointers[rows]
            answer = replace(answer, logits=logits, scores=scores, object_logits=there, pointers=pointers)
        area = (canvas > 0).flatten(1).sum(1)
        left = (own_places(canvas, given, video) & (canvas > 0)).flatten(1).sum(1)
        hidden = hidden | (~given & (left < SHRUNK * area))
        canvas = torch.where(hidden[:, None, None], ABSENT, canvas)
        return replace(
            answer,
            canvas=torch.where(own_places(canvas, given, video), canvas, canvas.clamp(max=GIVEN_BIAS)),
            object_logits=torch.where(hidden, answer.object_logits.clamp(max=GIVEN_BIAS), answer.object_logits),
            pointers=torch.where(hidden[:, None], nobody.to(answer.pointers.dtype), answer.pointers),
        )


def own_places(logits: Tensor, given: Tensor, video: Tensor | None = None) -> Tensor:
    """(N, H, W) bool, where no other object of the same video has a larger logit.

    Args:
        logits: (N, H, W) of N objects.
        given: (N,) bool, objects with a prompt in this frame: all places are theirs, and none of another object that
            they are seen in.
        video: As in `TrackRules.settled`.
    """
    claims = torch.where(given[:, None, None] & (logits > 0), torch.inf, logits)
    mine = given[:, None, None].expand_as(logits).clone()
    groups = [slice(None)] if video is None else [(video == each).nonzero()[:, 0] for each in video.unique()]
    for rows in groups:
        some = claims[rows]
        # Of equals the first. Not argmax, which walks a first dimension 20 to 40 times slower on CPU.
        mine[rows] |= some.max(0).indices == torch.arange(len(some), device=logits.device)[:, None, None]
    return mine


PLAIN = TrackRules()
SELECTIVE = TrackRules(select_memory=True, exclusive=True, contested_iou=0.5, exchange_ratio=0.8)
RULES = {"plain": PLAIN, "selective": SELECTIVE}
