"""The loss terms of a detector: its last layer, its earlier layers, its one-to-many branch, and its teacher."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phd.batches import ConceptBatch
from phd.contract import Detections
from phd.losses.concept_boxes import box_giou_loss, box_l1_loss, box_overlap
from phd.losses.concept_masks import (
    mask_dice_loss,
    mask_focal_loss,
    phrase_masks,
    resized,
    semantic_dice_loss,
    semantic_focal_loss,
)
from phd.losses.concept_scores import presence_loss, score_loss
from phd.losses.concept_teacher import teacher_presence_loss, teacher_score_loss
from phd.losses.matching import Matches, hungarian_match, match_queries, one_to_many_match
from phd.outputs import PhraseTargets
from phd.stages.concept_losses import ConceptLosses, ConceptNormalisers, teacher_objects

AUXILIARY, ONE_TO_MANY = "_auxiliary", "_one_to_many"


def phrase_targets(batch: ConceptBatch, image_size: int) -> PhraseTargets:
    """The targets of a batch; boxes from edges in contract pixels to centre and size in [0, 1]."""
    low, high = batch.boxes[:, :2] / image_size, batch.boxes[:, 2:] / image_size
    return PhraseTargets(
        counts=torch.bincount(batch.phrase_index, minlength=len(batch.image_index)),
        exhaustive=batch.exhaustive,
        boxes=torch.cat([(low + high) / 2, high - low], dim=1),
        masks=batch.masks,
    )


def concept_terms(
    outputs: Detections,
    targets: PhraseTargets,
    losses: ConceptLosses,
    normalisers: ConceptNormalisers,
    teacher: Detections | None = None,
) -> dict[str, Tensor]:
    """All terms of a batch.

    Args:
        outputs: Of the trained model.
        targets: Of the same P pairs.
        losses: Weights; what has none is not computed.
        normalisers: Of the joint batch.
        teacher: What the teacher answers to the same pairs, or None.

    Returns:
        Unweighted scalars by term. The sums over the earlier layers end in `_auxiliary`, those of the one-to-many
        branch in `_one_to_many`, those of both in `_one_to_many_auxiliary`.
    """
    matches = hungarian_match(outputs.logits, outputs.boxes, targets.boxes, targets.counts)
    terms = _layer_terms(outputs, matches, targets, losses, normalisers)
    terms |= _auxiliary_terms(outputs, targets, losses, normalisers, "")
    if outputs.one_to_many is not None and losses.one_to_many > 0:
        branch = outputs.one_to_many
        many = one_to_many_match(branch.logits, branch.boxes, targets.boxes, targets.counts)
        found = _layer_terms(branch, many, targets, losses, normalisers)
        terms |= {name + ONE_TO_MANY: value for name, value in found.items()}
        terms |= _auxiliary_terms(branch, targets, losses, normalisers, ONE_TO_MANY)
    terms |= _semantic_terms(outputs, targets, losses, normalisers)
    if teacher is not None and losses.teacher > 0:
        terms |= _teacher_terms(outputs, teacher, losses, normalisers)
    return terms


def concept_loss(terms: dict[str, Tensor], losses: ConceptLosses, normalisers: ConceptNormalisers) -> Tensor:
    """The weighted sum of `concept_terms`, a scalar."""
    total = normalisers.phrases.new_zeros(())
    for name, value in terms.items():
        base, weight = name, 1.0
        if base.endswith(AUXILIARY):
            base, weight = base.removesuffix(AUXILIARY), weight * losses.auxiliary
        if base.endswith(ONE_TO_MANY):
            base, weight = base.removesuffix(ONE_TO_MANY), weight * losses.one_to_many
        total = total + weight * getattr(losses, base) * value
    return total * normalisers.phrases.sqrt() if losses.phrase_scaling else total


def _layer_terms(
    layer: Detections, matches: Matches, targets: PhraseTargets, losses: ConceptLosses, normalisers: ConceptNormalisers
) -> dict[str, Tensor]:
    """Boxes, scores, presence and masks of one layer."""
    terms: dict[str, Tensor] = {}
    boxes, matched = layer.boxes[matches.pair, matches.query], targets.boxes[matches.target]
    if losses.box_l1 > 0:
        terms["box_l1"] = box_l1_loss(boxes, matched, normalisers.instances)
    if losses.box_giou > 0:
        terms["box_giou"] = box_giou_loss(boxes, matched, normalisers.instances)
    if losses.score > 0:
        terms["score"] = score_loss(
            layer.logits,
            box_overlap(boxes, matched)[0],
            matches,
            targets.present,
            targets.exhaustive,
            normalisers.phrases,
            losses.pos_weight,
        )
    if losses.presence > 0 and layer.presence is not None:
        known = targets.present | targets.exhaustive
        terms["presence"] = presence_loss(layer.presence, targets.present, known, normalisers.known)
    return terms | _mask_terms(layer, matches, targets, losses, normalisers)


def _mask_terms(
    layer: Detections, matches: Matches, targets: PhraseTargets, losses: ConceptLosses, normalisers: ConceptNormalisers
) -> dict[str, Tensor]:
    if targets.masks is None or layer.masks is None or max(losses.mask_focal, losses.mask_dice) == 0:
        return {}
    if targets.mask_valid is not None:
        valid = targets.mask_valid[matches.target]
        matches = Matches(*(part[valid] for part in matches))
    logits, truth = layer.masks_at(matches.pair, matches.query), targets.masks[matches.target]
    weights = {"mask_focal": losses.mask_focal, "mask_dice": losses.mask_dice}
    return _focal_and_dice(logits, truth, weights, normalisers.instances)


def _focal_and_dice(logits: Tensor, truth: Tensor, weights: dict[str, float], normaliser: Tensor) -> dict[str, Tensor]:
    """The focal and the Dice loss under the names of their weights, in this order."""
    logits = resized(logits, truth)
    pairs = zip(weights, (mask_focal_loss, mask_dice_loss), strict=True)
    return {name: loss(logits, truth, normaliser) for name, loss in pairs if weights[name] > 0}


def _auxiliary_terms(
    outputs: Detections, targets: PhraseTargets, losses: ConceptLosses, normalisers: ConceptNormalisers, branch: str
) -> dict[str, Tensor]:
    """Sums over the earlier layers; SAM 3 matches them one to one in the one-to-many branch too."""
    sums: dict[str, Tensor] = {}
    if losses.auxiliary == 0:
        return sums
    repeats = losses.auxiliary_matches
    shared = replace(normalisers, instances=normalisers.instances * repeats)
    for layer in outputs.auxiliary:
        matches = hungarian_match(layer.logits, layer.boxes, targets.boxes, targets.counts, repeats)
        for name, value in _layer_terms(layer, matches, targets, losses, shared).items():
            key = name + branch + AUXILIARY
            sums[key] = sums[key] + value if key in sums else value
    return sums


def _semantic_terms(
    outputs: Detections, targets: PhraseTargets, losses: ConceptLosses, normalisers: ConceptNormalisers
) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    if outputs.semantic is None or targets.masks is None or max(losses.semantic_focal, losses.semantic_dice) == 0:
        return terms
    union = phrase_masks(targets.masks, targets.pair, len(targets))
    logits, known = resized(outputs.semantic[:, 0], union), targets.present & targets.exhaustive
    if losses.semantic_focal > 0:
        terms["semantic_focal"] = semantic_focal_loss(logits, union, known, normalisers.shown)
    if losses.semantic_dice > 0:
        terms["semantic_dice"] = semantic_dice_loss(logits, union, known, normalisers.shown)
    return terms


def _teacher_terms(
    outputs: Detections, teacher: Detections, losses: ConceptLosses, normalisers: ConceptNormalisers
) -> dict[str, Tensor]:
    """What the teacher believes; its masks are taught to the queries that answer for its objects."""
    terms: dict[str, Tensor] = {}
    assert outputs.presence is not None
    assert teacher.presence is not None
    matches = match_queries(outputs.logits, outputs.boxes, teacher.logits, teacher.boxes)
    if losses.teacher_presence > 0:
        terms["teacher_presence"] = teacher_presence_loss(outputs.presence, teacher.presence, normalisers.phrases)
    if losses.teacher_score > 0:
        terms["teacher_score"] = teacher_score_loss(
            outputs.logits, teacher.logits, teacher.presence, matches, normalisers.phrases
        )
    weights = {"teacher_focal": losses.teacher_focal, "teacher_dice": losses.teacher_dice}
    if outputs.masks is not None and teacher.masks is not None and max(weights.values()) > 0:
        objects = teacher_objects(teacher)[matches.pair, matches.target]
        pair, query, other = (part[objects] for part in matches)
        truth = teacher.masks_at(pair, other).detach() > 0
        terms |= _focal_and_dice(outputs.masks_at(pair, query), truth, weights, normalisers.teacher_objects)
    return terms
