"""Frames of a user's video, one at a time: a video file, a folder of images, or a camera."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from phd.errors import UserError
from phd.preprocess import read_image

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# FFmpeg's input devices, and what they call the camera of a number.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


@dataclass(frozen=True)
class SourceFrame:
    """One frame.

    Attributes:
        number: In the source: of a folder the number that is the file's name, else the place from 0.
        name: Without suffix, for files that belong to the frame.
        where: Names the file and the frame in messages.
        pixels: (H, W, 3) uint8 RGB, of the same size in all frames.
    """

    number: int
    name: str
    where: str
    pixels: np.ndarray


@dataclass
class VideoSource:
    """A video that is read once, from its start.

    Attributes:
        name: As the user gave it.
        frames: The frames in order. Iterating raises `UserError` where the source breaks off or changes its size,
            after all frames before that.
        numbers: Of the frames, ascending; a file that is damaged or cut may have fewer. None where it is not known.
        rate: Frames a second; None where it is not known.
    """

    name: str
    frames: Iterator[SourceFrame]
    numbers: Sequence[int] | None
    rate: Fraction | None


def open_source(name: str) -> VideoSource:
    """Open a video.

    Args:
        name: Path of a file that FFmpeg reads or of a folder of images, or the index of a camera.

    Raises:
        UserError: There is no such thing, or it cannot be opened.
    """
    path = Path(name)
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return _stream(name, _opened(name, name), count_frames=True)
    if not (name.isascii() and name.isdigit()):
        raise UserError(f"{name}: no such file or folder; give a video, a folder of images or the index of a camera")
    form, device = next((camera for system, camera in CAMERAS.items() if sys.platform.startswith(system)), ("", ""))
    if form not in av.formats_available:
        raise UserError(f"camera {name}: PyAV cannot open cameras on this system; record a video and give its file")
    return _stream(f"camera {name}", _opened(f"camera {name}", device.format(name), format=form), count_frames=False)


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts names as people do: frame2 before frame10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]


def _folder(folder: Path) -> VideoSource:
    files = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda p: natural(p.name))
    wrong = next((path for path in files if path.suffix.lower() not in IMAGES), None)
    if wrong is not None:
        raise UserError(f"{wrong}: no image ({', '.join(IMAGES)}); the folder must hold the frames and nothing else")
    if not files:
        raise UserError(f"{folder}: holds no image; name the folder that holds the frames")
    numbered = all(path.stem.isascii() and path.stem.isdigit() for path in files)
    numbers = [int(path.stem) for path in files] if numbered else list(range(len(files)))
    twice = Counter(numbers if numbered else [path.stem for path in files]).most_common(1)[0]
    if twice[1] > 1:
        raise UserError(f"{folder}: two images are frame {twice[0]}; remove one of them")

    def frames() -> Iterator[SourceFrame]:
        for number, path in zip(numbers, files, strict=True):
            yield SourceFrame(number, path.stem, str(path), read_image(path))

    return VideoSource(str(folder), _one_size(frames()), numbers, None)


def _opened(where: str, name: str, **settings: Any) -> InputContainer:
    try:
        container = av.open(name, **settings)
    except FFmpegError as error:
        raise UserError(f"{where}: cannot be opened as a video ({error.strerror}); check it with a player") from error
    if not container.streams.video:
        container.close()
        raise UserError(f"{where}: has no video stream; give a file with one")
    return container


def _stream(where: str, container: InputContainer, count_frames: bool) -> VideoSource:
    stream = container.streams.video[0]
    numbers = range(stream.frames) if count_frames and stream.frames else None
    rate = stream.average_rate
    return VideoSource(where, _one_size(_decoded(where, container)), numbers, rate if rate and rate > 0 else None)


def _decoded(where: str, container: InputContainer) -> Iterator[SourceFrame]:
    """The frames in order of presentation, up to where the file is damaged."""
    stream = container.streams.video[0]
    number, end = -1, 0
    try:
        with container:
            for frame in container.decode(stream):
                place = f"{where}: frame {number + 1}"
                # The decoder hides damage by repeating what it has; that is no frame of the video.
                if frame.is_corrupt:
                    raise UserError(f"{place} is damaged; the file may have been cut off, copy it again")
                if frame.rotation % 90:
                    raise UserError(f"{place} is to be shown turned by {frame.rotation} degrees; re-encode it upright")
                number += 1
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90 % 4)
                end = max(end, (frame.pts or 0) + (frame.duration or 0))
                yield SourceFrame(number, f"{number:05d}", place, np.ascontiguousarray(pixels))
    except FFmpegError as error:
        raise UserError(f"{where}: breaks off at frame {number + 1} ({error.strerror}); copy the file again") from error
    # FFmpeg ends in silence where a file was cut between two frames. A shorter count alone proves nothing: an edit list
    # may leave out frames on purpose, and then the duration says so.
    duration = stream.duration or 0
    promised = (stream.start_time or 0) + duration
    if 0 <= number < stream.frames - 1 and end < promised - duration / stream.frames / 2:
        raise UserError(f"{where}: breaks off at frame {number + 1} of {stream.frames}; copy the file again")
    if number < 0:
        raise UserError(f"{where}: has no frame; check it with a player")


def _one_size(frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
    size: tuple[int, ...] | None = None
    for frame in frames:
        found = frame.pixels.shape[:2]
        size = size or found
        if found != size:
            raise UserError(
                f"{frame.where}: is {found[0]} x {found[1]} pixels (height x width) but the frames before are "
                f"{size[0]} x {size[1]}; give all frames in one size"
            )
        yield frame
