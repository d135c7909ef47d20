"""HOTA of tracks, with sum states."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

# Localisation thresholds alpha; the final numbers are means over them.
ALPHAS: np.ndarray = np.arange(0.05, 0.99, 0.05)
_TINY = float(np.finfo(float).eps)


class HOTA(Metric):
    """Higher order tracking accuracy and its parts.

    Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking" (IJCV 2021, arXiv 2009.07736,
    section 4), summed over sequences before the division, as the published TrackEval does. Names are the paper's;
    OWTA is that of Liu et al., "Opening up Open-World Tracking" (CVPR 2022), with recall in place of accuracy.
    """

    higher_is_better: ClassVar[bool] = True
    is_differentiable: ClassVar[bool] = False
    full_state_update: ClassVar[bool] = False
    true_positives: Tensor
    num_targets: Tensor
    num_predictions: Tensor
    similarity: Tensor
    association: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(len(ALPHAS), dtype=torch.float64)
        self.add_state("true_positives", zeros.long(), dist_reduce_fx="sum")
        self.add_state("num_targets", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_predictions", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("similarity", zeros.clone(), dist_reduce_fx="sum")
        # Sums over true positives of accuracy, recall and precision of the association.
        self.add_state("association", zeros.repeat(3, 1), dist_reduce_fx="sum")

    def update(self, similarity: np.ndarray, target_present: np.ndarray, prediction_present: np.ndarray) -> None:
        """Add one sequence.

        Args:
            similarity: (T, G, D) IoU in each of T frames of G true with D predicted tracks.
            target_present: (T, G) bool, frames in which a true track is seen.
            prediction_present: (T, D) bool, frames in which a track is predicted.

        Raises:
            ValueError: The shapes do not belong together.
        """
        frames, targets, predictions = similarity.shape
        if target_present.shape != (frames, targets) or prediction_present.shape != (frames, predictions):
            raise ValueError(
                f"similarity of shape {similarity.shape} against presence of shapes {target_present.shape} and "
                f"{prediction_present.shape}"
            )
        alignment = global_alignment(similarity, target_present, prediction_present)
        matches = np.zeros((len(ALPHAS), targets, predictions))
        for now, mine, theirs in zip(similarity, target_present, prediction_present, strict=True):
            rows, columns = match_frame(now, alignment, mine, theirs)
            good = now[rows, columns] >= ALPHAS[:, None] - _TINY
            self.true_positives += self._tensor(good.sum(axis=1))
            self.similarity += self._tensor((good * now[rows, columns]).sum(axis=1))
            matches[:, rows, columns] += good
        self.num_targets += int(target_present.sum())
        self.num_predictions += int(prediction_present.sum())
        self.association += self._tensor(association_sums(matches, target_present, prediction_present))

    def compute(self) -> dict[str, Tensor]:
        """All numbers by name, scalars in [0, 1]; LocA is 1 where nothing was matched."""
        found = self.true_positives.double()
        accuracy, recall, precision = self.association / found.clamp(min=1)
        det_re, det_pr = found / self.num_targets.clamp(min=1), found / self.num_predictions.clamp(min=1)
        det_a = found / (self.num_targets + self.num_predictions - found).clamp(min=1)
        rows = {
            "HOTA": (det_a * accuracy).sqrt(),
            "DetA": det_a,
            "AssA": accuracy,
            "DetRe": det_re,
            "DetPr": det_pr,
            "AssRe": recall,
            "AssPr": precision,
            "LocA": torch.where(found > 0, self.similarity / found.clamp(min=1), 1.0),
            "OWTA": (det_re * accuracy).sqrt(),
        }
        return {name: row.mean() for name, row in rows.items()}

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=self.similarity.device)


def global_alignment(similarity: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How well each pair of tracks fits over the whole sequence, before any matching, (G, D) in [0, 1].

    Args:
        similarity: (T, G, D) IoU.
        targets: (T, G) bool, present or not.
        predictions: (T, D) bool.
    """
    seen = np.where(targets[:, :, None] & predictions[:, None, :], similarity, 0.0)
    rivals = seen.sum(axis=1, keepdims=True) + seen.sum(axis=2, keepdims=True) - seen
    shared = np.divide(seen, rivals, out=np.zeros_like(seen), where=rivals > _TINY).sum(axis=0)
    together = targets.sum(axis=0)[:, None] + predictions.sum(axis=0)[None, :] - shared
    return np.divide(shared, together, out=np.zeros_like(shared), where=together > 0)


def match_frame(
    similarity: np.ndarray, alignment: np.ndarray, targets: np.ndarray, predictions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of one frame, as indices of true and of predicted tracks, with the largest sum of fit times IoU.

    Args:
        similarity: (G, D) IoU in this frame.
        alignment: (G, D) from `global_alignment`.
        targets: (G,) bool, present or not.
        predictions: (D,) bool.
    """
    mine, theirs = np.flatnonzero(targets), np.flatnonzero(predictions)
    rows, columns = linear_sum_assignment(-(alignment * similarity)[np.ix_(mine, theirs)])
    return mine[rows], theirs[columns]


def association_sums(matches: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Sums over true positives of the accuracy, recall and precision with which each track was followed.

    Args:
        matches: (A, G, D) number of frames in which two tracks were matched, at A thresholds.
        targets: (T, G) bool, present or not.
        predictions: (T, D) bool.

    Returns:
        (3, A).
    """
    mine, theirs = targets.sum(axis=0)[None, :, None], predictions.sum(axis=0)[None, None, :]
    shares = (matches / np.maximum(1, length) for length in (mine + theirs - matches, mine, theirs))
    return np.stack([(matches * share).sum(axis=(1, 2)) for share in shares])
