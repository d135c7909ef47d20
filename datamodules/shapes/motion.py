"""Curves over time: how positions, sizes and angles change from frame to frame."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Curve = NDArray[np.float64]
"""One number `(frames,)`, or one point (x, y) `(frames, 2)`, per frame."""


def clock(frames: int) -> Curve:
    """Return the time of each frame, from 0 to 1."""
    return np.linspace(0.0, 1.0, frames)


def curve(times: Sequence[float] | Curve, knots: Sequence[float] | Curve, frames: int) -> Curve:
    """Lead a smooth curve through knots, each coordinate monotone between two of them.

    Monotone cubic interpolation (Fritsch and Carlson 1980) never overshoots, so what is planned at the knots holds
    between them.

    Args:
        times: of the knots, ascending; before the first and after the last one the curve stands still.
        knots: numbers `(knots,)` or points `(knots, 2)`.
        frames: number of frames from time 0 to time 1.
    """
    inside = np.clip(clock(frames), times[0], times[-1])
    return np.asarray(PchipInterpolator(times, knots, axis=0)(inside))


def knot_times(rng: np.random.Generator, count: int) -> Curve:
    """Draw ascending times from 0 to 1; their uneven distances speed a motion up and slow it down."""
    steps = rng.uniform(0.5, 1.5, size=count - 1)
    return np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])


def knot_count(rng: np.random.Generator, frames: int) -> int:
    """Draw a number of knots, one for every 16 to 48 frames and at least two."""
    return 1 + max(1, round(frames / rng.uniform(16.0, 48.0)))


def ramp(frames: int, start: float, end: float) -> Curve:
    """Rise from 0 to 1 between two times, accelerating first and braking then."""
    share = np.clip((clock(frames) - start) / (end - start), 0.0, 1.0)
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def excursion(frames: int, away: float, there: float, back: float, home: float) -> Curve:
    """Rise from 0 to 1 between the times `away` and `there`, and fall to 0 between `back` and `home`."""
    return ramp(frames, away, there) - ramp(frames, back, home)


def blend(own: Curve, other: Curve, weight: Curve) -> Curve:
    """Follow another path `(frames, 2)` as far as the weight `(frames,)` says; at 1 it is that path exactly."""
    share = weight[:, None]
    return np.where(share == 1.0, other, own + share * (other - own))


def random_sizes(rng: np.random.Generator, frames: int, low: float, high: float) -> Curve:
    """Draw diameters within [low, high] that grow and shrink; some stay as they are."""
    middle = rng.uniform(np.log(low), np.log(high))
    if rng.random() < 0.3:
        return np.full(frames, np.exp(middle))
    count = max(2, knot_count(rng, frames) - 1)
    knots = np.clip(middle + rng.uniform(-0.45, 0.45, size=count), np.log(low), np.log(high))
    return np.exp(curve(knot_times(rng, count), knots, frames))


def random_angles(rng: np.random.Generator, frames: int) -> Curve:
    """Draw clockwise angles in radians that turn this way and that; some things do not turn."""
    start = rng.uniform(0.0, 2.0 * np.pi)
    if rng.random() < 0.3:
        return np.full(frames, start)
    count = knot_count(rng, frames)
    turns = np.concatenate([[0.0], np.cumsum(rng.normal(0.0, 1.1, size=count - 1))])
    return start + curve(knot_times(rng, count), turns, frames)
