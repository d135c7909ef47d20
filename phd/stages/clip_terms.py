"""The loss terms of a clip: every decoded answer against the masks that supervise it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from phd.errors import UserError
from phd.losses.tracking import tracking_loss
from phd.stages.clip_objects import ClipObjects
from phd.stages.joint import joint_shares
from phd.stages.rollout import Answer, Rollout

Supervision = Literal["teacher", "ground_truth", "both"]
TRACKING_TERMS = ("focal", "cross_entropy", "dice", "iou", "object_score")


@dataclass
class TrackingLosses:
    """Weights of the terms (SAM 2, arXiv 2408.00714, appendix D.2.2; EdgeTAM, arXiv 2501.07256, section 3.3).

    Attributes:
        focal: Of the sigmoid focal loss.
        cross_entropy: Of the sigmoid cross-entropy.
        dice: Of the Dice loss.
        iou: Of the L1 loss of the predicted IoU.
        object_score: Of the cross-entropy of whether the object is there.
        feature_mse: Of the image features' distance to the teacher's; constant, since the image encoder is frozen.
        memory_mse: Of the memory-conditioned features' distance to the teacher's.
    """

    focal: float = 20.0
    cross_entropy: float = 0.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0
    feature_mse: float = 1.0
    memory_mse: float = 1.0

    def __post_init__(self) -> None:
        low = [name for name, weight in vars(self).items() if weight < 0]
        if low:
            raise UserError(f"model.losses.{low[0]} is {getattr(self, low[0])}; give a weight of at least 0")

    @property
    def distils(self) -> bool:
        """Whether a term needs a teacher."""
        return max(self.feature_mse, self.memory_mse) > 0

    def tracking(self) -> dict[str, float]:
        """Weights of the masks and scores, by term, where they are more than 0."""
        return {name: getattr(self, name) for name in TRACKING_TERMS if getattr(self, name) > 0}


def supervising(supervision: Supervision, objects: ClipObjects, teacher: Rollout | None) -> list[ClipObjects]:
    """The masks that supervise: the teacher's binarised last answers, which know every frame, and the ground truth.

    Without a teacher it is the ground truth alone.
    """
    found: list[ClipObjects] = []
    if supervision != "teacher" or teacher is None:
        found.append(objects)
    if supervision != "ground_truth" and teacher is not None:
        target = (teacher.masks > 0).to(objects.target.dtype)
        found.append(replace(objects, target=target, labelled=torch.ones_like(objects.labelled)))
    return found


def tracking_terms(
    rollout: Rollout | None, references: Sequence[ClipObjects], weights: Mapping[str, float], like: Tensor
) -> dict[str, Tensor]:
    """Means over all rows that count, a row being an object in a decoded answer, those of other processes included.

    Args:
        rollout: Of the student; None where the batch has no object. Every process has to call this all the same.
        references: What supervises.
        weights: By term, more than 0.
        like: Gives device and type of a zero.

    Returns:
        Unweighted scalars by term.
    """
    parts: list[tuple[dict[str, Tensor], Tensor]] = []
    if rollout is not None:
        groups = _by_candidates(rollout)
        parts = [_group_terms(group, reference, weights) for group in groups for reference in references]
    counts = torch.stack([count for _, count in parts]) if parts else like.new_zeros(1, 2)
    total = counts.sum(0)
    # Rows that show an object teach masks and their IoU; all rows teach whether there is one.
    shares = joint_shares(total) / total.clamp(min=1)
    sums = {name: like.new_zeros(()) for name in weights}
    for terms, count in parts:
        for name, value in terms.items():
            kind = int(name == "object_score")
            sums[name] = sums[name] + shares[kind] * count[kind] * value
    return sums


def _by_candidates(rollout: Rollout) -> list[list[Answer]]:
    """The decoded answers in groups with the same number of candidates."""
    groups: dict[int, list[Answer]] = {}
    for answer in rollout.answers:
        if answer.decoded:
            groups.setdefault(answer.tracked.scores.shape[1], []).append(answer)
    return list(groups.values())


def _group_terms(
    answers: list[Answer], reference: ClipObjects, weights: Mapping[str, float]
) -> tuple[dict[str, Tensor], Tensor]:
    """Terms of a group, and the numbers of rows that they are means over: those with an object, and all (2,)."""
    frames = [answer.frame for answer in answers]
    rows = reference.labelled[frames].flatten()
    target, void = reference.target[frames].flatten(0, 1)[rows], reference.void[frames].flatten(0, 1)[rows]
    tracked = [answer.tracked for answer in answers]
    logits = torch.cat([answer.logits for answer in tracked])[rows]
    scores = torch.cat([answer.scores for answer in tracked])[rows]
    object_logits = torch.cat([answer.object_logits for answer in tracked])[rows]
    present = target.masked_fill(void, 0).flatten(1).any(1)
    counts = torch.stack([present.sum(), rows.sum()]).to(target.dtype)
    if not len(target):
        return {}, counts
    return tracking_loss(logits, scores, object_logits, target, void, weights), counts
