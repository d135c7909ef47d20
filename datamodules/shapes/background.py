"""Photo-like backgrounds without any thing: smooth noise in muted colours, sometimes with a horizon."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.shapes.outlines import Field
from datamodules.shapes.textures import Colour

SIDE = 96  # noise is made at this size and enlarged: a photograph's background is a little out of focus
_STRETCHES = ((1, 1), (2, 2), (4, 4), (9, 9), (2, 5), (5, 2), (1, 3), (2, 12), (12, 2))


@dataclass(frozen=True)
class Background:
    """What is behind the things, and the light on everything.

    Attributes:
        seed: the noise is a pure function of it, at every image size.
        colours: the palette (RGB in [0, 1]), dark to light of the noise field.
        far_colours: the palette above the horizon.
        horizon: height of the horizon as a fraction of the image height; None is a scene without one.
        stretch: cells of the coarsest noise along (x, y).
        roughness: amplitude of one octave over that of the octave before.
        light: direction that the light comes from (x, y) times its strength, as a fraction of brightness.
        blur: radius of the lens blur, in pixels.
        grain: standard deviation of the sensor's noise, in grey levels of 255.
    """

    seed: int
    colours: tuple[Colour, ...]
    far_colours: tuple[Colour, ...]
    horizon: float | None
    stretch: tuple[int, int]
    roughness: float
    light: tuple[float, float]
    blur: float
    grain: float


def random_background(rng: np.random.Generator) -> Background:
    """Draw a background.

    Args:
        rng: the generator of the scene.
    """
    angle = rng.uniform(0.0, 2.0 * np.pi)
    strength = rng.uniform(0.05, 0.22)
    return Background(
        seed=int(rng.integers(2**31)),
        colours=_muted_palette(rng),
        far_colours=_muted_palette(rng),
        horizon=float(rng.uniform(0.2, 0.7)) if rng.random() < 0.35 else None,
        stretch=_STRETCHES[int(rng.integers(len(_STRETCHES)))],
        roughness=float(rng.uniform(0.30, 0.80)),
        light=(float(strength * np.cos(angle)), float(strength * np.sin(angle))),
        blur=float(rng.uniform(0.2, 0.7)),
        grain=float(rng.uniform(1.0, 6.0)),
    )


def paint_background(background: Background, height: int, width: int) -> Field:
    """Render a background.

    Args:
        background: what to render.
        height: image height in pixels.
        width: image width in pixels.

    Returns:
        RGB planes `(3, height, width)` in [0, 255], before light, blur and grain.
    """
    return enlarge(backdrop(background), height, width)


def backdrop(background: Background, side: int = SIDE) -> NDArray[np.uint8]:
    """Make a background at a small size.

    Args:
        background: what to make.
        side: of the result, in pixels.

    Returns:
        RGB planes `(3, side, side)`.
    """
    rng = np.random.default_rng(background.seed)
    texture = smooth_noise(rng, background.stretch, background.roughness, side)
    shade = 1.0 + 0.08 * smooth_noise(rng, (2, 2), 0.8, side)
    image = _through_palette(texture, background.colours)
    if background.horizon is not None:
        far = _through_palette(smooth_noise(rng, (1, 2), 0.4, side), background.far_colours)
        ridge = background.horizon + 0.03 * smooth_noise(rng, (2, 2), 0.5, side)[0]
        rows = (np.arange(side, dtype=np.float32)[:, None] + 0.5) / side
        near_share = np.clip((rows - ridge[None, :]) * side / 1.5 + 0.5, 0.0, 1.0)
        image = near_share * image + (1.0 - near_share) * far
    return np.clip(image * shade * 255.0, 0, 255).astype(np.uint8)


def enlarge(
    small: NDArray[np.uint8], height: int, width: int, box: tuple[float, float, float, float] | None = None
) -> Field:
    """Bring a backdrop, or the part of it that a camera sees, to the size of an image.

    Args:
        small: RGB planes `(3, side, side)`.
        height: image height in pixels.
        width: image width in pixels.
        box: the part, as left, top, right, bottom in fractions of the backdrop; None is all of it.

    Returns:
        RGB planes `(3, height, width)` in [0, 255].
    """
    side = small.shape[-1]
    part = None if box is None else (box[0] * side, box[1] * side, box[2] * side, box[3] * side)
    large = np.empty((3, height, width), dtype=np.float32)
    for plane, channel in zip(large, small, strict=True):
        plane[:] = np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC, part))
    return large


def smooth_noise(rng: np.random.Generator, cells: tuple[int, int], roughness: float, side: int = SIDE) -> Field:
    """Sum octaves of smooth noise, from coarse to fine, each twice as fine and `roughness` times as strong.

    Args:
        rng: where the noise comes from.
        cells: cells of the coarsest octave along (x, y).
        roughness: amplitude of one octave over that of the octave before.
        side: of the result.

    Returns:
        A field `(side, side)` with mean 0 and standard deviation 1.
    """
    columns, rows = cells[0] + 1, cells[1] + 1
    field = rng.standard_normal((rows, columns), dtype=np.float32)
    amplitude = 1.0
    while max(columns, rows) < side:
        columns, rows, amplitude = min(2 * columns, side), min(2 * rows, side), amplitude * roughness
        field = _resize(field, rows, columns)
        field += np.float32(amplitude) * rng.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) != (side, side):
        field = _resize(field, side, side)
    return (field - field.mean()) / (field.std() + np.float32(1e-6))


def _resize(field: Field, rows: int, columns: int) -> Field:
    return np.array(Image.fromarray(field).resize((columns, rows), Image.Resampling.BICUBIC))


def _through_palette(field: Field, colours: tuple[Colour, ...]) -> Field:
    """Map a field of standard deviation 1 to colours `(3, rows, columns)`, linearly between neighbours."""
    stops = np.linspace(-1.8, 1.8, len(colours))
    return np.stack([np.interp(field, stops, channel) for channel in zip(*colours, strict=True)]).astype(np.float32)


def _muted_palette(rng: np.random.Generator) -> tuple[Colour, ...]:
    """Draw three or four colours of low saturation around one hue, dark to light."""
    hue, spread = rng.random(), rng.uniform(0.02, 0.10)
    middle, contrast = rng.uniform(0.38, 0.68), rng.uniform(0.06, 0.22)
    count = int(rng.integers(3, 5))
    values = np.linspace(middle - contrast, middle + contrast, count)
    return tuple(
        colorsys.hsv_to_rgb((hue + rng.uniform(-spread, spread)) % 1.0, rng.uniform(0.06, 0.32), float(value))
        for value in values
    )
