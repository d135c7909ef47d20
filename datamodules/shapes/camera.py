"""The camera of a clip: which part of the world is in the frame, and where that puts a thing."""

from dataclasses import dataclass

import numpy as np

from datamodules.shapes.motion import Curve, curve, knot_count, knot_times
from datamodules.shapes.placement import Pose

EXTENT = 1.8  # sides of the backdrop over those of the frame at zoom 1; the world's coordinates are the latter's
_PAN = 0.22  # farthest that the camera looks away from the middle, in sides of the frame
_NEAREST, _FARTHEST = 1.4, 0.88  # zoom; half a frame at the farthest and the pan stay on the backdrop


@dataclass(frozen=True)
class View:
    """What the camera sees in one frame.

    Attributes:
        x: centre of the frame in the world, as a fraction of the frame's width at zoom 1.
        y: likewise, of its height.
        zoom: how much larger everything is.
    """

    x: float
    y: float
    zoom: float

    def box(self) -> tuple[float, float, float, float]:
        """Return the part of the backdrop in the frame: left, top, right, bottom in fractions of its side."""
        reach = 0.5 / self.zoom
        sides = (self.x - reach, self.y - reach, self.x + reach, self.y + reach)
        left, top, right, bottom = (0.5 + (side - 0.5) / EXTENT for side in sides)
        return left, top, right, bottom


@dataclass(frozen=True)
class Take:
    """The frame of a clip and its camera.

    Attributes:
        frames: how many there are.
        height: of a frame in pixels.
        width: of a frame in pixels.
        camera: x, y and zoom of each view `(frames, 3)`.
    """

    frames: int
    height: int
    width: int
    camera: Curve

    @property
    def short(self) -> int:
        """The short side in pixels, which sizes are fractions of."""
        return min(self.height, self.width)

    def to_world(self, points: Curve) -> Curve:
        """Carry points (x, y) of each frame, in its fractions, to the world."""
        return self.camera[:, :2] + (points - 0.5) / self.camera[:, 2:]

    def to_frame(self, points: Curve) -> Curve:
        """Carry points (x, y) of the world at each frame into that frame."""
        return 0.5 + (points - self.camera[:, :2]) * self.camera[:, 2:]

    def poses(self, path: Curve, size: Curve, turn: Curve) -> list[Pose]:
        """Where a thing is in each frame.

        Args:
            path: its centre in the world `(frames, 2)`.
            size: its diameter in the world, as a fraction of the short side.
            turn: its clockwise angle in radians.
        """
        places = self.to_frame(path)
        sizes = size * self.camera[:, 2]
        return [
            Pose(float(x), float(y), float(diameter), float(angle))
            for (x, y), diameter, angle in zip(places, sizes, turn, strict=True)
        ]

    def views(self) -> tuple[View, ...]:
        """The views, one per frame."""
        return tuple(View(float(x), float(y), float(zoom)) for x, y, zoom in self.camera)


def random_camera(rng: np.random.Generator, frames: int) -> Curve:
    """Draw the views of a clip `(frames, 3)`: still, panning, zooming or both."""
    camera = np.empty((frames, 3))
    camera[:, :2], camera[:, 2] = 0.5, 1.0
    if rng.random() < 0.5:
        count = knot_count(rng, frames)
        camera[:, :2] = curve(knot_times(rng, count), 0.5 + rng.uniform(-_PAN, _PAN, size=(count, 2)), frames)
    if rng.random() < 0.4:
        zooms = np.exp(rng.uniform(np.log(_FARTHEST), np.log(_NEAREST), size=2))
        camera[:, 2] = curve(knot_times(rng, 2), zooms, frames)
    return camera
