"""Clips of the embedded world: which things there are, and where they are in every frame, without a single pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.acts import Track
from datamodules.shapes.background import SIDE, Background, backdrop, random_background
from datamodules.shapes.camera import EXTENT, Take, View, random_camera
from datamodules.shapes.placement import Pose
from datamodules.shapes.render import Shot, render
from datamodules.shapes.script import cast, random_plan
from datamodules.shapes.survey import Survey, happenings, survey
from datamodules.shapes.world import (
    MIN_THINGS,
    MIN_VISIBLE_PIXELS,
    MIN_VISIBLE_SHARE,
    Scene,
    Thing,
    random_size,
)

FPS, STRIDE = 24, 4  # of SA-V: frames a second, and frames from one annotated frame to the next
SECONDS = (3.0, 5.0)
Occlusion = Literal["any", "long"]

_STREAM = 24  # keeps the draws of clips apart from those of still scenes
_LEAST_SEEN = 0.3  # of the annotated frames, by every object that no one hides for long
_LONG = 0.5
_FASTEST = 0.09  # sides of the frame, from one frame to the next


@dataclass(frozen=True)
class Clip:
    """What is seen in every frame.

    Attributes:
        scene: everything that is drawn, from back to front; its poses are those of the first frame.
        height: of a frame in pixels, even.
        width: of a frame in pixels, even.
        poses: of each thing in each frame `[frame][thing]`.
        views: of the camera, one per frame.
    """

    scene: Scene
    height: int
    width: int
    poses: tuple[tuple[Pose, ...], ...]
    views: tuple[View, ...]

    stride = STRIDE

    @property
    def objects(self) -> list[int]:
        """Which of the things are annotated: all but the bars."""
        return [index for index, thing in enumerate(self.scene.things) if thing.identity.shape != "bar"]

    @property
    def annotated(self) -> range:
        """Numbers of the annotated frames."""
        return range(0, len(self.poses), self.stride)

    def pictures(self, step: int = 1) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Render the frames one after the other.

        Args:
            step: from one frame that is rendered to the next; `stride` renders the annotated ones.

        Yields:
            The RGB image `(height, width, 3)` and the visible pixels of each object `(objects, height, width)`.
        """
        behind = backdrop(self.scene.background, round(SIDE * EXTENT))
        for number in range(0, len(self.poses), step):
            shot = Shot(behind, self.views[number].box(), number)
            image, masks = render(self.scene, self.height, self.width, self.poses[number], shot)
            yield image, masks[self.objects]


def numbered_clip(seed: int, index: int, seconds: tuple[float, float] = SECONDS, occlusion: Occlusion = "any") -> Clip:
    """Draw clip number `index` of the world `seed`: a pure function of its arguments.

    In the first frame at least two objects can be seen well, and every object can be for a good part of the clip.

    Args:
        seed: number of the world.
        index: number of the clip.
        seconds: shortest and longest duration, at 24 frames a second; at least 2.
        occlusion: "long" hides one object, seen in the first frame, for at least half of the clip.
    """
    rng = np.random.default_rng([seed, index, _STREAM, occlusion == "long"])
    height, width = (side - side % 2 for side in random_size(rng))
    frames = int(rng.integers(round(FPS * seconds[0]), round(FPS * seconds[1]) + 1))
    # What is to happen is drawn once: if it was drawn again too, rejection would favour what is easy to show.
    plan = random_plan(rng, occlusion == "long")
    while True:
        take = Take(frames, height, width, random_camera(rng, frames))
        tracks = cast(rng, take, plan)
        clip = _clip(take, tracks, _wide(random_background(rng)))
        if _keeps_promises(clip, [track.promises for track in tracks if track.identity.shape != "bar"]):
            return clip


def _wide(background: Background) -> Background:
    """Spread a background over the larger backdrop of a clip, with its noise as fine as before."""
    columns, rows = background.stretch
    horizon = None if background.horizon is None else 0.5 + (background.horizon - 0.5) / EXTENT
    return replace(background, stretch=(round(columns * EXTENT), round(rows * EXTENT)), horizon=horizon)


def _clip(take: Take, tracks: list[Track], background: Background) -> Clip:
    poses = list(zip(*(take.poses(track.path, track.size, track.turn) for track in tracks), strict=True))
    things = tuple(Thing(track.identity, pose) for track, pose in zip(tracks, poses[0], strict=True))
    return Clip(Scene(background, things), take.height, take.width, tuple(poses), take.views())


def _keeps_promises(clip: Clip, promises: list[list[str]]) -> bool:
    """Whether every object can be seen well for long enough, and does what it is to do."""
    if _fastest(clip) > _FASTEST * max(1.0, 72 / len(clip.poses)):  # what is short has to be quick
        return False
    areas = survey(clip)
    well = _seen_well(areas)
    if well[:, 0].sum() < MIN_THINGS:
        return False
    found = happenings(clip, areas)
    crossing = {index for pair in found["crossing"] for index in pair["objects"]}
    for index, names in enumerate(promises):
        if "long" in names:
            hidden = ((areas.visible == 0) & (areas.inside > 0))[index].mean()
            if not (well[index, 0] and well[index, -1] and hidden >= _LONG):
                return False
        elif well[index].mean() < _LEAST_SEEN:
            return False
        for name in names:
            if name == "crossing":
                kept = index in crossing
            else:
                kept = name == "long" or any(span["object"] == index for span in found[name])
            if not kept:
                return False
    return True


def _fastest(clip: Clip) -> float:
    """The longest step of an object's centre while it is in the frame, in sides of the frame."""
    places = np.array([[(pose.x, pose.y) for pose in poses] for poses in clip.poses])[:, clip.objects]
    within = np.all(np.abs(places - 0.5) < 0.5, axis=-1)
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    return float((steps * np.logical_and(within[1:], within[:-1])).max())


def _seen_well(areas: Survey) -> NDArray[np.bool_]:
    """Whether at least 45 % and 60 pixels of an object are seen `(objects, annotated)`."""
    return (areas.visible >= MIN_VISIBLE_SHARE * areas.whole) & (areas.visible * areas.pixel >= MIN_VISIBLE_PIXELS)
