"""Videos of a moving square, for the tests of clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from raw_samples import image_bytes, rectangle

from datamodules import rle
from datamodules.video_record import frame_extension

HEIGHT, WIDTH, SIDE = 40, 60, 12


def square(frame: int) -> np.ndarray:
    """The first object: a square that moves 2 pixels to the right from frame to frame."""
    return rectangle(HEIGHT, WIDTH, 4, 2 + 2 * frame, SIDE, SIDE)


def moving(frames: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A record, and the frames as members: a red square that moves, and below it a second object that stands still.

    Frame n has the number 4 n in its source, and green of 10 n.
    """
    record: dict[str, Any] = {
        "video": {"name": "v", "height": HEIGHT, "width": WIDTH, "fps": 24.0},
        "frames": [4 * frame for frame in range(frames)],
        "labelled": list(range(frames)),
        "objects": [
            {"id": 1, "masks": [rle.encode(square(n)) for n in range(frames)]},
            {"id": 2, "masks": [rle.encode(rectangle(HEIGHT, WIDTH, 24, 10, SIDE, 20)) for _ in range(frames)]},
        ],
    }
    members: dict[str, bytes] = {}
    for frame in range(frames):
        pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        pixels[..., 0], pixels[..., 1] = 255 * square(frame), 10 * frame
        members[frame_extension(4 * frame)] = image_bytes(pixels)
    return record, members


def reading(members: dict[str, bytes], asked: list[int] | None = None) -> Any:
    """Fetches frames by their number, and notes which."""

    def read(frames: list[int]) -> list[bytes]:
        if asked is not None:
            asked.extend(frames)
        return [members[frame_extension(frame)] for frame in frames]

    return read
