"""Frames per second and peak memory of a model that tracks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from phd import peak_memory as peak_memory_of_process

INCLUDES = (
    "model time: the frame's resizing and normalising, encoding, reading and writing the memory of all objects, "
    "decoding, and masks at the video's size; without reading files, scoring and writing; without the first video "
    "(the first frame where there is only one video), which warms up"
)
MEBIBYTE = 1 << 20


class Clock:
    """Seconds of model time of every frame, by video.

    Args:
        device: Of the model; waited for before the clock is read.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[list[float]] = []

    def next_video(self) -> None:
        """The frames that follow belong to another video."""
        self.seconds.append([])

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Time what is inside as one frame."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[-1].append(time.perf_counter() - start)

    def to_dict(self) -> dict[str, Any]:
        """Frames per second after the warm-up, of how many frames, and what that includes."""
        videos = [video for video in self.seconds if video]
        after_warm_up = videos[1:] if len(videos) > 1 else [video[1:] for video in videos]
        counted = [seconds for video in after_warm_up for seconds in video]
        fps = len(counted) / sum(counted) if counted else None
        return {"fps": fps, "fps_frames": len(counted), "fps_includes": INCLUDES}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def forget_peak(device: torch.device) -> None:
    """Begin to measure the peak anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    peak_memory_of_process.forget_peak()


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Peak memory in MiB, and of what."""
    if device.type == "cuda":
        peak, what = torch.cuda.max_memory_allocated(device), "tensors on the device"
    else:
        peak, what = peak_memory_of_process.peak_bytes(), "resident set of the whole process"
    return {"peak_memory_mb": peak / MEBIBYTE, "peak_memory_of": what, "device": str(device)}
