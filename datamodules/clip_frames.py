"""Which frames of a video a clip shows: pure functions of random numbers."""

from __future__ import annotations

import numpy as np


def jittered_steps(rng: np.random.Generator, length: int, frames: int, gaps: tuple[int, int]) -> np.ndarray:
    """How far each frame of a clip lies behind its first one, (length,), 0 first.

    Every step is drawn from the range of gaps anew, narrowed from above where the clip would not fit into the video.

    Args:
        rng: Of the sample.
        length: Frames of the clip.
        frames: Frames to choose from.
        gaps: Smallest and largest step.
    """
    if length == 1:
        return np.zeros(1, dtype=np.int64)
    low, high = gaps
    largest = max(low, min(high, (frames - 1) // (length - 1)))
    return np.concatenate(([0], np.cumsum(rng.integers(low, largest + 1, length - 1))))


def reflected(positions: np.ndarray, frames: int) -> np.ndarray:
    """Positions on [0, frames), those beyond the ends reflected as often as needed: 0 1 2 1 0 1 2 of three frames."""
    if frames == 1:
        return np.zeros_like(positions)
    phase = np.mod(positions, 2 * (frames - 1))
    return np.minimum(phase, 2 * (frames - 1) - phase)


def drawn_clip(
    rng: np.random.Generator, starts: np.ndarray, length: int, gaps: tuple[int, int], reverse_probability: float
) -> np.ndarray:
    """A clip at random.

    It begins at one of `starts`, from which it fits into the video where there is one, and is reflected in time (plays
    to the end and back) where it does not fit. Without any start it begins anywhere.

    Args:
        rng: Of the sample.
        starts: (frames,) bool, where a clip may begin.
        length: Frames of the clip.
        gaps: Smallest and largest step from one frame to the next.
        reverse_probability: Of a clip that runs backwards.

    Returns:
        Positions (length,) in the video.
    """
    frames = len(starts)
    steps = jittered_steps(rng, length, frames, gaps)
    if rng.random() < reverse_probability:
        steps = -steps
    ends = np.arange(frames) + steps[-1]
    fits = (ends >= 0) & (ends < frames)
    allowed = next(rule for rule in (starts & fits, starts, fits, ~starts) if rule.any())
    return reflected(rng.choice(np.flatnonzero(allowed)) + steps, frames)


def first_clip(starts: np.ndarray, length: int, gap: int) -> np.ndarray:
    """The clip at the first start with equal steps, reflected where the video is too short; for validation."""
    return reflected(int(starts.argmax()) + gap * np.arange(length), len(starts))


def returns(areas: np.ndarray) -> np.ndarray:
    """How often each object comes back in the second half of a clip: once for an absence, half for a partial one.

    It comes back from one frame to the next, to over 0.3 of its largest area in the video, from under 0.02 (away) or
    under 0.25 (mostly hidden), and was seen with over 0.15 in the first frame, where a tracker is prompted. More than
    1.5 are not counted, so that one that flickers does not outweigh the others.

    Args:
        areas: (objects, length) shares of the largest area.
    """
    before, now = areas[:, :-1], areas[:, 1:]
    back = (now > 0.3) * ((before < 0.02) + 0.5 * ((before >= 0.02) & (before < 0.25)))
    second_half = back[:, max(0, areas.shape[1] // 2 - 1) :]
    return np.where(areas[:, 0] > 0.15, np.minimum(second_half.sum(1), 1.5), 0.0)
