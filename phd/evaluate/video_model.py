"""Runs a model over labelled videos and scores what it tracked, by the code that scores trees of PNG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phd.evaluate.video_folders import new_folder, write_frames
from phd.evaluate.video_prompt import PromptKind, beginnings
from phd.evaluate.video_protocol import ObjectScore, Protocol, davis, lvos, sav_object
from phd.evaluate.video_report import VideoReport
from phd.evaluate.video_source import Rle, decoded, label_numbers, object_names, true_labels
from phd.evaluate.video_speed import Clock, forget_peak, peak_memory
from phd.evaluate.video_track import Masklets, track_video
from phd.evaluate.video_words import describe, describe_tracking
from phd.outputs import LabelledVideo
from phd.segmenter import Segmenter
from phd.video_predictor import TrackRules, VideoPredictor


def evaluate_videos(
    model: Segmenter,
    videos: Iterable[LabelledVideo],
    protocol: Protocol,
    *,
    prompt: PromptKind = "mask",
    skip_ends: bool = True,
    save: Path | None = None,
    rules: TrackRules | None = None,
    progress: bool = True,
    device: torch.device | str = "cpu",
    after: Callable[[VideoReport], None] = lambda report: None,
) -> VideoReport:
    """Track the objects of labelled videos from their first masks, and score the masks.

    Args:
        model: A teacher or a student that can track; moved to `device` and left in eval mode.
        videos: Read once, in order.
        protocol: "davis", "sav" or "lvos", see `phd.evaluate.video_protocol`.
        prompt: What each object begins with: its true mask, the tight box or the centre point of it.
        skip_ends: SA-V: leave out the first and the last annotated frame.
        save: Write the masks of all annotated frames into this folder, as PNG files.
        rules: What is remembered, and whether masks may overlap; by default what the model's configuration says.
        progress: Show progress on stderr.
        device: Where the model runs.
        after: Called after each video with the report so far.

    Raises:
        UserError: The model cannot track, a video cannot be read or does not fit the protocol, or `save` is not empty.
    """
    device = torch.device(device)
    predictor, clock = VideoPredictor(model, device, rules), Clock(device)
    if save is not None:
        new_folder(save)
    forget_peak(device)
    about = describe(protocol, skip_ends)
    about["protocol_details"] |= describe_tracking(protocol, prompt, predictor.rules)
    report = VideoReport({**about, "prompt": prompt}, [])
    tracked_objects = 0
    with _progress_bar(disable=not progress) as bar:
        task = bar.add_task(f"track with {model.name}", total=len(videos) if isinstance(videos, Sized) else None)
        for video in videos:
            begin = beginnings(video, protocol)
            tracked_objects += sum(map(len, begin.values()))
            found = track_video(predictor, video, begin, prompt, label_map=protocol != "sav", clock=clock)
            if save is not None:
                save_video(video, found, protocol, save)
            scores, left_out = score_video(video, found, protocol, skip_ends=skip_ends)
            report.scores += scores
            report.left_out += left_out
            report.speed = {
                **clock.to_dict(),
                "memory_tokens": predictor.memory_tokens,
                **peak_memory(device),
                "num_frames": sum(map(len, clock.seconds)),
                "tracked_objects": tracked_objects,
            }
            if report.scores:
                after(report)
            bar.advance(task)
    return report


def score_video(
    video: LabelledVideo, found: Masklets, protocol: Protocol, *, skip_ends: bool = True
) -> tuple[list[ObjectScore], list[dict[str, str]]]:
    """Score the masks of one video.

    Args:
        video: With its ground truth.
        found: By object and labelled place.
        protocol: For `davis` and `lvos` no two masks of a frame may overlap.
        skip_ends: As in `evaluate_videos`.

    Returns:
        One score for each object that counts, and the objects that do not, with the reason.

    Raises:
        UserError: The video does not fit the protocol.
    """
    frames = [video.frames[place] for place in video.labelled]
    places = dict(zip(frames, video.labelled, strict=True))
    if protocol != "sav":
        truth, prediction = (lambda frame: true_labels(video, places[frame])), _label_maps(video, found)
        score = davis if protocol == "davis" else lvos
        return score(video.name, frames, truth, lambda frame: prediction(places[frame])), []
    scores: list[ObjectScore] = []
    left_out: list[dict[str, str]] = []
    for position, name in enumerate(object_names(video)):
        counted = video.labelled[1:-1] if skip_ends else video.labelled
        # Too few frames are an error of the protocol itself.
        if counted and all(video.masks[position][place] is None for place in counted):
            reason = "the truth shows it in no frame that counts"
            left_out.append({"video": video.name, "object": name, "reason": reason})
            continue
        truth, prediction = partial(_label, video, video.masks[position]), partial(_label, video, found[position])
        pair = (lambda frame, read=read: read(places[frame]) for read in (truth, prediction))
        scores.append(sav_object(video.name, name, frames, *pair, skip_ends=skip_ends))
    return scores, left_out


def save_video(video: LabelledVideo, found: Masklets, protocol: Protocol, folder: Path) -> None:
    """Write the masks of all labelled frames: by `sav` a folder for each object, else label maps."""
    if protocol != "sav":
        write_frames(folder / video.name, video.frames, _label_maps(video, found), video.labelled)
        return
    for name, masks in zip(object_names(video), found, strict=True):
        # An object has the label 1 in its own folder.
        own = partial(_label, video, masks)
        write_frames(folder / video.name / name, video.frames, own, video.labelled)


def _label_maps(video: LabelledVideo, found: Masklets) -> Callable[[int], np.ndarray]:
    numbers = label_numbers(video)

    def labels(place: int) -> np.ndarray:
        canvas = np.zeros((video.height, video.width), dtype=np.uint8)
        for number, masks in zip(numbers, found, strict=True):
            canvas[decoded(masks[place], video.height, video.width)] = number
        return canvas

    return labels


def _label(video: LabelledVideo, masks: Sequence[Rle | None] | Mapping[int, Rle | None], place: int) -> np.ndarray:
    return decoded(masks[place], video.height, video.width).astype(np.uint8)


def _progress_bar(disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=disable)
