"""How far what a student makes of a clip is from what the teacher makes of it, as mean squared errors."""

from __future__ import annotations

import torch
from torch import Tensor

from phd.batches import ClipBatch
from phd.contract import Contract, ImageFeatures
from phd.losses.feature import feature_mse
from phd.losses.tracking import memory_feature_mse
from phd.stages.joint import joint_shares
from phd.stages.rollout import Rollout


def distance_terms(
    contract: Contract,
    batch: ClipBatch,
    mine: ImageFeatures,
    theirs: ImageFeatures,
    student: Rollout | None,
    teacher: Rollout | None,
) -> dict[str, Tensor]:
    """Distances of the image features, and of what the memory made of them.

    Args:
        contract: Of both.
        batch: The clips.
        mine: The student's features of all frames.
        theirs: The teacher's.
        student: The student's rollout; None where the batch has no object.
        teacher: The teacher's, by the same plan.

    Returns:
        Unweighted scalars by term.
    """
    content = batch.content.repeat_interleave(batch.frames.shape[1], dim=0)
    levels = [
        feature_mse(ours, reference, contract.content_mask(content, ours.shape[-1]))
        for ours, reference in zip(mine.tracker, theirs.tracker, strict=True)
    ]
    memory, count = mine.tracker[-1].new_zeros(()), 0
    if student is not None and teacher is not None and len(student.final) > 1:
        read = student.remembered
        memory = memory_feature_mse(read.flatten(0, 1), teacher.remembered.flatten(0, 1))
        count = read.shape[0] * read.shape[1]
    share = joint_shares(memory.new_tensor(float(count)))
    return {"feature_mse": torch.stack(levels).mean(), "memory_mse": share * memory}
