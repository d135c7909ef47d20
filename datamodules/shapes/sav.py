"""The embedded world in the raw format of SA-V: `sav_000001.mp4` and `sav_000001_manual.json` side by side.

The same seed gives the same bytes with the same versions of numpy, scipy, Pillow and PyAV (with its FFmpeg and x264) on
the same kind of processor: a frame goes to the encoder in one thread with fixed settings, and nothing depends on the
clock or on the number of processes. Fields: the README of the SA-V data set and its published example.
"""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from datamodules import rle
from datamodules.shapes.clip import FPS, SECONDS, Clip, Occlusion, numbered_clip
from datamodules.shapes.survey import happenings, survey
from datamodules.shapes.writing import check_order, check_seconds, write_numbered

_BUCKETS = ((32**2, "small"), (96**2, "medium"))  # mean areas below; what is left is large

# x264 picks other code paths on other processors and with other numbers of threads unless it is told not to.
_X264 = "threads=1:lookahead-threads=1:cpu-independent=1:keyint=48:bframes=2"
_ENCODER = {"preset": "veryfast", "crf": "18", "x264-params": _X264}


def write_sav(
    out: Path,
    samples: int,
    seed: int,
    workers: int = 1,
    seconds: tuple[float, float] = SECONDS,
    occlusion: Occlusion = "any",
) -> None:
    """Write clips 0 to `samples - 1` of the world `seed`.

    Args:
        out: a folder that does not exist or is empty.
        samples: number of clips.
        seed: number of the world.
        workers: processes that render; the files do not depend on it.
        seconds: shortest and longest duration.
        occlusion: "long" hides one object of each clip for at least half of it.

    Raises:
        UserError: `out` is a file or holds something, or a number is out of range.
    """
    check_seconds(seconds)
    check_order(out, samples, seed, workers)
    write = partial(_write_one, out, seed, seconds, occlusion)
    write_numbered(write, samples, workers, "rendering clips", chunksize=1)


def sav_record(masks: NDArray[np.bool_], video_id: str, frames: int, fps: int, environment: str) -> dict[str, Any]:
    """Describe a video as SA-V does, counts as floats and all.

    Args:
        masks: the visible pixels of each object in each annotated frame `(annotated, objects, height, width)`; an
            object that is not seen in a frame has the run lengths of an empty mask there, as in the published files.
        video_id: name of the video.
        frames: of the video.
        fps: frames a second of the video.
        environment: "Indoor" or "Outdoor".
    """
    height, width = masks.shape[2:]
    annotated = len(masks)
    runs = [[rle.encode(mask) for mask in row] for row in masks]
    areas = masks.sum(axis=(2, 3)).T
    seen = areas > 0
    sizes = [float(row[row > 0].mean()) for row in areas]
    firsts = [int(row.argmax()) for row in seen]
    changes = [int((row[first + 1 :] != row[first:-1]).sum()) for row, first in zip(seen, firsts, strict=True)]
    count = len(sizes)
    return {
        "video_id": video_id,
        "video_duration": frames / fps,
        "video_frame_count": float(frames),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "video_environment": environment,
        "video_split": "train",
        "masklet": runs,
        "masklet_id": list(range(count)),
        "masklet_size_rel": [round(size / (height * width), 10) for size in sizes],
        "masklet_size_abs": [round(size, 10) for size in sizes],
        "masklet_size_bucket": [next((name for most, name in _BUCKETS if size < most), "large") for size in sizes],
        "masklet_visibility_changes": changes,
        "masklet_first_appeared_frame": [float(first) for first in firsts],  # counts annotated frames
        "masklet_frame_count": [annotated] * count,
        "masklet_edited_frame_count": [0] * count,
        "masklet_type": ["manual"] * count,
        "masklet_stability_score": [None] * count,
        "masklet_num": count,
    }


def write_clip(clip: Clip, mp4: Path) -> NDArray[np.bool_]:
    """Write a clip as a video.

    Args:
        clip: what to render.
        mp4: the file.

    Returns:
        The visible pixels of each object in each annotated frame `(annotated, objects, height, width)`.
    """
    annotated: list[NDArray[np.bool_]] = []
    with av.open(str(mp4), "w", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, (image, masks) in enumerate(clip.pictures()):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
            if number % clip.stride == 0:
                annotated.append(masks)
        container.mux(stream.encode(None))
    return np.stack(annotated)


def _write_one(out: Path, seed: int, seconds: tuple[float, float], occlusion: Occlusion, index: int) -> None:
    clip = numbered_clip(seed, index, seconds, occlusion)
    stem = f"sav_{index + 1:06d}"
    masks = write_clip(clip, out / f"{stem}.mp4")
    environment = "Indoor" if clip.scene.background.horizon is None else "Outdoor"
    record = sav_record(masks, stem, len(clip.poses), FPS, environment)
    seen = np.asarray(np.any(masks, axis=(2, 3))).T
    phrases = [clip.scene.things[index].phrases()[-1] for index in clip.objects]
    # A key of our own, which readers of SA-V pass over.
    record["world"] = {
        "seed": seed,
        "index": index,
        "phrases": phrases,
        **happenings(clip, survey(clip), np.asarray(seen)),
    }
    (out / f"{stem}_manual.json").write_text(json.dumps(record), encoding="utf-8")
