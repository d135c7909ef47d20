"""Losses of a tracked clip (SAM 2, arXiv 2408.00714, appendix D.2.2): masks, and whether there is an object.

All means run over the rows that count, so that a weight means the same at every length of clip and number of objects.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from phd.losses.mask import mask_loss


def object_score_loss(object_logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of whether the object is there, mean over rows; a scalar.

    Args:
        object_logits: (P,).
        present: (P,) bool.
    """
    return F.binary_cross_entropy_with_logits(object_logits.float(), present.float())


def tracking_loss(
    logits: Tensor,
    scores: Tensor,
    object_logits: Tensor,
    target: Tensor,
    void: Tensor,
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """Losses of P rows, each an object in a frame.

    Masks and their predicted IoU are taught where the object is there; its score is taught everywhere.

    Args:
        logits: (P, K, m, m) of K candidates, of which the best is taught its mask.
        scores: (P, K) predicted IoU.
        object_logits: (P,) whether the object is there.
        target: (P, m, m) in {0, 1}; empty where the object is not there.
        void: (P, m, m) bool, cells that count neither way.
        weights: By term, of `phd.losses.mask.MASK_LOSSES`, "iou" and "object_score"; without a weight nothing is
            computed.

    Returns:
        Unweighted scalars by term; the mask terms are 0 where no row shows an object.
    """
    target = target.float().masked_fill(void, 0.0)
    present = target.flatten(1).any(1)
    terms: dict[str, Tensor] = {}
    mask_weights = {name: weight for name, weight in weights.items() if name != "object_score" and weight > 0}
    if mask_weights:
        seen, valid = logits[present], ~void[present].unsqueeze(1)
        if len(seen):
            terms |= mask_loss(seen, scores[present], target[present].unsqueeze(1), mask_weights, valid)
        else:
            nothing = 0.0 * (logits.sum() + scores.sum())
            terms |= dict.fromkeys(mask_weights, nothing)
    if weights.get("object_score", 0) > 0:
        terms["object_score"] = object_score_loss(object_logits, present)
    return terms


def memory_feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of the memory-conditioned features (EdgeTAM, arXiv 2501.07256, section 3.3); a scalar.

    Args:
        student: (P, C, h, w).
        teacher: (P, C, h, w), of the same objects and frames.
    """
    return torch.mean((student.float() - teacher.float()) ** 2)
