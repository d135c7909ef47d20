"""Colours and textures of the embedded world's things."""

import colorsys
from collections.abc import Callable

import numpy as np

from datamodules.shapes.outlines import Field

Colour = tuple[float, float, float]

# Name -> (hue in degrees, saturation, value, value of the second colour).
# The second colour is a darker shade of the first; black can only get lighter.
PALETTE: dict[str, tuple[float, float, float, float]] = {
    "red": (357.0, 0.85, 0.84, 0.45),
    "orange": (27.0, 0.92, 0.96, 0.58),
    "yellow": (53.0, 0.85, 0.95, 0.62),
    "green": (128.0, 0.72, 0.62, 0.30),
    "cyan": (182.0, 0.78, 0.86, 0.48),
    "blue": (222.0, 0.82, 0.80, 0.42),
    "purple": (278.0, 0.66, 0.66, 0.34),
    "pink": (328.0, 0.48, 0.96, 0.62),
    "white": (40.0, 0.03, 0.96, 0.66),
    "black": (220.0, 0.10, 0.09, 0.36),
}


def colour_pair(name: str, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Draw one variant of a named colour.

    Args:
        name: a key of `PALETTE`.
        rng: the generator of the scene.

    Returns:
        The first and the second colour (RGB in [0, 1]): one hue, two values.
    """
    hue, saturation, value, shade = PALETTE[name]
    hue = (hue + rng.uniform(-5.0, 5.0)) % 360.0 / 360.0
    saturation = min(1.0, saturation * rng.uniform(0.9, 1.08))
    gain = rng.uniform(0.92, 1.04)
    return (
        colorsys.hsv_to_rgb(hue, saturation, min(1.0, value * gain)),
        colorsys.hsv_to_rgb(hue, saturation, min(1.0, shade * gain)),
    )


def plain(u: Field, v: Field, period: float) -> Field:
    """No second colour anywhere."""
    return np.ones_like(u)


def striped(u: Field, v: Field, period: float) -> Field:
    """Straight bands of equal width."""
    return _to_grid(u, period, 0.5) - 0.25 * period


def dotted(u: Field, v: Field, period: float) -> Field:
    """Dots on a square grid, one of them in the middle."""
    return np.hypot(_to_grid(u, period, 0.0), _to_grid(v, period, 0.0)) - 0.30 * period


def checkered(u: Field, v: Field, period: float) -> Field:
    """Squares of alternating colour."""
    u, v = _to_grid(u, period, 0.5) - 0.25 * period, _to_grid(v, period, 0.5) - 0.25 * period
    return np.minimum(np.abs(u), np.abs(v)) * np.where((u < 0) == (v < 0), np.float32(1), np.float32(-1))


def _to_grid(x: Field, period: float, phase: float) -> Field:
    """Return the distance to the nearest multiple of `period`, shifted by `phase` periods."""
    cycles = x / np.float32(period) - np.float32(phase)
    return np.abs(cycles - np.rint(cycles)) * np.float32(period)


TEXTURES: dict[str, Callable[[Field, Field, float], Field]] = {
    function.__name__: function for function in (plain, striped, dotted, checkered)
}
"""Texture name -> signed distance (negative in the second colour) of local points, in radii of the shape."""
