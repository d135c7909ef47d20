"""Prompt-in-the-loop: teacher and student decode the same prompts, then corrective points where they disagree.

After EdgeSAM (arXiv 2312.06660, section 3.3, algorithm 1); `docs/stage1.md` lists the differences, of which the largest
is that the student's mask of the round before is fed back to both, as SAM does in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from phd.contract import ImageFeatures, Masks, Prompts
from phd.losses.mask import hard_iou, mask_loss
from phd.prompts import corrective_points, points_to_pixels
from phd.segmenter import Segmenter

Supervision = Literal["teacher", "ground_truth", "both"]

# A logit that says background for certain: on the padding of SAM 1's canvas there is nothing.
OUTSIDE = -30.0


@dataclass
class MaskWeights:
    """Weights of the mask terms; with all of them 0 the loop is not run.

    Attributes:
        focal: Of the sigmoid focal loss.
        cross_entropy: Of the sigmoid cross-entropy.
        dice: Of the Dice loss.
        iou: Of the L1 loss of the predicted IoU.
    """

    focal: float = 0.0
    cross_entropy: float = 0.0
    dice: float = 0.0
    iou: float = 0.0

    def mask_weights(self) -> dict[str, float]:
        """The weights by term."""
        return {name: getattr(self, name) for name in ("focal", "cross_entropy", "dice", "iou")}


@dataclass
class Side:
    """A model and what it encoded."""

    model: Segmenter
    features: ImageFeatures


@dataclass
class Rounds:
    """What the loop returns.

    Attributes:
        terms: Unweighted mask terms, means over rounds and sources of supervision.
        student: (P, m, m) best mask logits of the last round.
        teacher: (P, m, m) the same of the teacher, or None.
    """

    terms: dict[str, Tensor]
    student: Tensor
    teacher: Tensor | None


def run_rounds(
    student: Side,
    teacher: Side | None,
    prompts: Prompts,
    target: Tensor,
    *,
    valid: Tensor,
    supervision: Supervision,
    weights: MaskWeights,
    rounds: int,
    generator: torch.Generator,
) -> Rounds:
    """Decode, compare, correct; R + 1 decodings for R rounds.

    Args:
        student: The trained model.
        teacher: The reference, or None where only ground truth supervises.
        prompts: P prompts of one kind.
        target: (P, g, g) ground-truth masks in {0, 1}; where g is more than the decoder's m, its logits are enlarged.
        valid: (P, g, g) bool, the cells on image content.
        supervision: Whose masks the student is compared with.
        weights: Of the mask terms.
        rounds: R.
        generator: Draws the corrective points.
    """
    collected: dict[str, list[Tensor]] = {}
    contract = student.model.contract
    size, image_size = target.shape[-1], contract.image_size
    outside = ~valid.unsqueeze(1)
    unseen = on_grid(valid.float().unsqueeze(1), contract.mask_size).squeeze(1) < 0.5
    if prompts.masks is not None:
        prompts = replace(prompts, masks=on_grid(prompts.masks, contract.mask_size))
    for number in range(rounds + 1):
        mine = student.model.segment(student.features, prompts)
        fed_back = mine.best()[0].detach().masked_fill(unseen, OUTSIDE)
        mine = replace(mine, logits=on_grid(mine.logits, size).masked_fill(outside, OUTSIDE))
        theirs = None
        if teacher is not None:
            with torch.no_grad():
                theirs = teacher.model.segment(teacher.features, prompts)
            theirs = replace(theirs, logits=on_grid(theirs.logits, size).masked_fill(outside, OUTSIDE))
        for compare in _comparisons(supervision, mine, theirs, target, outside, weights):
            for name, value in compare().items():
                collected.setdefault(name, []).append(value)
        best, _ = mine.best()
        reference = target - 0.5 if theirs is None or supervision == "ground_truth" else theirs.best()[0]
        if number < rounds:
            prompts = _corrected(prompts, best.detach(), reference, fed_back, valid, size, image_size, generator)
    terms = {name: torch.stack(values).mean() for name, values in collected.items()}
    return Rounds(terms, best, None if theirs is None else theirs.best()[0])


def on_grid(logits: Tensor, size: int) -> Tensor:
    """Logits (P, K, m, m) on a grid of another size, bilinearly."""
    if logits.shape[-1] == size:
        return logits
    return functional.interpolate(logits.float(), (size, size), mode="bilinear", align_corners=False)


def _comparisons(
    supervision: Supervision,
    mine: Masks,
    theirs: Masks | None,
    target: Tensor,
    outside: Tensor,
    weights: MaskWeights,
) -> list[Callable[[], dict[str, Tensor]]]:
    comparisons: list[Callable[[], dict[str, Tensor]]] = []
    if supervision != "ground_truth" and theirs is not None:
        comparisons.append(lambda: distillation_terms(mine, theirs, outside, weights))
    if supervision != "teacher":
        truth = target.unsqueeze(1).float()
        comparisons.append(lambda: mask_loss(mine.logits, mine.scores, truth, weights.mask_weights(), ~outside))
    return comparisons


def distillation_terms(mine: Masks, theirs: Masks, outside: Tensor, weights: MaskWeights) -> dict[str, Tensor]:
    """Mask terms against the teacher's binarised masks, candidate by candidate, and its scores.

    The heads are inherited, so candidate k of the student is the same whole, part or subpart as the teacher's. The IoU
    head learns the teacher's score where the two masks agree and less where they do not.

    Args:
        mine: The student's answer.
        theirs: The teacher's answer to the same prompts.
        outside: (P, 1, m, m) bool, the cells on padding.
        weights: A term without a weight is not computed.
    """
    count = mine.logits.shape[1]
    targets = (theirs.logits > 0).float()
    flat_mine = mine.logits.flatten(0, 1).unsqueeze(1)
    flat_targets = targets.flatten(0, 1).unsqueeze(1)
    scores = mine.scores.flatten(0, 1).unsqueeze(1)
    valid = (~outside).expand(-1, count, -1, -1).flatten(0, 1).unsqueeze(1)
    terms = mask_loss(flat_mine, scores, flat_targets, {**weights.mask_weights(), "iou": 0.0}, valid)
    if weights.iou > 0:
        agreement = hard_iou(flat_mine, flat_targets, valid).view(-1, count)
        terms["iou"] = (mine.scores.float() - theirs.scores.float().clamp(0, 1) * agreement).abs().mean()
    return terms


def _corrected(
    prompts: Prompts,
    mine: Tensor,
    reference: Tensor,
    fed_back: Tensor,
    valid: Tensor,
    size: int,
    image_size: int,
    generator: torch.Generator,
) -> Prompts:
    """The prompts with one corrective point more, and the student's mask fed back."""
    points, labels = corrective_points(mine, reference, generator, valid)
    points = points_to_pixels(points, size, image_size)
    if prompts.points is not None and prompts.labels is not None:
        points = torch.cat([prompts.points, points], dim=1)
        labels = torch.cat([prompts.labels, labels], dim=1)
    return replace(prompts, points=points, labels=labels, masks=fed_back.unsqueeze(1))
