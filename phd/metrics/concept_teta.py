"""TETA of tracks with classes: localisation, association and classification, each for itself.

Li et al., "Tracking Every Thing in the Wild" (ECCV 2022, arXiv 2207.12978, section 3), for data that is labelled
exhaustively. Its published evaluator decides what the paper leaves open; the quirks that move numbers are named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from phd.metrics.hota import association_sums, global_alignment, match_frame

ALPHAS: np.ndarray = np.arange(0.0, 0.99, 0.05)
# Classes are compared at the thresholds from 0.5 on.
CLASS_START = 10
# A prediction that overlaps a target by this much is compared with it; one that does not may be an unlabelled object.
OVERLAP = 0.5
_TINY = float(np.finfo(float).eps)
NAMES = ("teta", "loc_a", "assoc_a", "cls_a", "loc_re", "loc_pr", "assoc_re", "assoc_pr", "cls_re", "cls_pr")


@dataclass(frozen=True)
class Tracks:
    """The tracks of one video.

    Attributes:
        similarity: (T, G, D) IoU in each frame of true with predicted tracks.
        target_present: (T, G) bool.
        prediction_present: (T, D) bool.
        target_class: (G,) ids.
        prediction_class: (D,) ids.
    """

    similarity: np.ndarray
    target_present: np.ndarray
    prediction_present: np.ndarray
    target_class: np.ndarray
    prediction_class: np.ndarray


@dataclass
class ClassCounts:
    """Sums of one class: TP, FN and FP of boxes or masks (3, 20), of classes (3, 10), and of associations (3, 20)."""

    located: np.ndarray = field(default_factory=lambda: np.zeros((3, len(ALPHAS))))
    classified: np.ndarray = field(default_factory=lambda: np.zeros((3, len(ALPHAS) - CLASS_START)))
    associated: np.ndarray = field(default_factory=lambda: np.zeros((3, len(ALPHAS))))

    def numbers(self) -> np.ndarray:
        """(10,) in the order of `NAMES`, fractions."""
        located, classified = (_shares(*counts) for counts in (self.located, self.classified))
        associated = (self.associated / np.maximum(1, self.located[0])).mean(axis=1)
        accuracies = np.array([located[0], associated[0], classified[0]])
        return np.array([accuracies.mean(), *accuracies, *located[1:], *associated[1:], *classified[1:]])


def _shares(found: np.ndarray, missed: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Accuracy, recall and precision, means over the thresholds."""
    whole = (found + missed + wrong, found + missed, found + wrong)
    return np.array([(found / np.maximum(1, total)).mean() for total in whole])


def teta(videos: Sequence[Tracks], classes: Sequence[int]) -> dict[str, float]:
    """Means over classes, by name, as fractions.

    Args:
        videos: All of the data set.
        classes: Those that have a target anywhere, in the order of the file. The order matters where a video has a
            class without any overlap: its false classes then replace those that earlier classes found for it.
    """
    sums = {name: ClassCounts() for name in classes}
    for video in videos:
        for name, counts in count_video(video, classes).items():
            sums[name].located += counts.located
            sums[name].classified += counts.classified
            sums[name].associated += counts.associated
    numbers = np.mean([counts.numbers() for counts in sums.values()], axis=0) if sums else np.zeros(len(NAMES))
    return dict(zip(NAMES, numbers.tolist(), strict=True))


def count_video(video: Tracks, classes: Sequence[int]) -> dict[int, ClassCounts]:
    """The counts of every class in one video.

    A frame without any target is left out, with all that is predicted in it.
    """
    frames = video.target_present.any(axis=1)
    present = video.target_present[frames], video.prediction_present[frames]
    similarity = np.where(present[0][:, :, None] & present[1][:, None, :], video.similarity[frames], -1.0)
    video = Tracks(similarity, *present, video.target_class, video.prediction_class)
    assigned = assign(video)
    counts = {name: ClassCounts() for name in classes}
    for name in classes:
        count_class(video, name, assigned, counts)
    return counts


def assign(video: Tracks) -> np.ndarray:
    """Which target each prediction is matched with at IoU 0.5, over all classes, (T, D), -1 for none."""
    kept = (video.similarity >= OVERLAP).any(axis=(0, 1))
    assigned = np.full(video.prediction_present.shape, -1)
    predictions = video.prediction_present & kept
    alignment = global_alignment(video.similarity, video.target_present, predictions)
    for time, similarity in enumerate(video.similarity):
        rows, columns = match_frame(similarity, alignment, video.target_present[time], predictions[time])
        good = similarity[rows, columns] >= OVERLAP - _TINY
        assigned[time, columns[good]] = rows[good]
    return assigned


def count_class(video: Tracks, name: int, assigned: np.ndarray, counts: dict[int, ClassCounts]) -> None:
    """Add what one class of one video gives, also to the false classes of the others."""
    mine = video.target_class == name
    targets, similarity = video.target_present[:, mine], video.similarity[:, mine]
    of_others = (assigned >= 0) & ~np.append(mine, False)[assigned]
    overlapping = (similarity >= OVERLAP).any(axis=1) & ~of_others
    compared = overlapping | (video.prediction_present & (video.prediction_class == name))
    own = counts[name]
    if not overlapping.any():
        own.located[1] += targets.sum()
        own.classified[2] = compared.sum()
        return
    predictions = video.prediction_present & overlapping.any(axis=0)
    alignment = global_alignment(similarity, targets, predictions)
    matches = np.zeros((len(ALPHAS), *alignment.shape))
    for time, now in enumerate(similarity):
        num_targets = int(targets[time].sum())
        own.classified[2] += compared[time].sum() - overlapping[time].sum()
        rows, columns = match_frame(now, alignment, targets[time], predictions[time])
        # Whole numbers: the product of two boolean arrays would say whether, not how many.
        good = (now[rows, columns] >= ALPHAS[:, None] - _TINY).astype(int)
        found = good.sum(axis=1)
        own.located += [found, num_targets - found, overlapping[time].sum() - good @ overlapping[time, columns]]
        matches[:, rows, columns] += good
        named = video.prediction_class[columns]
        strict = good[CLASS_START:]
        own.classified[0] += strict @ (named == name)
        own.classified[1] += strict @ (named != name)
        for pair in np.flatnonzero(named != name):
            if named[pair] in counts:
                counts[named[pair]].classified[2] += strict[:, pair]
    own.associated += association_sums(matches, targets, predictions)
