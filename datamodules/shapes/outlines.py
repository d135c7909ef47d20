"""Outlines of the embedded world's shapes as signed distance functions, each inside the unit circle."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
"""One real number per pixel; float32 in, float32 out."""

BAR_THICKNESS = 0.14  # of a bar, over that of its circle


def disk(u: Field, v: Field) -> Field:
    """The full circle."""
    return np.hypot(u, v) - 1.0


def ring(u: Field, v: Field) -> Field:
    """A circle with a hole of half its radius."""
    return np.abs(np.hypot(u, v) - 0.76) - 0.24


def square(u: Field, v: Field) -> Field:
    """Four equal sides, corners on the unit circle."""
    return np.maximum(np.abs(u), np.abs(v)) - 0.7071


def rectangle(u: Field, v: Field) -> Field:
    """Twice as wide as high, and a little more."""
    return np.maximum(np.abs(u) - 0.91, np.abs(v) - 0.41)


def triangle(u: Field, v: Field) -> Field:
    """Equilateral, one corner up."""
    return np.maximum(v, 0.8660 * np.abs(u) - 0.5 * v) - 0.5


def star(u: Field, v: Field) -> Field:
    """Five points: one tenth of it, folded ten times around the centre."""
    sector = np.float32(2 * np.pi / 5)
    angle = np.arctan2(u, -v)
    angle = np.abs(angle - sector * np.rint(angle / sector))
    radius = np.hypot(u, v)
    valley_x, valley_y = 0.46 * np.cos(np.pi / 5), 0.46 * np.sin(np.pi / 5)
    length = float(np.hypot(valley_x - 1.0, valley_y))
    normal_x, normal_y = float(valley_y / length), float((1.0 - valley_x) / length)
    return radius * (normal_x * np.cos(angle) + normal_y * np.sin(angle)) - normal_x


def cross(u: Field, v: Field) -> Field:
    """Two equal bars at a right angle."""
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - 0.95, np.minimum(u, v) - 0.29)


def heart(u: Field, v: Field) -> Field:
    """A square on its corner with a half disk on each of its two upper sides."""
    half_diagonal = 0.785
    u, v = np.abs(u), v - 0.25 * half_diagonal
    body = (u + np.abs(v) - half_diagonal) * 0.7071
    lobe = np.hypot(u - 0.5 * half_diagonal, v + 0.5 * half_diagonal) - 0.7071 * half_diagonal
    return np.minimum(body, lobe)


def crescent(u: Field, v: Field) -> Field:
    """A disk with a smaller disk bitten out of its right side."""
    return np.maximum(np.hypot(u, v) - 1.0, 0.80 - np.hypot(u - 0.50, v))


def arrow(u: Field, v: Field) -> Field:
    """A triangular head on a shaft, pointing up."""
    u = np.abs(u)
    head = np.maximum(v - 0.05, (1.05 * u - 0.80 * (v + 1.0)) / 1.32)
    shaft = np.maximum(u - 0.27, np.abs(v - 0.45) - 0.50)
    return np.minimum(head, shaft)


def bar(u: Field, v: Field) -> Field:
    """A long straight strip, `BAR_THICKNESS` of its length across; nothing that is asked for, it hides things."""
    return np.maximum(np.abs(u) - BAR_THICKNESS, np.abs(v) - 0.98)


OUTLINES: dict[str, Callable[[Field, Field], Field]] = {
    function.__name__: function
    for function in (disk, ring, square, rectangle, triangle, star, cross, heart, crescent, arrow)
}
"""Shape name -> signed distance (negative inside) of local points (u right, v down), in radii."""

ALL_OUTLINES = {**OUTLINES, "bar": bar}
"""The same with what is no thing."""
