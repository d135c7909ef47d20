"""All numbers of SA-Co/VEval from files: cgF1, HOTA, TETA and AP of masklets that were found by a phrase.

After SAM 3 (arXiv 2511.16719, the section on video metrics) and its published evaluators, whose names are kept in
`dataset_results` and `video_np_results`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from phd.errors import UserError
from phd.evaluate.concept_report import PROTOCOL, ConceptTally
from phd.evaluate.concept_video_files import Pair, Video, VideoTruth, asked_pairs, by_pair, read_tracks, read_videos
from phd.evaluate.concept_video_overlap import Overlap, box_overlap, mask_overlap
from phd.evaluate.concept_video_results import KindResults, published_results
from phd.metrics.concept_matching import SCORE_THRESHOLD
from phd.metrics.concept_teta import Tracks

KINDS: dict[str, tuple[str, Callable[[Video], Overlap]]] = {
    "segm": ("mask", mask_overlap),
    "bbox": ("bbox", box_overlap),
}


def evaluate_concepts_video(truth: Path, prediction: Path, iou_type: str = "segm") -> dict[str, Any]:
    """Evaluate a file of predicted masklets.

    Args:
        truth: A file of SA-Co/VEval.
        prediction: A list of YouTube-VIS results; boxes are pixels.
        iou_type: The masks or the boxes that the numbers at the top level are of; `dataset_results` has both.

    Returns:
        `cgf1` and `cgf1_macro` (the paper's number for video), `cgf1_micro`, `pmf1`, `il_mcc` and the rest as
        fractions; `tracking`; the published names; the protocol.

    Raises:
        UserError: A file is damaged, or the files do not belong together.
    """
    videos = read_videos(truth)
    read_tracks(prediction, videos, truth)
    pairs, unasked = asked_pairs(videos)
    if not pairs:
        raise UserError(f"{truth}: asks for no phrase in any video; give a file with video_np_pairs")
    results = {name: KindResults(name) for name, _ in KINDS.values()}
    tracks: list[Tracks] = []
    for number in track(list(videos.videos), "video metrics", console=Console(stderr=True), transient=True):
        video = videos.videos[number]
        for kind, (name, measure) in KINDS.items():
            overlap = measure(video)
            if kind == "segm":
                tracks.append(teta_tracks(video, overlap))
            for place, pair in enumerate(pairs):
                if pair[0] == number:
                    add_pair(results[name], place, pair, video, overlap)
    chosen = results[KINDS[iou_type][0]]
    return {
        **top_level(chosen.tally),
        "tracking": chosen.tracking(),
        **chosen.tally.counts(),
        "num_videos": len(videos.videos),
        "num_pairs_not_asked": len(unasked),
        "warnings": [*chosen.tally.warnings(), *unasked_warning(unasked, truth, prediction)],
        "protocol": protocol(iou_type),
        "gt": str(truth),
        "pred": str(prediction),
        **published_results(list(results.values()), tracks, classes_with_tracks(videos), pairs),
    }


def add_pair(results: KindResults, place: int, pair: Pair, video: Video, overlap: Overlap) -> None:
    """Add one phrase of one video."""
    predictions = by_pair(video.predictions).get(pair[1], [])
    targets = by_pair(video.targets).get(pair[1], [])
    mine, theirs = [video.predictions[i] for i in predictions], [video.targets[i] for i in targets]
    own = overlap.select(predictions, targets)
    scores = np.array([item.score for item in mine])
    crowd = np.array([item.crowd for item in theirs], dtype=bool)
    results.add_datapoint(place, pair, scores, own.volumes(), crowd)
    # HOTA counts a track from above the threshold on, unlike cgF1, and a frame only where something is shown.
    counted = scores > SCORE_THRESHOLD
    present = [item.has_box & (item.areas > 0) for item in mine]
    there = [item.boxed if results.kind == "bbox" else [mask is not None for mask in item.masks] for item in theirs]
    if counted.any() or theirs:
        results.add_tracks(
            pair,
            own.frames()[:, :, counted],
            _columns(there, video.length),
            _columns([item for item, counts in zip(present, counted, strict=True) if counts], video.length),
        )


def teta_tracks(video: Video, overlap: Overlap) -> Tracks:
    """All tracks of a video, whatever their phrase, from the threshold on."""
    counted = [place for place, item in enumerate(video.predictions) if item.score >= SCORE_THRESHOLD]
    predictions = [video.predictions[place] for place in counted]
    return Tracks(
        similarity=overlap.select(counted, range(len(video.targets))).frames(),
        target_present=_columns([item.boxed for item in video.targets], video.length),
        prediction_present=_columns([item.has_box for item in predictions], video.length),
        target_class=np.array([item.category for item in video.targets], dtype=object),
        prediction_class=np.array([item.category for item in predictions], dtype=object),
    )


def classes_with_tracks(truth: VideoTruth) -> list[Any]:
    """Categories that have a true masklet anywhere, in the order of the file."""
    true = {item.category for video in truth.videos.values() for item in video.targets}
    return [category for category in truth.categories if category in true]


def _columns(rows: list[Any], length: int) -> np.ndarray:
    return np.array(rows, dtype=bool).reshape(len(rows), length).T


def top_level(tally: ConceptTally) -> dict[str, Any]:
    """The numbers with the paper's cgF1 of video first."""
    numbers = tally.numbers()
    micro = {f"cgf1_micro{suffix}": numbers[f"cgf1{suffix}"] for suffix in ("", "_50", "_75")}
    macro = {f"cgf1{suffix}": numbers[f"cgf1_macro{suffix}"] for suffix in ("", "_50", "_75")}
    return {**numbers, **macro, **micro, **tally.calibration()}


def unasked_warning(unasked: list[Pair], truth: Path, prediction: Path) -> list[str]:
    """What was predicted for phrases that the truth does not list counts as false, as in the reference."""
    if not unasked:
        return []
    number, category = unasked[0]
    return [
        f"{prediction}: {len(unasked)} pairs of video and phrase were not asked by {truth}, the first is video id "
        f"{number}, category id {category}; each counts as a false phrase"
    ]


def protocol(iou_type: str) -> dict[str, Any]:
    """Every choice that moves the numbers."""
    return {
        **PROTOCOL,
        "iou_type": iou_type,
        "iou": "of volumes: the sum of intersections over frames by the sum of unions; both empty: 1",
        "cgf1": "the paper's for video: positive_macro_f1 x il_mcc; cgf1_micro is that of images, pmf1 x il_mcc",
        "HOTA": "phrase HOTA (arXiv 2009.07736): each pair of video and phrase is a sequence of one class; score > 0.5",
        "TETA": "arXiv 2207.12978, exhaustive, masks, score >= 0.5; in per cent with five digits, as published",
        "AP": "pycocotools on volume IoU; mAP over classes, phrase AP with every pair as an image of one class",
    }
