"""The section of stage 2: how well videos are tracked, and a film strip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phd.draw import panel
from phd.evaluate.video_prompt import beginnings
from phd.evaluate.video_source import decoded
from phd.evaluate.video_speed import Clock
from phd.evaluate.video_track import track_video
from phd.film_strip import TRUTH, absences, film_frames, film_strip
from phd.loading import load_segmenter
from phd.outputs import LabelledVideo
from phd.report.page import figure, protocol_details, share, table
from phd.segmenter import Segmenter
from phd.video_predictor import VideoPredictor

COLUMNS, TILE = 8, 160  # frames of a film strip, and the side of each in pixels


def video_section(paths: dict[str, str], videos: Sequence[LabelledVideo], teacher: str) -> str:
    """A table, and a film strip of each video.

    Args:
        paths: The evaluations `dense`, `before` and `after`, and the student after the stage, `student`.
        videos: Videos to show.
        teacher: Its name.
    """
    dense, before, after = (json.loads(Path(paths[name]).read_text()) for name in ("dense", "before", "after"))
    models = {"teacher": load_segmenter(teacher), "student": load_segmenter(paths["student"])}
    parts = ["<h2>Stage 2: the memory</h2>", video_table(dense, before, after)]
    return "\n".join(parts + [video_strip(models, video) for video in videos])


def video_table(dense: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> str:
    """J, F, J&F, memory and speed: the teacher, the student of stage 1, and that of stage 2 before and after."""
    teacher = after["teacher"]
    models = {
        "teacher": teacher,
        "student of stage 1, the teacher's dense memory": dense,
        "the same, compressor untrained": before,
        "student of stage 2": after,
    }
    rows: list[list[str]] = []
    for name, found in models.items():
        scores = [f"{found[part]:.3f}" for part in ("j", "f", "jf")]
        shares = share(found["jf"], teacher["jf"]), share(found["fps"], teacher["fps"])
        rows.append([name, *scores, shares[0], str(found["memory_tokens"]), shares[1]])
    heads = ["", "J", "F", "J&F", "of the teacher's", "memory tokens per frame", "frames/s, of the teacher's"]
    return (
        table(heads, rows)
        + f"<p>{after['num_videos']} clips that nobody was trained on, {after['num_objects']} objects, each tracked "
        f"from its first mask; the teacher is the 100 %, at {speed_of(teacher)} here.</p>"
        + protocol_details({name: after[name] for name in ("protocol", "protocol_details", "prompt")})
    )


def speed_of(found: dict[str, Any]) -> str:
    """Frames per second in words."""
    return "no" if found["fps"] is None else f"{found['fps']:.1f} frames a second"


def video_strip(models: dict[str, Segmenter], video: LabelledVideo) -> str:
    """Truth and what each model tracked from the first mask of each object; a colour for each object."""
    seen = np.array([[masks[place] is not None for place in video.labelled] for masks in video.masks])
    chosen = [video.labelled[place] for place in film_frames(seen, COLUMNS)]

    def stacked(masklets: Sequence[Any]) -> np.ndarray:
        """Masks (T, N, H, W) of the chosen frames."""
        return np.array([[decoded(masks[p], video.height, video.width) for masks in masklets] for p in chosen])

    tracks = {TRUTH: stacked(video.masks)}
    begin = beginnings(video, "sav")
    for name, model in models.items():
        predictor, clock = VideoPredictor(model), Clock(torch.device("cpu"))
        tracks[name] = stacked(track_video(predictor, video, begin, "mask", label_map=False, clock=clock))
    images, captions = [video.read(place) for place in chosen], [f"frame {video.frames[place]}" for place in chosen]
    gone = sum(len(absences(row)) for row in seen)
    caption = f"{video.name}; objects: {len(seen)}, times that one is hidden or leaves and comes back: {gone}"
    return figure(panel(film_strip(images, tracks, captions), TILE, gap=4), caption)
