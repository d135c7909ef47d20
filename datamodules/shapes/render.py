"""Scene -> image and masks, in numpy, by signed distances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from datamodules.shapes.background import Background, enlarge, paint_background
from datamodules.shapes.outlines import ALL_OUTLINES, Field
from datamodules.shapes.placement import Pose, patch_around
from datamodules.shapes.textures import TEXTURES
from datamodules.shapes.world import Identity, Scene

_SHADOW_REACH = 0.28  # radii
_SHADOW_DEPTH = 0.45
_RIM_WIDTH = 0.16  # radii over which a thing darkens towards its border
_RIM_DEPTH = 0.22


@dataclass(frozen=True)
class Shot:
    """One frame of a film, as far as the things are not concerned.

    Attributes:
        backdrop: the background of the whole film, RGB planes `(3, side, side)`.
        box: the part of it in the frame, as left, top, right, bottom in fractions of its side.
        number: of the frame; its grain is its own.
    """

    backdrop: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    number: int


def render(
    scene: Scene, height: int, width: int, poses: Sequence[Pose] | None = None, shot: Shot | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Render a scene.

    Args:
        scene: what to render.
        height: image height in pixels.
        width: image width in pixels.
        poses: where the things are instead of at their own poses, one per thing, in their order.
        shot: what a moving camera sees behind them instead of the scene's background at rest.

    Returns:
        The RGB image `(height, width, 3)` and the visible pixels of each thing `(things, height, width)`; a
        thing that is hidden or outside the frame has an empty mask.
    """
    if poses is None:
        poses = [thing.pose for thing in scene.things]
    if shot is None:
        canvas = paint_background(scene.background, height, width)
    else:
        canvas = enlarge(shot.backdrop, height, width, shot.box)
    owner = np.full((height, width), -1, dtype=np.int16)
    for index, (thing, pose) in enumerate(zip(scene.things, poses, strict=True)):
        _draw(canvas, owner, index, thing.identity, pose)
    masks = owner[None] == np.arange(len(scene.things), dtype=np.int16)[:, None, None]
    return _photograph(canvas, scene.background, () if shot is None else (1 + shot.number,)), masks


def _draw(canvas: Field, owner: NDArray[np.int16], index: int, identity: Identity, pose: Pose) -> None:
    """Draw a thing and its shadow over what is there, and take over the pixels that it covers."""
    patch = patch_around(pose, canvas.shape[1], canvas.shape[2], margin=_SHADOW_REACH)
    if patch.u.size == 0:
        return
    distance = ALL_OUTLINES[identity.shape](patch.u, patch.v).astype(np.float32, copy=False)
    sharpness = np.float32(patch.radius)  # one pixel in local units is 1 / radius

    below = canvas[:, patch.rows, patch.columns]
    nearness = np.clip(1.0 - distance / np.float32(_SHADOW_REACH), 0.0, 1.0)
    below *= 1.0 - np.float32(_SHADOW_DEPTH) * nearness * nearness * nearness

    second = np.clip(0.5 - TEXTURES[identity.texture](patch.u, patch.v, identity.period) * sharpness, 0.0, 1.0)
    first_rgb, second_rgb = (255.0 * np.array(rgb, np.float32)[:, None, None] for rgb in (identity.rgb, identity.shade))
    colour = first_rgb + second * (second_rgb - first_rgb)
    rim = np.clip(1.0 + distance / np.float32(_RIM_WIDTH), 0.0, 1.0)
    colour *= 1.0 - np.float32(_RIM_DEPTH) * rim * rim

    coverage = np.clip(0.5 - distance * sharpness, 0.0, 1.0)
    below += coverage * (colour - below)
    owner[patch.rows, patch.columns][distance < 0] = index


def _photograph(canvas: Field, background: Background, number: tuple[int, ...]) -> NDArray[np.uint8]:
    """Light, lens blur and sensor noise, which is another one for each number."""
    height, width = canvas.shape[1:]
    toward_x, toward_y = background.light
    x = np.linspace(-toward_x, toward_x, width, dtype=np.float32)
    y = np.linspace(-toward_y, toward_y, height, dtype=np.float32)
    light = 1.0 + x[None, :] + y[:, None]
    rng = np.random.default_rng([background.seed, height, width, *number])
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(background.grain)
    # Noise first, so that one blur serves both: a sensor's noise is smooth after the camera's own processing.
    lit = canvas * light + grain
    planes = np.clip(lit, 0, 255, out=lit).astype(np.uint8)
    image = Image.merge("RGB", [Image.fromarray(plane) for plane in planes])
    return np.array(image.filter(ImageFilter.BoxBlur(background.blur)))
