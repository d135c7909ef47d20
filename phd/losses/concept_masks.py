"""Losses of a detector's masks: those of its matched queries, and the one of all instances of a phrase together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from phd.losses.mask import dice_loss, focal_loss


def resized(logits: Tensor, targets: Tensor) -> Tensor:
    """Mask logits at the size of their targets, bilinear, in fp32.

    Args:
        logits: (M, h, w).
        targets: (M, H, W).

    Returns:
        (M, H, W).
    """
    if logits.shape[-2:] == targets.shape[-2:]:
        return logits.float()
    size = (targets.shape[-2], targets.shape[-1])
    return F.interpolate(logits.float()[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def mask_focal_loss(logits: Tensor, targets: Tensor, normaliser: Tensor) -> Tensor:
    """Focal loss (alpha 0.25, gamma 2), mean over pixels, sum over masks (SAM 3, arXiv 2511.16719, appendix C.4).

    Args:
        logits: (M, H, W) of matched queries.
        targets: (M, H, W) in [0, 1].
        normaliser: Scalar, the number of instances.

    Returns:
        Scalar.
    """
    return focal_loss(logits[:, None], targets[:, None]).sum() / normaliser


def mask_dice_loss(logits: Tensor, targets: Tensor, normaliser: Tensor) -> Tensor:
    """Dice loss, sum over masks (SAM 3, arXiv 2511.16719, appendix C.4).

    Args:
        logits: (M, H, W) of matched queries.
        targets: (M, H, W) in [0, 1].
        normaliser: Scalar, the number of instances.

    Returns:
        Scalar.
    """
    return dice_loss(logits[:, None], targets[:, None]).sum() / normaliser


def phrase_masks(masks: Tensor, pair: Tensor, pairs: int) -> Tensor:
    """The union of the instances of each phrase.

    Args:
        masks: (N, H, W) in {0, 1}.
        pair: (N,) phrase of each instance.
        pairs: P.

    Returns:
        (P, H, W) bool.
    """
    union = torch.zeros((pairs, *masks.shape[1:]), device=masks.device)
    return union.index_add_(0, pair, masks.float()) > 0


def semantic_focal_loss(logits: Tensor, targets: Tensor, known: Tensor, normaliser: Tensor) -> Tensor:
    """Focal loss (alpha 0.6, gamma 2) of the semantic mask, mean over pixels.

    As `SemanticSegCriterion` in SAM 3's released training code, where a phrase without instances is left out: presence
    says that it is not there.

    Args:
        logits: (P, H, W).
        targets: (P, H, W) bool.
        known: (P,) bool, the phrases that count.
        normaliser: Scalar, the number of these.

    Returns:
        Scalar.
    """
    loss = focal_loss(logits[:, None], targets[:, None], alpha=0.6).flatten()
    return (loss * known).sum() / normaliser


def semantic_dice_loss(logits: Tensor, targets: Tensor, known: Tensor, normaliser: Tensor) -> Tensor:
    """Dice loss of the semantic mask.

    Args:
        logits: (P, H, W).
        targets: (P, H, W) bool.
        known: (P,) bool, the phrases that count.
        normaliser: Scalar, the number of these.

    Returns:
        Scalar.
    """
    loss = dice_loss(logits[:, None], targets[:, None]).flatten()
    return (loss * known).sum() / normaliser
