"""Scenes of the embedded world: what there is (identity) and where it is (pose), without a single pixel."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.background import Background, random_background
from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.placement import Pose, outline_mask
from datamodules.shapes.textures import PALETTE, TEXTURES, Colour, colour_pair

MIN_SIDE, MAX_SIDE = 176, 320  # of an image, in pixels
MIN_FRAME = 64
MIN_THINGS, MAX_THINGS = 2, 6
MIN_SIZE, MAX_SIZE = 0.16, 0.50
MIN_VISIBLE_SHARE = 0.45
MIN_INSIDE_SHARE = 0.75
MIN_VISIBLE_PIXELS = 60

# Placement is checked on a raster with this short side; its areas differ from the image's by a few percent.
_RASTER = 72
_RASTER_TOLERANCE = 0.04


@dataclass(frozen=True)
class Identity:
    """What a thing is, wherever it goes.

    Attributes:
        shape: a key of `OUTLINES`.
        colour: a key of `PALETTE`.
        texture: a key of `TEXTURES`.
        rgb: the first colour, a variant of `colour` (RGB in [0, 1]).
        shade: the second colour of the texture, of the same hue.
        period: length of the texture's pattern, in radii of the thing.
    """

    shape: str
    colour: str
    texture: str
    rgb: Colour
    shade: Colour
    period: float


@dataclass(frozen=True)
class Thing:
    """An identity at a pose."""

    identity: Identity
    pose: Pose

    def phrases(self) -> tuple[str, str, str]:
        """Return its noun phrases, from general to special: "ring", "red ring", "red striped ring"."""
        name = self.identity
        return name.shape, f"{name.colour} {name.shape}", f"{name.colour} {name.texture} {name.shape}"


@dataclass(frozen=True)
class Scene:
    """A background and the things before it, drawn in their order: a later thing hides an earlier one."""

    background: Background
    things: tuple[Thing, ...]


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw an image size (height, width) in pixels."""
    height, width = rng.integers(MIN_SIDE, MAX_SIDE + 1, size=2)
    return int(height), int(width)


def random_identity(rng: np.random.Generator) -> Identity:
    """Draw what a thing is."""
    shape, colour, texture = (_choice(rng, tuple(table)) for table in (OUTLINES, PALETTE, TEXTURES))
    rgb, shade = colour_pair(colour, rng)
    return Identity(shape, colour, texture, rgb, shade, period=float(rng.uniform(0.40, 0.52)))


def similar_identity(rng: np.random.Generator, model: Identity) -> Identity:
    """Draw an identity that is easily mistaken for another: the same, or with one attribute redrawn."""
    return _alike(rng, model, random_identity(rng))


def random_pose(rng: np.random.Generator) -> Pose:
    """Draw where a thing is; small things are as frequent as large ones."""
    return Pose(
        x=float(rng.uniform(0.05, 0.95)),
        y=float(rng.uniform(0.05, 0.95)),
        size=float(np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE)))),
        rotation=float(rng.uniform(0.0, 2.0 * np.pi)),
    )


def random_scene(rng: np.random.Generator, height: int = 256, width: int = 256) -> Scene:
    """Draw a scene of 2 to 6 things in which every thing can be seen.

    Of each thing, at least three quarters lie inside the frame and 45 % (and 60 pixels) are visible.

    Args:
        rng: the only source of randomness; the scene is a pure function of its state and of the size.
        height: height of the frame in pixels; its aspect decides what overlaps.
        width: width of the frame in pixels.

    Raises:
        ValueError: the frame is too small for things of `MIN_VISIBLE_PIXELS`.
    """
    if min(height, width) < MIN_FRAME:
        raise ValueError(f"a frame of {height} x {width} pixels is too small: its sides need {MIN_FRAME}")
    background = random_background(rng)
    wanted = int(rng.integers(MIN_THINGS, MAX_THINGS + 1))
    scale = _RASTER / min(height, width)
    raster_size = round(height * scale), round(width * scale)
    least_pixels = 1.1 * MIN_VISIBLE_PIXELS * scale**2
    while True:
        things: list[Thing] = []
        visible: list[NDArray[np.bool_]] = []
        full_areas: list[float] = []
        for _ in range(8 * wanted):
            if len(things) == wanted:
                break
            identity, pose = _random_member(rng, things), random_pose(rng)
            mask, full_area = outline_mask(identity.shape, pose, *raster_size)
            if mask.sum() < (MIN_INSIDE_SHARE + _RASTER_TOLERANCE) * full_area or mask.sum() < least_pixels:
                continue
            remaining = [earlier & ~mask for earlier in visible]
            if any(
                left.sum() < max((MIN_VISIBLE_SHARE + _RASTER_TOLERANCE) * area, least_pixels)
                for left, area in zip(remaining, full_areas, strict=True)
            ):
                continue
            things.append(Thing(identity, pose))
            visible = [*remaining, mask]
            full_areas.append(full_area)
        if len(things) >= MIN_THINGS:
            return Scene(background, tuple(things))


def numbered_scene(seed: int, index: int) -> tuple[Scene, int, int]:
    """Draw scene number `index` of the world `seed`: a pure function of the two.

    Returns:
        The scene, and the height and width in pixels at which it is meant to be rendered.
    """
    rng = np.random.default_rng([seed, index])
    height, width = random_size(rng)
    return random_scene(rng, height, width), height, width


def _random_member(rng: np.random.Generator, things: list[Thing]) -> Identity:
    """Draw an identity; sometimes that of a thing in the scene, whole or with one attribute redrawn."""
    fresh = random_identity(rng)
    if not things or rng.random() < 0.7:
        return fresh
    return _alike(rng, things[int(rng.integers(len(things)))].identity, fresh)


def _alike(rng: np.random.Generator, model: Identity, fresh: Identity) -> Identity:
    """Return the model, whole or with one attribute of the fresh identity."""
    kind = int(rng.integers(4))
    if kind == 0:
        return model
    if kind == 1:
        return replace(model, shape=fresh.shape)
    if kind == 2:
        return replace(model, texture=fresh.texture)
    return replace(model, colour=fresh.colour, rgb=fresh.rgb, shade=fresh.shade)


def _choice(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]
