"""The protocols of video object segmentation: which frames and which objects count, and how they are averaged.

- `davis`: DAVIS 2017, semi-supervised (Pont-Tuset et al., arXiv 1704.00675). The objects are those of the first frame,
  1 to its highest label; the first and the last frame do not count; void (255) is background.
- `sav`: the evaluator of SA-V (SAM 2, arXiv 2408.00714, section 5). The first and the last annotated frame do not
  count; an object counts from the frame in which truth or prediction first shows it, and only if the truth ever does.
- `lvos`: LVOS's evaluator (Hong et al., arXiv 2211.10181 and 2404.19326; github.com/LingyiHongfd/lvos-evaluation). An
  object counts from the annotated frame in which the truth first shows it, that frame included, to the last annotated
  one. The evaluator itself takes the start and the end of each object from meta.json, of which trees and shards know
  nothing, counts missing frames as 0, and reports means over seen and over unseen categories apart.

All average over frames for each object, and then over all objects of the set, not over videos. J and F are those of
DAVIS throughout; where truth and prediction are both empty, they are 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from phd.errors import UserError
from phd.metrics.video import boundary_accuracy, region_similarity

Protocol = Literal["davis", "sav", "lvos"]
VOID = 255
# Reads the label map (H, W) uint8 of a frame.
Frames = Callable[[str], np.ndarray]


@dataclass
class ObjectScore:
    """J and F of one object in one video, by evaluated frame, in [0, 1]."""

    video: str
    object: str
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Score one frame; both (H, W) bool."""
        self.j.append(region_similarity(prediction, truth))
        self.f.append(boundary_accuracy(prediction, truth))


def davis(video: str, frames: Sequence[str], truth: Frames, prediction: Frames) -> list[ObjectScore]:
    """Score one video by DAVIS 2017's semi-supervised protocol.

    Args:
        video: For messages and rows.
        frames: All annotated frames in order.
        truth: Annotated label maps; 255 is void.
        prediction: Predicted label maps.

    Raises:
        UserError: No frame is left, the first frame shows no object, or a prediction has an object that it does not
            show (where the reference evaluator exits).
    """
    if len(frames) < 3:
        raise UserError(
            f"{video}: has {len(frames)} annotated frames; davis drops the first and the last, give 3 or more"
        )
    count = int(_without_void(truth(frames[0])).max())
    if not count:
        raise UserError(f"{video}/{frames[0]}: the first frame shows no object; davis counts those of the first frame")
    scores = [ObjectScore(video, str(number)) for number in range(1, count + 1)]
    for frame in frames[1:-1]:
        wanted, found = _pair(video, frame, _without_void(truth(frame)), prediction(frame))
        if found.max() > count:
            raise UserError(
                f"{video}/{frame}: the prediction has object {found.max()}, but the first frame shows {count} objects; "
                f"remove it, or evaluate with --protocol sav"
            )
        for number, score in enumerate(scores, start=1):
            score.add(found == number, wanted == number)
    return scores


def sav(
    video: str, frames: Sequence[str], truth: Frames, prediction: Frames, *, skip_ends: bool = True
) -> list[ObjectScore]:
    """Score one video of label maps by SA-V's protocol; 255 is an object like any other there.

    Args:
        video: For messages and rows.
        frames: All annotated frames in order.
        truth: Annotated label maps.
        prediction: Predicted label maps.
        skip_ends: Leave out the first and the last annotated frame.

    Raises:
        UserError: No frame is left.
    """
    counted = frames[1:-1] if skip_ends else frames
    if not counted:
        raise UserError(f"{video}: has {len(frames)} annotated frames, none of which counts; give 3 or more")
    scores: dict[int, ObjectScore] = {}
    in_truth: set[int] = set()
    for frame in counted:
        wanted, found = _pair(video, frame, truth(frame), prediction(frame))
        shown = set(np.unique(wanted).tolist()) - {0}
        in_truth |= shown
        for number in sorted(shown | (set(np.unique(found).tolist()) - {0})):
            scores.setdefault(number, ObjectScore(video, str(number)))
        for number, score in scores.items():
            score.add(found == number, wanted == number)
    return [scores[number] for number in sorted(in_truth)]


def sav_object(
    video: str, name: str, frames: Sequence[str], truth: Frames, prediction: Frames, *, skip_ends: bool = True
) -> ObjectScore:
    """Score one object of a video in SA-V's layout, with a folder of binary masks for each object.

    Raises:
        UserError: As `sav`, or the truth shows the object in none of the frames that count (where the reference
            evaluator stops with an assertion).
    """

    def binary(read: Frames) -> Frames:
        return lambda frame: (read(frame) > 0).astype(np.uint8)

    scores = sav(video, frames, binary(truth), binary(prediction), skip_ends=skip_ends)
    if not scores:
        raise UserError(
            f"{video}/{name}: the truth shows the object in no frame that counts; remove it, or keep the first and the "
            f"last frame with --keep-ends"
        )
    return ObjectScore(video, name, scores[0].j, scores[0].f)


def lvos(video: str, frames: Sequence[str], truth: Frames, prediction: Frames) -> list[ObjectScore]:
    """Score one video by LVOS's protocol; void is background, and objects that the truth never shows do not count.

    Args:
        video: For messages and rows.
        frames: All annotated frames in order.
        truth: Annotated label maps; 255 is void.
        prediction: Predicted label maps.

    Raises:
        UserError: The truth shows no object at all.
    """
    scores: dict[int, ObjectScore] = {}
    for frame in frames:
        wanted, found = _pair(video, frame, _without_void(truth(frame)), prediction(frame))
        for number in sorted(set(np.unique(wanted).tolist()) - {0}):
            scores.setdefault(number, ObjectScore(video, str(number)))
        for number, score in scores.items():
            score.add(found == number, wanted == number)
    if not scores:
        raise UserError(f"{video}: no annotated frame shows an object; remove the video")
    return [scores[number] for number in sorted(scores)]


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Mean, recall (share above 0.5) and decay (first quarter less last) of a series, as DAVIS 2017 has them."""
    series = np.asarray(values, dtype=np.float64)
    # The reference casts these to uint8, so that its decay is wrong from 257 frames on.
    edges = (np.round(np.linspace(1, len(series), 5) + 1e-10) - 1).astype(np.int64)
    first, last = series[edges[0] : edges[1] + 1], series[edges[3] : edges[4] + 1]
    return {
        "mean": float(series.mean()),
        "recall": float((series > 0.5).mean()),
        "decay": float(first.mean() - last.mean()),
    }


def _without_void(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == VOID, 0, labels)


def _pair(video: str, frame: str, wanted: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if wanted.shape != found.shape:
        raise UserError(
            f"{video}/{frame}: the prediction is {found.shape[0]} x {found.shape[1]} pixels (height x width) but the "
            f"truth {wanted.shape[0]} x {wanted.shape[1]}; write masks of the frame's size"
        )
    return wanted, found
