"""Truth and predictions of SA-Co/VEval: masklets of noun phrases in videos, in the manner of YouTube-VIS.

Format: https://github.com/facebookresearch/sam3, scripts/eval/veval. A phrase is a category; `video_np_pairs` lists
what was asked, also where the answer is nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phd.errors import UserError
from phd.evaluate.concept_json import (
    by_id,
    get,
    known,
    read_predictions,
    read_truth,
    require_box,
    score_of,
    side_lengths,
    text_of,
)
from phd.evaluate.concept_masks import areas, boxes_of, checked_mask

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Track:
    """A true or a predicted masklet.

    Attributes:
        category: Id of its phrase.
        score: 1 for a true one.
        crowd: A crowd region.
        masks: Compressed RLE of each of T frames, or None.
        areas: (T,) pixels.
        boxes: (T, 4) x y width height in pixels, zeros where there is none.
        boxed: (T,) bool, frames for which the file has a box, even one of zeros.
    """

    category: Any
    score: float
    crowd: bool
    masks: list[dict[str, Any] | None]
    areas: np.ndarray
    boxes: np.ndarray
    boxed: np.ndarray

    @property
    def has_box(self) -> np.ndarray:
        """(T,) bool, frames with a box that is not only zeros."""
        return self.boxed & self.boxes.any(axis=1)


@dataclass
class Video:
    """A video with its pairs and tracks, each in the order of its file."""

    height: int
    width: int
    length: int
    pairs: list[Any] = field(default_factory=list)
    targets: list[Track] = field(default_factory=list)
    predictions: list[Track] = field(default_factory=list)


@dataclass(frozen=True)
class VideoTruth:
    """Videos by id, and ids of all categories in the order of the file."""

    videos: dict[Any, Video]
    categories: list[Any]


def read_videos(path: Path) -> VideoTruth:
    """The truth.

    Raises:
        UserError: The file is damaged or in another format.
    """
    content = read_truth(path, ("videos", "annotations", "categories", "video_np_pairs"))
    categories = by_id(content["categories"], "category", path)
    for number, category in categories.items():
        text_of(category, "name", f"{path}: category id {number}")
    videos: dict[Any, Video] = {}
    for number, entry in by_id(content["videos"], "video", path).items():
        where = f"{path}: video id {number}"
        videos[number] = Video(*side_lengths(entry, where), length=len(get(entry, "file_names", where)))
    for place, pair in enumerate(content["video_np_pairs"]):
        where = f"{path}: video_np_pairs number {place}"
        if "noun_phrase" in pair:
            text_of(pair, "noun_phrase", where)
        number, category = known_pair(pair, videos, categories, where, path)
        if category not in videos[number].pairs:
            videos[number].pairs.append(category)
    for place, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotation id {annotation.get('id', f'missing, number {place}')}"
        number, category = known_pair(annotation, videos, categories, where, path)
        videos[number].targets.append(read_track(annotation, category, 1.0, videos[number], where))
    return VideoTruth(videos, list(categories))


def read_tracks(path: Path, truth: VideoTruth, truth_path: Path) -> None:
    """Add the predictions to their videos.

    Raises:
        UserError: The file is damaged, or names a video or a category that the truth does not have.
    """
    categories = set(truth.categories)
    for place, item in enumerate(read_predictions(path)):
        where = f"{path}: prediction {place}"
        number, category = known_pair(item, truth.videos, categories, where, truth_path)
        where = f"{where} (video id {number}, category id {category})"
        video = truth.videos[number]
        video.predictions.append(read_track(item, category, score_of(item, where), video, where))


def known_pair(item: dict[str, Any], videos: Any, categories: Any, where: str, truth: Path) -> Pair:
    """The video and the category of an entry.

    Raises:
        UserError: One of them is missing or unknown.
    """
    return known(item, "video_id", videos, where, truth), known(item, "category_id", categories, where, truth)


def read_track(item: dict[str, Any], category: Any, score: float, video: Video, where: str) -> Track:
    """A masklet, checked against its video. Boxes that the file does not have are those of the masks.

    Raises:
        UserError: It has not one entry for each frame, or a mask or a box is damaged.
    """
    segmentations = per_frame(item, "segmentations", video, where)
    masks = [
        None if found is None else checked_mask(found, video.height, video.width, f"{where}, frame {frame}")
        for frame, found in enumerate(segmentations)
    ]
    seen = [mask for mask in masks if mask is not None]
    there = np.array([mask is not None for mask in masks], dtype=bool)
    pixels, boxes = np.zeros(video.length), np.zeros((video.length, 4))
    pixels[there] = areas(seen)
    if item.get("bboxes") is None:
        boxes[there], boxed = boxes_of(seen), there
    else:
        given = per_frame(item, "bboxes", video, where)
        boxed = np.array([box is not None for box in given], dtype=bool)
        for frame in np.flatnonzero(boxed):
            require_box(given[frame], video.width, video.height, f"{where}, frame {frame}")
            boxes[frame] = given[frame]
    return Track(category, score, bool(item.get("iscrowd", 0)), masks, pixels, boxes, boxed)


def per_frame(item: dict[str, Any], name: str, video: Video, where: str) -> list[Any]:
    """A list with an entry for each frame.

    Raises:
        UserError: It is missing, or of another length.
    """
    values = get(item, name, where)
    if not isinstance(values, list) or len(values) != video.length:
        count = len(values) if isinstance(values, list) else "no"
        raise UserError(f"{where}: {name} has {count} entries but the video {video.length} frames; give one for each")
    return values


def asked_pairs(truth: VideoTruth) -> tuple[list[Pair], list[Pair]]:
    """All pairs of video and phrase, and those of them that were predicted without having been asked.

    As the reference does it: first, in order, the pairs that have a true or a predicted masklet; then the other pairs
    of `video_np_pairs`, video by video.
    """
    with_tracks = {
        (number, track.category)
        for number, video in truth.videos.items()
        for track in (*video.targets, *video.predictions)
    }
    listed = [(number, category) for number, video in truth.videos.items() for category in video.pairs]
    true = {(number, track.category) for number, video in truth.videos.items() for track in video.targets}
    # Ids may be numbers or text.
    ordered = sorted(with_tracks, key=lambda pair: [(isinstance(number, str), number) for number in pair])
    return [*ordered, *(pair for pair in listed if pair not in with_tracks)], [
        pair for pair in ordered if pair not in true and pair not in set(listed)
    ]


def by_pair(tracks: list[Track]) -> dict[Any, list[int]]:
    """Places of the tracks of one video by category, in order."""
    places: defaultdict[Any, list[int]] = defaultdict(list)
    for place, track in enumerate(tracks):
        places[track.category].append(place)
    return places
