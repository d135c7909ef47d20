"""What the teacher believes, taught to the student. Ours: SAM 3 and EfficientSAM3 distil no scores.

Labels are hard, so a student that learns from them alone grows overconfident; a teacher's probabilities carry its
calibration (Hinton et al., arXiv 1503.02531). The divergence of "the phrase is there, and this query is an instance"
splits by the chain rule into that of presence and, times the teacher's presence, that of the score given presence:
the two losses below. Both are 0 where student and teacher agree.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from phd.losses.concept_scores import LEAST_QUERIES
from phd.losses.matching import Matches


def bernoulli_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two coins, from the teacher's to the student's, elementwise.

    Its gradient is that of the cross-entropy of the probabilities.

    Args:
        logits: Of the student, any shape.
        teacher: Logits of the teacher, the same shape.

    Returns:
        The same shape, at least 0.
    """
    teacher = teacher.detach().float()
    cross = F.binary_cross_entropy_with_logits(logits.float(), teacher.sigmoid(), reduction="none")
    own = F.binary_cross_entropy_with_logits(teacher, teacher.sigmoid(), reduction="none")
    return cross - own


def teacher_presence_loss(logits: Tensor, teacher: Tensor, normaliser: Tensor) -> Tensor:
    """Divergence of presence, sum over phrases.

    Args:
        logits: (P,) of the student.
        teacher: (P,) of the teacher.
        normaliser: Scalar, the number of phrases.

    Returns:
        Scalar.
    """
    return bernoulli_divergence(logits, teacher).sum() / normaliser


def teacher_score_loss(
    logits: Tensor, teacher: Tensor, teacher_presence: Tensor, matches: Matches, normaliser: Tensor
) -> Tensor:
    """Divergence of the queries' scores, weighed by the probability that the teacher gives the phrase.

    Args:
        logits: (P, Q) of the student.
        teacher: (P, R) of the teacher.
        teacher_presence: (P,) presence logits of the teacher.
        matches: Between the queries of the two (`match_queries`).
        normaliser: Scalar, the number of phrases.

    Returns:
        Scalar.
    """
    divergence = bernoulli_divergence(logits[matches.pair, matches.query], teacher[matches.pair, matches.target])
    weight = teacher_presence.detach().float().sigmoid()[matches.pair]
    return (divergence * weight).sum() / (max(LEAST_QUERIES, logits.shape[1]) * normaliser)
