"""Which queries answer for which instances: one to one, one to many, and the queries of two models.

Instances are packed: those of phrase 0 first. A phrase without instances has no match.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from phd.losses.concept_boxes import box_overlap

# Costs of SAM 3's released training configuration, those of Deformable DETR (arXiv 2010.04159).
SCORE_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0


class Matches(NamedTuple):
    """M matches.

    Attributes:
        pair: (M,) which of the P (image, phrase) pairs.
        query: (M,) which of its Q queries.
        target: (M,) which of the N packed instances, or of the other model's queries.
    """

    pair: Tensor
    query: Tensor
    target: Tensor


@torch.no_grad()
def hungarian_match(logits: Tensor, boxes: Tensor, target_boxes: Tensor, counts: Tensor, repeats: int = 1) -> Matches:
    """The cheapest assignment of queries to instances, each query to one at most (DETR, arXiv 2005.12872, section 3.1).

    The cost of a score is its focal loss as a positive less that as a negative (Deformable DETR, arXiv 2010.04159).

    Args:
        logits: (P, Q).
        boxes: (P, Q, 4) cx cy w h in [0, 1].
        target_boxes: (N, 4) likewise.
        counts: (P,) instances of each phrase, N in all.
        repeats: Queries for each instance, as far as there are queries (Hybrid Matching, arXiv 2207.13080).

    Returns:
        Matches by pair, in the order of the instances, once for each repeat. With more instances than queries, some
        have none.
    """
    pair = torch.repeat_interleave(counts)
    scores = logits.float()
    positive = 0.25 * (1 - scores.sigmoid()) ** 2 * -F.logsigmoid(scores)
    negative = 0.75 * scores.sigmoid() ** 2 * -F.logsigmoid(-scores)
    distance = (boxes.float()[pair] - target_boxes.float()[:, None]).abs().sum(-1)
    giou = box_overlap(boxes[pair], target_boxes[:, None])[1]
    cost = L1_COST * distance - GIOU_COST * giou + SCORE_COST * (positive - negative)[pair]
    found, first = [], 0
    host = cost.cpu().numpy()
    for index, count in enumerate(counts.tolist()):
        rows, columns = linear_sum_assignment(np.tile(host[first : first + count], (repeats, 1)))
        found.append(np.stack([np.full(len(rows), index), columns, first + rows % max(count, 1)]))
        first += count
    return _on(found, logits.device)


@torch.no_grad()
def one_to_many_match(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    counts: Tensor,
    score_share: float = 0.3,
    threshold: float = 0.4,
    top: int = 4,
) -> Matches:
    """Every good query of every instance (DAC-DETR, Hu et al., NeurIPS 2023, set as in SAM 3).

    A query is good for an instance where `score_share` of its probability and the rest of its IoU come to more than
    `threshold`, and to more than the quantile that leaves `top` queries. It may serve several instances.

    Args:
        logits: (P, Q).
        boxes: (P, Q, 4) cx cy w h in [0, 1].
        target_boxes: (N, 4) likewise.
        counts: (P,) instances of each phrase, N in all.
        score_share: Of the probability; the IoU has the rest.
        threshold: In [0, 1].
        top: Queries that an instance may have.

    Returns:
        Matches in the order of the pairs, then of the queries.
    """
    pair = torch.repeat_interleave(counts)
    queries = logits.shape[1]
    iou = box_overlap(boxes[pair], target_boxes[:, None])[0]
    quality = score_share * logits.float().sigmoid()[pair] + (1 - score_share) * iou
    if not len(quality):
        return Matches(pair, pair.clone(), pair.clone())
    least = torch.quantile(quality, max(0.0, 1 - top / queries), dim=1, keepdim=True)
    target, query = torch.nonzero((quality > least) & (quality > threshold), as_tuple=True)
    order = torch.argsort(pair[target] * queries + query, stable=True)
    return Matches(pair[target][order], query[order], target[order])


@torch.no_grad()
def match_queries(logits: Tensor, boxes: Tensor, other_logits: Tensor, other_boxes: Tensor) -> Matches:
    """The cheapest assignment between the queries of two models: a detector answers with a set, not with a list.

    Identical models are matched query by query. DETRDistill (arXiv 2211.10156) matches teacher and student so too.

    Args:
        logits: (P, Q).
        boxes: (P, Q, 4) cx cy w h in [0, 1].
        other_logits: (P, R) of the other model.
        other_boxes: (P, R, 4).

    Returns:
        min(Q, R) matches for each pair; `target` is the other model's query.
    """
    distance = torch.cdist(boxes.float(), other_boxes.float(), p=1)
    giou = box_overlap(boxes[:, :, None], other_boxes[:, None])[1]
    difference = torch.cdist(logits.float().sigmoid()[..., None], other_logits.float().sigmoid()[..., None], p=1)
    cost = L1_COST * distance - GIOU_COST * giou + SCORE_COST * difference
    found = []
    for index, matrix in enumerate(cost.cpu().numpy()):
        rows, columns = linear_sum_assignment(matrix)
        found.append(np.stack([np.full(len(rows), index), rows, columns]))
    return _on(found, logits.device)


def _on(found: list[np.ndarray], device: torch.device) -> Matches:
    """The matches of all pairs, each (3, m), as tensors."""
    table = np.concatenate(found, axis=1) if found else np.zeros((3, 0))
    return Matches(*torch.from_numpy(table.astype(np.int64)).to(device))
