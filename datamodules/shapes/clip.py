"""Clips of the embedded world: which things there are, and where they are in every frame, without a single pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes import acts
from datamodules.shapes.background import SIDE, Background, backdrop, random_background
from datamodules.shapes.camera import EXTENT, Take, View, random_camera
from datamodules.shapes.placement import Pose
from datamodules.shapes.render import Shot, render
from datamodules.shapes.survey import Survey, happenings, survey
from datamodules.shapes.world import (
    MAX_THINGS,
    MIN_THINGS,
    MIN_VISIBLE_PIXELS,
    MIN_VISIBLE_SHARE,
    Scene,
    Thing,
    random_size,
    similar_identity,
)

FPS, STRIDE = 24, 4  # of SA-V: frames a second, and frames from one annotated frame to the next
SECONDS = (3.0, 5.0)
Occlusion = Literal["any", "long"]

_STREAM = 24  # keeps the draws of clips apart from those of still scenes
_CHANCES = {"occlusion": 0.65, "exit": 0.6, "late": 0.4, "crossing": 0.5}
_LOOKALIKE = 0.6
_BAR = 0.6
_LEAST_SEEN = 0.3  # of the annotated frames, by every object that no one hides for long
_LONG = 0.5


@dataclass(frozen=True)
class Plan:
    """What a clip is to show.

    Attributes:
        count: number of objects.
        acts: names from `_CHANCES`, as far as there are things for them.
        bar: whether a bar hides things, not another thing.
        lookalike: whether one thing looks like another one.
        long: whether one thing is hidden for half of the clip.
    """

    count: int
    acts: tuple[str, ...]
    bar: bool
    lookalike: bool
    long: bool


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

    def pictures(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Render the frames one after the other.

        Yields:
            The RGB image `(height, width, 3)` and the visible pixels of each object `(objects, height, width)`.
        """
        behind = backdrop(self.scene.background, round(SIDE * EXTENT))
        for number, (poses, view) in enumerate(zip(self.poses, self.views, strict=True)):
            image, masks = render(self.scene, self.height, self.width, poses, Shot(behind, view.box(), number))
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
    plan = _random_plan(rng, occlusion == "long")
    while True:
        take = Take(frames, height, width, random_camera(rng, frames))
        tracks = _cast(rng, take, plan)
        clip = _clip(take, tracks, _wide(random_background(rng)))
        if _keeps_promises(clip, [track.promises for track in tracks if track.identity.shape != "bar"]):
            return clip


def _random_plan(rng: np.random.Generator, long: bool) -> Plan:
    """Draw what a clip is to show; the first acts get their things first."""
    wishes = [name for name, chance in _CHANCES.items() if rng.random() < chance]
    rng.shuffle(wishes)
    if long:
        wishes = ["occlusion", *(name for name in wishes if name != "occlusion")]
    count = int(rng.integers(MIN_THINGS, MAX_THINGS + 1))
    return Plan(count, tuple(wishes), bool(rng.random() < _BAR), bool(rng.random() < _LOOKALIKE), long)


def _cast(rng: np.random.Generator, take: Take, plan: Plan) -> list[acts.Track]:
    """Draw the things from back to front and what each of them does, and a bar if one is needed."""
    tracks = [acts.random_track(rng, take) for _ in range(plan.count)]
    free = [tracks[index] for index in rng.permutation(len(tracks))]
    bar: acts.Track | None = None
    behind: list[int] = []
    covers: list[acts.Track] = []
    for name in plan.acts:
        if name == "occlusion" and free:
            if len(free) > 1 and not plan.bar:
                track, cover = sorted((free.pop(), free.pop()), key=tracks.index)
                acts.hide_behind_thing(rng, take, track, cover, plan.long)
                covers.append(cover)
            else:
                bar = acts.random_bar(rng, take)
                track = free.pop()
                acts.hide_behind_bar(rng, take, track, bar, plan.long)
                behind.append(tracks.index(track))
        elif name == "exit" and free:
            acts.leave(rng, take, free.pop())
        elif name == "late" and free and len(tracks) > MIN_THINGS:
            track = free.pop()
            hidden = bar is not None and rng.random() < 0.5
            acts.arrive(rng, take, track, bar if hidden else None)
            behind += [tracks.index(track)] * hidden
        elif name == "crossing" and len(free) > 1:
            acts.cross(rng, take, free.pop(), free.pop())
    if plan.lookalike:
        _disguise(rng, tracks, covers)
    if bar is not None:
        tracks.insert(int(rng.integers(max(behind) + 1, len(tracks) + 1)), bar)
    return tracks


def _disguise(rng: np.random.Generator, tracks: list[acts.Track], covers: list[acts.Track]) -> None:
    """Make one thing a look-alike of another one, which does something if any does."""
    busy = [track for track in tracks if track.promises] or tracks
    model = busy[int(rng.integers(len(busy)))]
    others = [track for track in tracks if track is not model and track not in covers]
    if others:
        double = others[int(rng.integers(len(others)))]
        double.identity = similar_identity(rng, model.identity)


def _wide(background: Background) -> Background:
    """Spread a background over the larger backdrop of a clip, with its noise as fine as before."""
    columns, rows = background.stretch
    horizon = None if background.horizon is None else 0.5 + (background.horizon - 0.5) / EXTENT
    return replace(background, stretch=(round(columns * EXTENT), round(rows * EXTENT)), horizon=horizon)


def _clip(take: Take, tracks: list[acts.Track], background: Background) -> Clip:
    poses = list(zip(*(take.poses(track.path, track.size, track.turn) for track in tracks), strict=True))
    things = tuple(Thing(track.identity, pose) for track, pose in zip(tracks, poses[0], strict=True))
    return Clip(Scene(background, things), take.height, take.width, tuple(poses), take.views())


def _keeps_promises(clip: Clip, promises: list[list[str]]) -> bool:
    """Whether every object can be seen well for long enough, and does what it is to do."""
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


def _seen_well(areas: Survey) -> NDArray[np.bool_]:
    """Whether at least 45 % and 60 pixels of an object are seen `(objects, annotated)`."""
    return (areas.visible >= MIN_VISIBLE_SHARE * areas.whole) & (areas.visible * areas.pixel >= MIN_VISIBLE_PIXELS)
