"""Which detection of a frame belongs to which masklet: pure functions of masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phd.video_concepts.detections import FrameDetections
from phd.video_concepts.settings import ConceptTrackSettings


@dataclass(frozen=True)
class Association:
    """Detections and masklets of one frame, by their places.

    Attributes:
        new: Detections that begin a masklet, the best first.
        matched: Of each detection the masklets that it belongs to; there may be several.
        unconfirmed: Masklets that are seen but that no detection confirms.
        vouched: Masklet -> detection that is good enough to prompt it anew.
    """

    new: list[int]
    matched: list[list[int]]
    unconfirmed: list[int]
    vouched: dict[int, int]


def mask_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU (N, M) of masks (N, m, m) and (M, m, m) bool; an empty one overlaps nothing."""
    mine, theirs = one.flatten(1).float(), other.flatten(1).float()
    common = mine @ theirs.T
    return common / (mine.sum(1)[:, None] + theirs.sum(1)[None] - common).clamp(min=1)


def associate(found: FrameDetections, masks: Tensor, phrase: Tensor, settings: ConceptTrackSettings) -> Association:
    """Compare detections with what was tracked into the frame; both only with their own phrase.

    Unlike in the library, `new_threshold` also holds while nothing is tracked.

    Args:
        found: K detections.
        masks: (N, m, m) bool, of the masklets in this frame; empty where one is not seen.
        phrase: (N,) of the masklets.
        settings: The thresholds.
    """
    overlap = mask_iou(found.logits > 0, masks) * (found.phrase[:, None] == phrase[None])
    belongs = overlap >= settings.match_iou
    begins = (found.scores >= settings.new_threshold) & ~belongs.any(1)
    seen = masks.flatten(1).any(1)
    confirmed = (overlap >= settings.confirm_iou).any(0)
    vouched: dict[int, int] = {}
    if len(masks):
        best, row = overlap.max(1)
        good = (found.scores >= settings.reprompt_score) & (best >= settings.reprompt_iou)
        # Of several good detections of a masklet the one that covers it best.
        for place in sorted(good.nonzero()[:, 0].tolist(), key=lambda place: float(best[place])):
            vouched[int(row[place])] = place
    new = begins.nonzero()[:, 0]
    return Association(
        new=new[found.scores[new].argsort(descending=True, stable=True)].tolist(),
        matched=[row.nonzero()[:, 0].tolist() for row in belongs],
        unconfirmed=(seen & ~confirmed).nonzero()[:, 0].tolist(),
        vouched=vouched,
    )


def hidden_by_overlap(masks: Tensor, phrase: Tensor, last_hidden: Tensor, limit: float) -> Tensor:
    """Which masklets (N,) bool to hide, since they lie on another one of their phrase that was seen for longer.

    Two masklets often lie on one object after an occlusion, when one of them took the other's place. The one that was
    hidden last goes, if both were hidden before.

    Args:
        masks: (N, m, m) bool.
        phrase: (N,).
        last_hidden: (N,) latest frame in which each was not seen; -1 for none.
        limit: From this IoU on.
    """
    pairs = (mask_iou(masks, masks) >= limit) & (phrase[:, None] == phrase[None])
    pairs &= ~torch.eye(len(masks), dtype=torch.bool, device=masks.device)
    later = (last_hidden[:, None] > last_hidden[None]) & (last_hidden[None] > -1)
    return (pairs & later).any(1)
