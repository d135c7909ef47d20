"""Losses of what a detector believes: the score of each query, and whether the phrase is there at all.

At test time the two are multiplied, so a query is taught its score given that the phrase is there: a phrase without
instances teaches no score, and presence alone (SAM 3, arXiv 2511.16719; its table 9 tries others).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from phd.losses.matching import Matches

# A detector with fewer queries is averaged as if it had SAM 3's, the others being rightly silent.
LEAST_QUERIES = 200
LEAST_TARGET = 0.01


def score_loss(
    logits: Tensor,
    iou: Tensor,
    matches: Matches,
    present: Tensor,
    exhaustive: Tensor,
    normaliser: Tensor,
    pos_weight: float = 10.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Cross-entropy of the queries' scores against how well their boxes fit.

    A matched query is taught p^alpha IoU^(1 - alpha), as in Align-DETR (arXiv 2304.07527), any
    other 0, weighed by p^gamma, through which the gradient runs too (`IABCEMdetr` of SAM 3's released training code).
    Of a query that is matched to several instances the last one counts.

    Args:
        logits: (P, Q).
        iou: (M,) IoU of the matched boxes; takes no gradient.
        matches: M matches.
        present: (P,) bool, whether the phrase has an instance; where not, it teaches nothing here.
        exhaustive: (P,) bool; where not, an unmatched query may be right, and is taught nothing.
        normaliser: Scalar, the number of phrases.
        pos_weight: Of matched queries.
        alpha: Share of the score in the target.
        gamma: Focus on unmatched queries with high scores.

    Returns:
        Scalar.
    """
    logits = logits.float()
    probability = logits.sigmoid()
    with torch.no_grad():
        rows, last = _last_of_each_query(matches, logits.shape[1])
        fit = probability.flatten()[rows] ** alpha * iou.float()[last] ** (1 - alpha)
        target = torch.zeros_like(logits).flatten()
        target[rows] = fit.clamp(min=LEAST_TARGET)
        target = target.view_as(logits)
        matched = target > 0
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.where(matched, pos_weight, probability**gamma * exhaustive[:, None])
    total = (entropy * weight * present[:, None]).sum()
    return total / (max(LEAST_QUERIES, logits.shape[1]) * normaliser)


def _last_of_each_query(matches: Matches, queries: int) -> tuple[Tensor, Tensor]:
    """Flat index of each query that is matched, and its last match; deterministic on every device."""
    flat = matches.pair * queries + matches.query
    rows, order = torch.sort(flat, stable=True)
    last = torch.ones_like(rows, dtype=torch.bool)
    last[:-1] = rows[1:] != rows[:-1]
    return rows[last], order[last]


def presence_loss(logits: Tensor, present: Tensor, known: Tensor, normaliser: Tensor) -> Tensor:
    """Half the cross-entropy of whether the phrase is there: SAM 3's focal loss with alpha 0.5 and gamma 0.

    Args:
        logits: (P,).
        present: (P,) bool.
        known: (P,) bool; a phrase without instances whose annotation is not exhaustive proves nothing.
        normaliser: Scalar, the number of phrases of which it is known.

    Returns:
        Scalar.
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), present.float(), reduction="none")
    return 0.5 * (entropy * known).sum() / normaliser
