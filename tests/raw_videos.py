"""Videos in which a square tells the number of its frame, and the files of the video data sets made of them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from raw_samples import image_bytes

from datamodules import rle

HEIGHT, WIDTH, SIDE, STEP = 96, 320, 32, 11
GREEN = (40, 200, 60)


def square(frame: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """The mask (H, W) of the square in a source frame; 11 pixels on it overlaps by an IoU of 0.49."""
    left = frame * STEP % (width - SIDE)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 3 : height // 3 + SIDE, left : left + SIDE] = 1
    return mask


def picture(frame: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """The square in green on a grey gradient, (H, W, 3) uint8."""
    pixels = np.repeat(np.linspace(90, 160, width, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(height, axis=0)
    pixels[square(frame, height, width) > 0] = GREEN
    return pixels


def found_square(pixels: np.ndarray) -> np.ndarray:
    """Where a picture (H, W, 3) is green."""
    red, green, blue = pixels.astype(int).transpose(2, 0, 1)
    return (green - (red + blue) // 2) > 70


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def write_mp4(path: Path, pictures: Any, rate: int = 24, keyframes: int = 12, times: list[int] | None = None) -> None:
    """H.264 with B-frames and a key frame every 12; `times` puts frames at other places than 0, 1, 2, ..."""
    with av.open(str(path), "w") as container:
        options = {
            "preset": "veryfast",
            "crf": "16",
            "x264-params": f"keyint={keyframes}:bframes=2:b-adapt=0:threads=1",
        }
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.codec_context.thread_count = 1
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(pictures):
            if not number:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (times[number] if times else number), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def masklets(frames: int, stride: int = 4, kind: str = "manual", height: int = HEIGHT, width: int = WIDTH) -> dict:
    """SA-V's JSON about the square, with the floats that the published files have, and a second object seen late."""
    annotated = range(0, frames, stride)
    late = [rle.encode(square(frame, height, width) * (place >= 2)) for place, frame in enumerate(annotated)]
    scores = [[0.9 + place / 1000, 0.5] for place in range(len(annotated))] if kind == "auto" else [None, None]
    return {
        "video_id": "sav_000001",
        "video_duration": frames / 24,
        "video_frame_count": float(frames),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "video_environment": "Indoor",
        "video_split": "train",
        "masklet": [[rle.encode(square(frame, height, width)), late[place]] for place, frame in enumerate(annotated)],
        "masklet_id": [0, 1],
        "masklet_size_rel": [0.0333333333, 0.0333333333],
        "masklet_first_appeared_frame": [0.0, 2.0],
        "masklet_frame_count": [len(annotated)] * 2,
        "masklet_type": [kind] * 2,
        "masklet_stability_score": scores,
        "masklet_num": 2,
    }


def write_sav(folder: Path, name: str = "sav_000001", frames: int = 49, **more: Any) -> Path:
    """One video with its manual masklets."""
    folder.mkdir(parents=True, exist_ok=True)
    write_mp4(folder / f"{name}.mp4", (picture(frame) for frame in range(frames)), **more)
    (folder / f"{name}_manual.json").write_text(json.dumps(masklets(frames)))
    return folder


def write_frames(folder: Path, numbers: list[int], digits: int = 5) -> None:
    """JPEGs of the square, named by source frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:0{digits}d}.jpg").write_bytes(image_bytes(picture(number)))


def write_labels(path: Path, labels: np.ndarray, mode: str = "P") -> None:
    """A PNG of object numbers (H, W); with a palette in which 1 is red and 2 is green, as DAVIS has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8), "L")
    if mode == "P":
        image = image.copy()
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
    image.save(path)
