"""The weights of stage 3's losses, and what their sums are divided by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phd.contract import Detections
from phd.errors import UserError
from phd.outputs import PhraseTargets

TEACHER_TERMS = ("teacher_presence", "teacher_score", "teacher_focal", "teacher_dice")
# A query of the teacher with this final score is an object: SAM 3's threshold at test time (cgF1's protocol).
TEACHER_THRESHOLD = 0.5


@dataclass
class ConceptLosses:
    """Weights of the terms; a term of weight 0 is not computed.

    Unless said otherwise from SAM 3's released training configuration and paper (arXiv 2511.16719, appendix C.4).

    Attributes:
        box_l1: Of the boxes' absolute differences.
        box_giou: Of the boxes' generalised IoU.
        score: Of the queries' scores: 20 in the released configuration; the paper's pre-training has 100.
        presence: Of presence; the term itself is half a cross-entropy.
        mask_focal: Of the matched masks' focal loss.
        mask_dice: Of the matched masks' Dice loss.
        semantic_focal: Of the semantic mask's focal loss; its dense gradient broke the plateau of a toy detector.
        semantic_dice: Of the semantic mask's Dice loss.
        feature_mse: Of the image features' distance to the teacher's; ours, as in stage 2.
        feature_relative_mse: Of the same relative to the teacher's power; ours, as in stage 1.
        teacher_presence: Of presence against the teacher's; ours: the teacher weighs as much as the labels, whose term
            counts half.
        teacher_score: Of the scores against the teacher's; ours, on the scale of `score`.
        teacher_focal: Of the masks against the teacher's; ours: half of what the labels weigh.
        teacher_dice: Likewise.
        auxiliary: Factor of the earlier decoder layers (boxes, scores, presence). Boxes are detached between layers,
            so without it the earlier layers learn no boxes.
        auxiliary_matches: Queries matched to each instance on the earlier layers. More than 1, as in Hybrid Matching
            (arXiv 2207.13080), helps a detector that starts from nothing; SAM 3 has 1, and a one-to-many branch.
        one_to_many: Factor of the one-to-many branch, where the model has one.
        pos_weight: Of matched queries in `score`: 10 in the configuration for Roboflow, 5 in that for ODinW.
        phrase_scaling: Multiply all but the features' terms by the root of the number of phrases in the batch.
    """

    box_l1: float = 5.0
    box_giou: float = 2.0
    score: float = 20.0
    presence: float = 20.0
    mask_focal: float = 200.0
    mask_dice: float = 10.0
    semantic_focal: float = 20.0
    semantic_dice: float = 30.0
    feature_mse: float = 1.0
    feature_relative_mse: float = 0.0
    teacher_presence: float = 10.0
    teacher_score: float = 20.0
    teacher_focal: float = 100.0
    teacher_dice: float = 5.0
    auxiliary: float = 1.0
    auxiliary_matches: int = 1
    one_to_many: float = 2.0
    pos_weight: float = 10.0
    phrase_scaling: bool = True

    def __post_init__(self) -> None:
        low = [name for name, weight in vars(self).items() if weight < 0]
        if low:
            raise UserError(f"model.losses.{low[0]} is {getattr(self, low[0])}; give a weight of at least 0")
        if self.auxiliary_matches < 1:
            raise UserError("model.losses.auxiliary_matches is 0; give at least 1, or set model.losses.auxiliary to 0")

    @property
    def distils(self) -> bool:
        """Whether a term needs a teacher."""
        return max(self.feature_mse, self.feature_relative_mse, self.teacher) > 0

    def draws(self, guided: bool) -> bool:
        """Whether a term compares masks, which are most of a step's cost; `guided` where the teacher's are there."""
        kinds = ("mask", "semantic", *(("teacher",) if guided else ()))
        return any(getattr(self, f"{kind}_{term}") > 0 for kind in kinds for term in ("focal", "dice"))

    @property
    def teacher(self) -> float:
        """The largest weight of a term that needs the teacher's detections."""
        return max(getattr(self, name) for name in TEACHER_TERMS)


@dataclass(frozen=True)
class ConceptNormalisers:
    """What sums are divided by, scalars.

    Attributes:
        instances: For boxes and masks.
        phrases: For scores, and for what the teacher says of presence and scores.
        known: For presence: the phrases of which is known whether they are there.
        shown: For semantic masks: the phrases with instances, all of them annotated.
        teacher_objects: For the teacher's masks.
    """

    instances: Tensor
    phrases: Tensor
    known: Tensor
    shown: Tensor
    teacher_objects: Tensor

    @classmethod
    def of(cls, counts: Tensor, shares: Tensor) -> ConceptNormalisers:
        """From this process's `concept_counts` (5,) and their `joint_shares` (5,).

        Means over the processes, as in DETR (arXiv 2005.12872); a process that counts nothing has no sum to divide.
        """
        means = torch.where(counts > 0, counts / shares.clamp(min=torch.finfo(shares.dtype).tiny), 1.0)
        return cls(*means)


def concept_counts(targets: PhraseTargets, teacher: Detections | None = None) -> Tensor:
    """What this process's sums run over, (5,) in the order of `ConceptNormalisers`."""
    present, exhaustive = targets.present, targets.exhaustive
    objects = present.new_zeros(1) if teacher is None else teacher_objects(teacher)
    sums = (targets.counts, torch.ones_like(present), present | exhaustive, present & exhaustive, objects)
    return torch.stack([part.sum() for part in sums]).float()


def teacher_objects(teacher: Detections) -> Tensor:
    """(P, R) bool, which queries of the teacher are objects."""
    return teacher.scores >= TEACHER_THRESHOLD
