"""What of an answer is remembered, and who gets a place that several objects claim: rules of inference alone.

The library's session knows none of them; the authors' own code of SAM 2 and SAM 3 does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

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
    """

    select_memory: bool = False
    least_score: float = 0.01
    exclusive: bool = False

    @classmethod
    def of(cls, config: Any) -> TrackRules:
        """Those of a tracker's configuration, by the names of SAM 3's and SAM 2's code; without them, none."""
        return cls(
            bool(getattr(config, "use_memory_selection", False)),
            float(getattr(config, "mf_threshold", 0.01)),
            bool(getattr(config, "non_overlap_masks", False)),
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

    def settled(self, answer: TrackedFrame, given: Tensor, nobody: Tensor, video: Tensor | None = None) -> TrackedFrame:
        """The answer after what the objects claim of each other.

        Args:
            answer: Of N objects in one frame.
            given: (N,) bool, objects with a prompt in this frame: their masks stay as they are, and come first.
            nobody: (1, C) the pointer of an object that is not there.
            video: (N,) which video each object is of; None where there is one.
        """
        if not self.exclusive or len(given) < 2:
            return answer
        area = (answer.canvas > 0).flatten(1).sum(1)
        left = (own_places(answer.canvas, given, video) & (answer.canvas > 0)).flatten(1).sum(1)
        hidden = ~given & (left < SHRUNK * area)
        canvas = torch.where(hidden[:, None, None], ABSENT, answer.canvas)
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
        mine[rows] |= some.argmax(0) == torch.arange(len(some), device=logits.device)[:, None, None]
    return mine


PLAIN = TrackRules()
SELECTIVE = TrackRules(select_memory=True, exclusive=True)
RULES = {"plain": PLAIN, "selective": SELECTIVE}
