"""Mask losses per instance: each returns (P, K), so that a caller may pick the best of K candidates.

All compute in fp32: in bf16 a probability near 1 has steps of 1/256, and a sum over a mask loses its small pixels.
`valid` (P, 1, h, w) bool says which pixels count, all of them by default; padding of a canvas does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, valid: Tensor | None = None
) -> Tensor:
    """Sigmoid focal loss (Lin et al., arXiv 1708.02002, section 3.2), mean over the pixels that count.

    Targets may be soft; the modulating factor is then (p - t)^gamma-like through p_t = p t + (1 - p)(1 - t).

    Args:
        logits: (P, K, h, w).
        targets: (P, 1, h, w) in [0, 1].
        alpha: Weight of the positive pixels; negative for none.
        gamma: Focusing parameter.
        valid: (P, 1, h, w) bool, the pixels that count.

    Returns:
        (P, K).
    """
    logits = logits.float()
    targets = targets.float().expand_as(logits)
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    agreement = probability * targets + (1 - probability) * (1 - targets)
    loss = cross_entropy * (1 - agreement).pow(gamma)
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _mean(loss, valid)


def cross_entropy_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Sigmoid cross-entropy, mean over the pixels that count: what EdgeSAM (arXiv 2312.06660) takes for the focal loss.

    A model that starts from nothing leaves the empty mask sooner than under the focal loss, which forgives it most.

    Args:
        logits: (P, K, h, w).
        targets: (P, 1, h, w) in [0, 1].
        valid: (P, 1, h, w) bool, the pixels that count.

    Returns:
        (P, K).
    """
    logits = logits.float()
    loss = F.binary_cross_entropy_with_logits(logits, targets.float().expand_as(logits), reduction="none")
    return _mean(loss, valid)


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """One minus the Dice coefficient (Milletari et al., arXiv 1606.04797; smoothing as in MaskFormer).

    Args:
        logits: (P, K, h, w).
        targets: (P, 1, h, w) in [0, 1].
        smooth: Added to numerator and denominator, so that empty against empty costs nothing.
        valid: (P, 1, h, w) bool, the pixels that count.

    Returns:
        (P, K) in [0, 1].
    """
    probability, targets = logits.float().sigmoid(), targets.float()
    if valid is not None:
        probability, targets = probability.masked_fill(~valid, 0), targets.masked_fill(~valid, 0)
    probability, targets = probability.flatten(2), targets.flatten(2)
    overlap = (probability * targets).sum(-1)
    total = probability.sum(-1) + targets.sum(-1)
    return 1 - (2 * overlap + smooth) / (total + smooth)


MASK_LOSSES = {"focal": focal_loss, "cross_entropy": cross_entropy_loss, "dice": dice_loss}


def _mean(loss: Tensor, valid: Tensor | None) -> Tensor:
    """Mean (P, K) of a loss (P, K, h, w) over the pixels that count; 0 where none does."""
    if valid is None:
        return loss.flatten(2).mean(-1)
    return loss.masked_fill(~valid, 0).flatten(2).sum(-1) / valid.flatten(2).sum(-1).clamp(min=1)


def hard_iou(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """IoU of the thresholded masks, without gradient; what the IoU head is taught to predict.

    Args:
        logits: (P, K, h, w); foreground where positive.
        targets: (P, 1, h, w) in [0, 1]; foreground above 0.5.
        valid: (P, 1, h, w) bool, the pixels that count.

    Returns:
        (P, K) in [0, 1]; 1 where both are empty.
    """
    with torch.no_grad():
        prediction, truth = logits > 0, targets > 0.5
        if valid is not None:
            prediction, truth = prediction & valid, truth & valid
        prediction, truth = prediction.flatten(2), truth.flatten(2)
        intersection = (prediction & truth).sum(-1).float()
        union = (prediction | truth).sum(-1).float()
        return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def mask_loss(
    logits: Tensor,
    scores: Tensor,
    targets: Tensor,
    weights: Mapping[str, float],
    valid: Tensor | None = None,
) -> dict[str, Tensor]:
    """Mask losses of the candidate that fits best, and the loss of the predicted IoU.

    Only the candidate with the smallest weighted mask loss is taught its mask, and every candidate its IoU
    (SAM, arXiv 2304.02643, appendix A; SAM 2, arXiv 2408.00714, appendix D.2.2, takes an L1 for the IoU).

    Args:
        logits: (P, K, h, w).
        scores: (P, K) predicted IoU.
        targets: (P, 1, h, w) in [0, 1].
        weights: By term, of `MASK_LOSSES` and "iou"; a term without a weight is not computed.
        valid: (P, 1, h, w) bool, the pixels that count.

    Returns:
        Unweighted scalars by term.
    """
    found = {name: loss(logits, targets, valid=valid) for name, loss in MASK_LOSSES.items() if weights.get(name, 0) > 0}
    terms: dict[str, Tensor] = {}
    if found:
        weighted = torch.stack([weights[name] * value for name, value in found.items()]).sum(0)
        best = weighted.argmin(dim=1, keepdim=True)
        terms = {name: value.gather(1, best).mean() for name, value in found.items()}
    if weights.get("iou", 0) > 0:
        terms["iou"] = F.l1_loss(scores.float(), hard_iou(logits, targets, valid))
    return terms
