"""Videos of rectangles for the evaluation of trackers, and their truth as the trees of the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from moving_videos import HEIGHT, SIDE, WIDTH, square
from PIL import Image
from raw_samples import image_bytes, rectangle
from raw_videos import write_labels

from datamodules import rle
from datamodules.labelled_videos import labelled_video
from datamodules.video_record import frame_extension
from phd.outputs import LabelledVideo

LATE = 3  # the frame in which the third object appears


def truth_of(frame: int) -> dict[int, np.ndarray]:
    """The masks of three objects: one moves, one stands still and is hidden in frame 3, one comes late."""
    masks = {
        1: square(frame),
        2: rectangle(HEIGHT, WIDTH, 24, 10, SIDE, 20),
        3: rectangle(HEIGHT, WIDTH, 2, 44, SIDE, 10),
    }
    hidden = ((frame == 3 and [2]) or []) + ([3] if frame < LATE else [])
    return {number: np.zeros_like(mask) if number in hidden else mask for number, mask in masks.items()}


def record_of(frames: int = 6, stride: int = 1, first_id: int = 1) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A record and its frames; every `stride`-th frame is labelled, and one pixel column of all frames is void."""
    labelled = list(range(0, frames, stride))
    masks = {number: [rle.encode(truth_of(n)[number]) for n in range(frames)] for number in (1, 2, 3)}
    seen = {number: [truth_of(n)[number].any() and n in labelled for n in range(frames)] for number in (1, 2, 3)}
    void = rle.encode(rectangle(HEIGHT, WIDTH, 38, 0, 2, WIDTH))
    record: dict[str, Any] = {
        "video": {"name": "clip.a", "height": HEIGHT, "width": WIDTH},
        "frames": list(range(frames)),
        "labelled": labelled,
        "objects": [
            {
                "id": number - 1 + first_id,
                "masks": [mask if shown else None for mask, shown in zip(masks[number], seen[number], strict=True)],
            }
            for number in (1, 2, 3)
        ],
        "void": [void if n in labelled else None for n in range(frames)],
    }
    return record, {frame_extension(n): image_bytes(picture(n)) for n in range(frames)}


def picture(frame: int) -> np.ndarray:
    """The objects in red, green and blue, (H, W, 3) uint8."""
    pixels = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    for number, mask in truth_of(frame).items():
        pixels[mask > 0, number - 1] = 220
    return pixels


def video_of(frames: int = 6, stride: int = 1, first_id: int = 1, **about: Any) -> LabelledVideo:
    record, members = record_of(frames, stride, first_id)
    record["video"] |= about
    return labelled_video(record, lambda place: members[frame_extension(place)], "here", "clip_a", 5)


def write_davis(root: Path, names: Sequence[str], frames: int) -> Path:
    """Videos in DAVIS's layout; the first two objects in label maps."""
    for name in names:
        for frame in range(frames):
            jpeg = root / "JPEGImages" / "480p" / name / f"{frame:05d}.jpg"
            jpeg.parent.mkdir(parents=True, exist_ok=True)
            jpeg.write_bytes(image_bytes(picture(frame)))
            truth = truth_of(frame)
            write_labels(root / "Annotations" / "480p" / name / f"{frame:05d}.png", truth[1] + 2 * truth[2])
    return root


def write_label_maps(folder: Path, video: LabelledVideo) -> None:
    """The truth of a video in DAVIS's layout, void as 255."""
    folder.mkdir(parents=True)
    for place in video.labelled:
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        labels[38:] = 255
        for number, mask in truth_of(place).items():
            labels[mask > 0] = number
        image = Image.fromarray(labels)
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200] + [90] * 756)
        image.save(folder / f"{place:05d}.png")


def write_object_folders(folder: Path, video: LabelledVideo) -> None:
    """The truth of a video in SA-V's layout: a folder for each object, 255 where it is."""
    for position, number in enumerate(video.ids):
        (folder / f"{number:03d}").mkdir(parents=True)
        for place in video.labelled:
            mask = truth_of(place)[position + 1]
            Image.fromarray(255 * mask).save(folder / f"{number:03d}" / f"{place:05d}.png")
