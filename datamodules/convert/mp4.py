"""Frames of a video file as JPEGs, identified by their place in the order of presentation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from PIL import Image

from datamodules.convert.raw import too_many_pixels
from phd.errors import UserError

JPEG_QUALITY = 92


@dataclass
class Extracted:
    """What was taken from a video.

    Attributes:
        frames: Source frame number -> JPEG, ascending.
        count: Frames of the whole video.
        height: Of the frames as they are shown, in pixels.
        width: Likewise.
        fps: Frames a second of the video; None where it does not say.
    """

    frames: dict[int, bytes] = field(default_factory=dict)
    count: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 RGB as JPEG of quality 92."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def upright(pixels: np.ndarray, degrees: int, size: tuple[int, int] | None) -> np.ndarray:
    """Turn a picture as a viewer does, where the turned size is the annotated one.

    Args:
        pixels: (H, W, 3).
        degrees: Counterclockwise, from the video's display matrix.
        size: (height, width) of the annotations; None turns in any case.

    Raises:
        UserError: The video wants to be shown at an angle.
    """
    if degrees % 90:
        raise UserError(f"is to be shown turned by {degrees} degrees; re-encode it upright")
    turned = np.rot90(pixels, degrees // 90 % 4)
    lying = size is not None and turned.shape[:2] != size and pixels.shape[:2] == size
    return pixels if lying else np.ascontiguousarray(turned)


def _decoded(container: InputContainer, max_pixels: int, where: str) -> Iterator[av.VideoFrame]:
    """The frames in order of presentation; a decoder holds back what it needs to bring them into it."""
    if not container.streams.video:
        raise UserError(f"{where}: has no video stream; download it again")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context.width * context.height > max_pixels:
        raise too_many_pixels(where, max_pixels)
    context.thread_count = 1  # samples are converted in parallel already
    last = None
    for number, frame in enumerate(container.decode(stream)):
        # The decoder hides damage by repeating what it has; that is no frame of the video any more.
        if frame.is_corrupt:
            raise UserError(f"{where}: frame {number} is damaged; download it again")
        if last is not None and frame.pts is not None and frame.pts < last:
            raise UserError(f"{where}: frame {number} is to be shown before frame {number - 1}; re-encode it")
        last = frame.pts
        yield frame


def every_frame(path: Path, stride: int, size: tuple[int, int] | None, max_pixels: int) -> Extracted:
    """Decode a video once from its start to its end and keep every `stride`-th frame as JPEG.

    There is no seeking: a seek lands on a key frame, and which one depends on time stamps. Only the JPEGs are held
    in memory.

    Args:
        path: Anything that FFmpeg reads.
        stride: Keeps the frames 0, stride, 2 * stride, ...
        size: (height, width) of the annotations; decides whether a note to turn the video is followed.
        max_pixels: Of a frame.

    Raises:
        UserError: The video is missing, damaged, larger than allowed, or changes its size.
    """
    result = Extracted()
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(_decoded(container, max_pixels, str(path))):
                result.count += 1
                if number % stride:
                    continue
                pixels = upright(frame.to_ndarray(format="rgb24"), frame.rotation, size)
                if result.frames and pixels.shape[:2] != (result.height, result.width):
                    raise UserError(f"{path}: frame {number} has another size than those before it; re-encode it")
                result.height, result.width = pixels.shape[:2]
                result.frames[number] = encode_jpeg(pixels)
            rate = container.streams.video[0].average_rate
            result.fps = float(rate) if rate else None
    except FFmpegError as error:
        reached = f" after frame {result.count - 1}" if result.count else ""
        raise UserError(f"{path}: cannot be decoded{reached} ({error.strerror}); download it again") from error
    if not result.frames:
        raise UserError(f"{path}: has no frame; download it again")
    return result
