"""How much true and predicted tracks of one video share, frame by frame and over the whole video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phd.evaluate.concept_masks import intersections
from phd.evaluate.concept_video_files import Track, Video


@dataclass(frozen=True)
class Overlap:
    """Of D predicted with G true tracks in T frames, in pixels.

    Attributes:
        shared: (T, D, G) intersection.
        predicted: (T, D) area.
        true: (T, G) area.
    """

    shared: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    def select(self, predictions: Sequence[int] | np.ndarray, targets: Sequence[int] | np.ndarray) -> Overlap:
        """Of some of the tracks."""
        mine, theirs = np.asarray(predictions, dtype=int), np.asarray(targets, dtype=int)
        return Overlap(self.shared[:, mine[:, None], theirs], self.predicted[:, mine], self.true[:, theirs])

    def volumes(self) -> np.ndarray:
        """IoU (D, G) of the volumes: all intersections by all unions; two tracks that are empty throughout agree."""
        shared = self.shared.sum(axis=0)
        union = self.predicted.sum(axis=0)[:, None] + self.true.sum(axis=0)[None, :] - shared
        return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)

    def frames(self) -> np.ndarray:
        """IoU (T, G, D) in every frame; what is empty overlaps nothing."""
        union = self.predicted[:, :, None] + self.true[:, None, :] - self.shared
        similarity = np.divide(self.shared, union, out=np.zeros_like(self.shared), where=union > 0)
        return similarity.transpose(0, 2, 1)


def mask_overlap(video: Video) -> Overlap:
    """Of the masks of all tracks of a video."""
    shared = np.zeros((video.length, len(video.predictions), len(video.targets)))
    for frame in range(video.length):
        (mine, predicted), (theirs, true) = (_seen(tracks, frame) for tracks in (video.predictions, video.targets))
        shared[frame, mine[:, None], theirs] = intersections(predicted, true)
    return Overlap(shared, _areas(video.predictions, video.length), _areas(video.targets, video.length))


def box_overlap(video: Video) -> Overlap:
    """Of the boxes of all tracks of a video."""
    (mine, theirs) = (_boxes(tracks, video.length) for tracks in (video.predictions, video.targets))
    start = np.maximum(mine[:, :, None, :2], theirs[:, None, :, :2])
    end = np.minimum((mine[..., :2] + mine[..., 2:])[:, :, None], (theirs[..., :2] + theirs[..., 2:])[:, None])
    return Overlap(np.clip(end - start, 0, None).prod(-1), mine[..., 2:].prod(-1), theirs[..., 2:].prod(-1))


def _seen(tracks: Sequence[Track], frame: int) -> tuple[np.ndarray, list[dict[str, object]]]:
    found = [(place, mask) for place, track in enumerate(tracks) if (mask := track.masks[frame]) is not None]
    return np.array([place for place, _ in found], dtype=int), [mask for _, mask in found]


def _areas(tracks: Sequence[Track], length: int) -> np.ndarray:
    return np.stack([track.areas for track in tracks], axis=1) if tracks else np.zeros((length, 0))


def _boxes(tracks: Sequence[Track], length: int) -> np.ndarray:
    return np.stack([track.boxes for track in tracks], axis=1) if tracks else np.zeros((length, 0, 4))
