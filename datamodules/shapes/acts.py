"""What things do in a clip: cross, hide behind something, leave and come back, appear late."""

import colorsys
from dataclasses import dataclass, field, replace

import numpy as np

from datamodules.shapes.camera import Take
from datamodules.shapes.motion import (
    Curve,
    blend,
    clock,
    curve,
    excursion,
    knot_count,
    knot_times,
    ramp,
    random_angles,
    random_sizes,
)
from datamodules.shapes.outlines import BAR_THICKNESS
from datamodules.shapes.textures import TEXTURES
from datamodules.shapes.world import MAX_SIZE, MIN_SIZE, Identity, random_identity

_LARGEST_HIDDEN = 0.24  # diameter of a thing that hides
_MARGIN = 1.14  # a cover's size over what it hides
_INNER_RADIUS = {"disk": 1.0, "square": 0.7071}  # of the largest circle in it: the shapes that hide a whole thing


@dataclass(eq=False)
class Track:
    """A thing through a clip.

    Attributes:
        identity: what it is.
        path: its centre in the world `(frames, 2)`, in fractions of the frame at zoom 1.
        size: its diameter `(frames,)`, as a fraction of the frame's short side at zoom 1.
        turn: its clockwise angle `(frames,)` in radians.
        promises: what the clip is to show of it, by the names of `survey.happenings`.
    """

    identity: Identity
    path: Curve
    size: Curve
    turn: Curve
    promises: list[str] = field(default_factory=list)


def random_track(rng: np.random.Generator, take: Take) -> Track:
    """Draw a thing that wanders about the frame; some stay where they are, and only the camera moves."""
    count = knot_count(rng, take.frames)
    places = rng.uniform(0.12, 0.88, size=(count, 2))
    path = take.to_world(curve(knot_times(rng, count), places, take.frames))
    if rng.random() < 0.15:
        path = np.tile(path[0], (take.frames, 1))
    size = random_sizes(rng, take.frames, MIN_SIZE, 0.9 * MAX_SIZE)
    return Track(random_identity(rng), path, size, random_angles(rng, take.frames))


def cross(rng: np.random.Generator, take: Take, first: Track, second: Track) -> None:
    """Two things change places and meet on the way."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    way = rng.uniform(0.28, 0.38) * np.array([np.cos(angle), np.sin(angle)])
    middle = rng.uniform(0.42, 0.58, size=2)
    times = [0.0, float(rng.uniform(0.35, 0.65)), 1.0]
    for track, side in ((first, 1.0), (second, -1.0)):
        near = rng.uniform(-0.05, 0.05, size=(3, 2)) * [[1.0], [0.4], [1.0]]
        places = np.stack([middle + side * way, middle, middle - side * way]) + near
        track.path = take.to_world(curve(times, places, take.frames))
        track.promises.append("crossing")


def random_bar(rng: np.random.Generator, take: Take) -> Track:
    """Draw a bar that stands in the world, from top to bottom or from side to side, in colours of a background."""
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.30), rng.uniform(0.35, 0.80)
    first, second = (colorsys.hsv_to_rgb(hue, saturation, value * shade) for shade in (1.0, rng.uniform(0.7, 0.9)))
    texture = tuple(TEXTURES)[int(rng.integers(len(TEXTURES)))]
    identity = Identity("bar", "grey", texture, first, second, period=float(rng.uniform(0.10, 0.25)))
    angle = 0.5 * np.pi * rng.integers(2) + rng.normal(0.0, 0.12)
    size = rng.uniform(1.0, 1.15) * _MARGIN * _LARGEST_HIDDEN / BAR_THICKNESS
    place = np.tile(rng.uniform(0.38, 0.62, size=2), (take.frames, 1))
    return Track(identity, place, np.full(take.frames, size), np.full(take.frames, angle))


def hide_behind_bar(rng: np.random.Generator, take: Take, track: Track, bar: Track, long: bool) -> None:
    """A thing goes behind a bar, perhaps moves along it unseen, and comes out."""
    track.size = random_sizes(rng, take.frames, MIN_SIZE, _LARGEST_HIDDEN)
    weight = _absence(rng, take.frames, long)
    before = clock(take.frames) < clock(take.frames)[weight == 1.0].mean()
    sides = rng.choice([-1.0, 1.0], size=2)
    beside = _beside(take, track, bar, np.where(before, *sides))  # the jump from side to side happens unseen
    track.path = blend(beside, _along(rng, take, bar), weight)
    track.promises.append("long" if long else "occlusion")


def hide_behind_thing(rng: np.random.Generator, take: Take, track: Track, cover: Track, long: bool) -> None:
    """A thing goes behind a larger one, moves with it unseen, and comes out."""
    track.size = random_sizes(rng, take.frames, MIN_SIZE, _LARGEST_HIDDEN)
    shape = tuple(_INNER_RADIUS)[int(rng.integers(len(_INNER_RADIUS)))]
    cover.identity = replace(cover.identity, shape=shape)
    needed = _MARGIN / _INNER_RADIUS[shape]
    cover.size = cover.size * max(1.0, needed * (track.size / cover.size).max())
    if cover.size.max() > 1.1 * MAX_SIZE:  # both change their sizes, and not together
        cover.size = np.full(take.frames, needed * track.size.max())
    track.path = blend(track.path, cover.path, _absence(rng, take.frames, long))
    track.promises.append("long" if long else "occlusion")


def leave(rng: np.random.Generator, take: Take, track: Track) -> None:
    """A thing leaves the frame, and mostly comes back: on the same side, or around a corner on another one."""
    if rng.random() < 0.2:
        start = rng.uniform(0.30, 0.55)
        weight = ramp(take.frames, start, start + rng.uniform(0.18, 0.30))
        track.promises.append("gone")
    else:
        weight = _absence(rng, take.frames, long=False)
        track.promises.append("exit")
    track.path = blend(track.path, _outside(rng, take, track, weight), weight)


def arrive(rng: np.random.Generator, take: Take, track: Track, bar: Track | None) -> None:
    """A thing appears late: from outside the frame, or from behind a bar."""
    start = rng.uniform(0.15, 0.40)
    weight = 1.0 - ramp(take.frames, start, start + rng.uniform(0.16, 0.28))
    if bar is not None:
        track.size = random_sizes(rng, take.frames, MIN_SIZE, _LARGEST_HIDDEN)
        track.path = _beside(take, track, bar, np.full(take.frames, rng.choice([-1.0, 1.0])))
    origin = _outside(rng, take, track, weight) if bar is None else _along(rng, take, bar)
    track.path = blend(track.path, origin, weight)
    track.promises.append("late")


def _absence(rng: np.random.Generator, frames: int, long: bool) -> Curve:
    """Draw when a thing is somewhere else: a weight `(frames,)` that is 0 at both ends."""
    if long:
        away, stay = rng.uniform(0.03, 0.05), rng.uniform(0.52, 0.56)
        going, coming = rng.uniform(0.13, 0.17, size=2)
    else:
        going, coming = rng.uniform(0.16, 0.26, size=2)
        stay = rng.uniform(0.10, 0.32)
        away = rng.uniform(0.05, 0.94 - going - stay - coming)
    return excursion(frames, away, away + going, away + going + stay, away + going + stay + coming)


def _along(rng: np.random.Generator, take: Take, bar: Track) -> Curve:
    """Draw a way along the middle of a bar, in the world `(frames, 2)`; it lasts the whole clip."""
    places = rng.uniform(-0.26, 0.26, size=2) * take.short
    distance = curve([0.0, 1.0], [places[0], places[int(rng.integers(2))]], take.frames)
    direction = np.array([-np.sin(bar.turn[0]) / take.width, np.cos(bar.turn[0]) / take.height])
    return bar.path + distance[:, None] * direction


def _beside(take: Take, track: Track, bar: Track, side: Curve) -> Curve:
    """Push the way of a thing off a bar, to one or the other side (-1 or 1) in each frame."""
    pixels = np.array([take.width, take.height])
    normal = np.array([np.cos(bar.turn[0]), np.sin(bar.turn[0])])
    distance = ((track.path - bar.path) * pixels) @ normal
    clear = (0.5 * BAR_THICKNESS * bar.size + 0.3 * track.size) * take.short
    pushed = side * np.hypot(distance, clear)
    return track.path + (pushed - distance)[:, None] * normal / pixels


def _outside(rng: np.random.Generator, take: Take, track: Track, weight: Curve) -> Curve:
    """Draw a way outside the frame, in the world `(frames, 2)`.

    Args:
        rng: the generator of the clip.
        take: its frame and camera.
        track: who goes there.
        weight: 1 in the frames in which it is to be there, at least two of them.
    """
    first, last = np.flatnonzero(weight == 1.0)[[0, -1]]
    reach = 0.5 * (track.size * take.camera[:, 2]).max() * take.short / np.array([take.width, take.height])
    beyond = np.stack([-reach, 1.0 + reach]) + np.array([[-1.0], [1.0]]) * rng.uniform(0.06, 0.16, size=2)
    points = take.to_frame(track.path)[[first, last]] + rng.normal(0.0, 0.1, size=(2, 2))
    points = np.clip(points, 0.1, 0.9)
    sides = [_side(rng, point) for point in points]
    if sides[0][0] == sides[1][0]:
        sides[1] = sides[0]  # the way to the opposite side would lead through the frame
    for point, (axis, end) in zip(points, sides, strict=True):
        point[axis] = beyond[end, axis]
    times = np.array([first, last]) / (take.frames - 1)
    if sides[0] != sides[1]:  # around the corner between the two sides
        corner = np.array([beyond[end, axis] for axis, end in sorted(sides)])
        points, times = np.stack([points[0], corner, points[1]]), np.insert(times, 1, times.mean())
    return take.to_world(curve(times, points, take.frames))


def _side(rng: np.random.Generator, point: Curve) -> tuple[int, int]:
    """Draw a side for a point (x, y) to leave through, mostly the nearest: its axis, and 0 or 1 for low or high."""
    if rng.random() < 0.3:
        return int(rng.integers(2)), int(rng.integers(2))
    axis = int(np.abs(point - 0.5).argmax())
    return axis, int(point[axis] > 0.5)
