"""Distances between the tokens of two text encoders; padding does not count."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity


def text_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the elements of valid tokens, scalar.

    EfficientSAM3 (arXiv 2511.15833) distils its text encoders by it, in the width of the detector.

    Args:
        student: (T, L, C).
        teacher: (T, L, C).
        mask: (T, L) bool, which tokens belong to the phrase.
    """
    _check(student, teacher, mask)
    return (student.float() - teacher.float())[mask].square().mean()


def text_cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """One minus the cosine, mean over valid tokens, scalar; the arguments are those of `text_mse`."""
    _check(student, teacher, mask)
    return 1 - cosine_similarity(student.float(), teacher.float(), dim=-1)[mask].mean()


def _check(student: Tensor, teacher: Tensor, mask: Tensor) -> None:
    """Raise where broadcasting would hide a mistake."""
    if student.shape != teacher.shape or mask.shape != student.shape[:2]:
        raise ValueError(f"tokens {tuple(student.shape)} and {tuple(teacher.shape)}, mask {tuple(mask.shape)}")
