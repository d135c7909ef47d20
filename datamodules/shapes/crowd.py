"""Crowded scenes of the embedded world: several things of one identity, tiny ones, touching ones, hidden ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.background import random_background
from datamodules.shapes.placement import Pose, outline_mask
from datamodules.shapes.textures import colour_pair
from datamodules.shapes.world import (
    MIN_INSIDE_SHARE,
    MIN_VISIBLE_PIXELS,
    MIN_VISIBLE_SHARE,
    Identity,
    Scene,
    Thing,
    random_identity,
    random_pose,
    random_size,
    similar_identity,
)

LEAST, MOST = 4, 10  # things of a scene
MIN_CROWD_SIZE, MAX_CROWD_SIZE = 0.08, 0.28

_STREAM = 51  # keeps these draws apart from those of other scenes and of clips
_TOUCHING = 0.5
_TOUCH = (0.70, 0.95)  # distance of two centres, in sums of their radii; corners reach the circle, sides do not
_UNCLEAR = 0.4  # share of the scenes with a thing that is seen and not clear
_HIDDEN_SHARE = (0.04, 0.38)  # of a hidden thing, what can be seen
_SPECK_RADIUS = (3.0, 4.3)  # pixels; the disk of this radius has less than the 60 that a clear thing needs
_TRIES = 30


@dataclass
class _Stage:
    """The things so far, from back to front, with what can be seen of each."""

    height: int
    width: int
    things: list[Thing] = field(default_factory=list)
    visible: list[NDArray[np.bool_]] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)

    def add(self, thing: Thing) -> bool:
        """Put a thing in front of all others if it and they are clear then; says whether it was."""
        mask, area = outline_mask(thing.identity.shape, thing.pose, self.height, self.width)
        left = [*(earlier & ~mask for earlier in self.visible), mask]
        areas = [*self.areas, area]
        inside = mask.sum() >= MIN_INSIDE_SHARE * area
        if not inside or not all(map(_clear, left, areas)):
            return False
        self.things, self.visible, self.areas = [*self.things, thing], left, areas
        return True

    def add_behind(self, thing: Thing, place: int) -> bool:
        """Put a thing before number `place` if little of it can be seen then, and all others stay clear."""
        mask, area = outline_mask(thing.identity.shape, thing.pose, self.height, self.width)
        front = [outline_mask(t.identity.shape, t.pose, self.height, self.width)[0] for t in self.things[place:]]
        shown = mask & ~np.any(front, axis=0)
        left = [*(earlier & ~mask for earlier in self.visible[:place]), *self.visible[place:]]
        share = shown.sum() / area
        hidden = _HIDDEN_SHARE[0] <= share <= _HIDDEN_SHARE[1] and mask.sum() >= MIN_INSIDE_SHARE * area
        if not hidden or not all(map(_clear, left, self.areas)):
            return False
        self.things.insert(place, thing)
        self.visible = [*left[:place], shown, *left[place:]]
        self.areas.insert(place, area)
        return True


def numbered_crowd(seed: int, index: int) -> tuple[Scene, int, int]:
    """Draw crowded scene number `index` of the world `seed`: a pure function of the two.

    Returns:
        The scene, and the height and width in pixels at which it is to be rendered.
    """
    rng = np.random.default_rng([seed, index, _STREAM])
    height, width = random_size(rng)
    return random_crowd(rng, height, width), height, width


def random_crowd(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw a scene of 4 to 10 things, most of them of one or two identities.

    Each thing is as visible as in `random_scene`; in two of five scenes there is one more of a kind that is there,
    either mostly hidden or smaller than 60 pixels.

    Args:
        rng: The only source of randomness.
        height: Of the frame in pixels; decides what is visible.
        width: Likewise.
    """
    background = random_background(rng)
    wanted = _cast(rng)
    unclear = rng.random() < _UNCLEAR
    while True:
        stage = _Stage(height, width)
        for identity, size in wanted:
            for _ in range(_TRIES):
                thing = Thing(_variant(rng, identity), _pose(rng, stage, size))
                if stage.add(thing):
                    break
        if len(stage.things) < LEAST:
            continue
        if unclear:
            _add_unclear(rng, stage)
        return Scene(background, tuple(stage.things))


def _cast(rng: np.random.Generator) -> list[tuple[Identity, float]]:
    """Draw the identities and sizes of a scene, in the order in which they are drawn."""
    cast: list[tuple[Identity, float]] = []
    for copies in (int(rng.integers(3, 6)), int(rng.integers(0, 4))):
        identity, size = random_identity(rng), _size(rng)
        cast += [(identity, size * float(rng.uniform(0.85, 1.15))) for _ in range(copies)]
    model = cast[0][0]
    for _ in range(int(rng.integers(1, 4))):
        cast.append((similar_identity(rng, model) if rng.random() < 0.6 else random_identity(rng), _size(rng)))
    return [cast[place] for place in rng.permutation(len(cast))[:MOST]]


def _size(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(MIN_CROWD_SIZE), np.log(MAX_CROWD_SIZE))))


def _variant(rng: np.random.Generator, identity: Identity) -> Identity:
    """The same identity in another variant of its colour."""
    rgb, shade = colour_pair(identity.colour, rng)
    return replace(identity, rgb=rgb, shade=shade)


def _pose(rng: np.random.Generator, stage: _Stage, size: float) -> Pose:
    """Draw where a thing is: anywhere, or touching one that is there."""
    pose = replace(random_pose(rng), size=size)
    if not stage.things or rng.random() >= _TOUCHING:
        return pose
    other = stage.things[int(rng.integers(len(stage.things)))].pose
    return _beside(rng, stage, pose, other, 0.5 * (size + other.size) * float(rng.uniform(*_TOUCH)))


def _beside(rng: np.random.Generator, stage: _Stage, pose: Pose, other: Pose, distance: float) -> Pose:
    """Move a pose to a distance from another one, in short sides of the frame."""
    angle, pixels = rng.uniform(0.0, 2.0 * np.pi), distance * min(stage.height, stage.width)
    x = other.x + pixels * np.cos(angle) / stage.width
    return replace(pose, x=float(x), y=float(other.y + pixels * np.sin(angle) / stage.height))


def _add_unclear(rng: np.random.Generator, stage: _Stage) -> None:
    """Add a thing of a kind that is there, mostly hidden or tiny; none where no place is found."""
    model = stage.things[int(rng.integers(len(stage.things)))]
    if rng.random() < 0.5:
        radius = float(rng.uniform(*_SPECK_RADIUS))
        pose = replace(random_pose(rng), size=2.0 * radius / min(stage.height, stage.width))
        speck, _ = outline_mask(model.identity.shape, pose, stage.height, stage.width)
        if not (speck & np.any(stage.visible, axis=0)).any() and speck.any():
            stage.things.append(Thing(_variant(rng, model.identity), pose))
        return
    for _ in range(_TRIES):
        place = int(rng.integers(len(stage.things)))
        cover = stage.things[place].pose
        pose = replace(random_pose(rng), size=cover.size * float(rng.uniform(0.7, 1.0)))
        pose = _beside(rng, stage, pose, cover, cover.size * float(rng.uniform(0.05, 0.35)))
        if stage.add_behind(Thing(_variant(rng, model.identity), pose), place):
            return


def _clear(visible: NDArray[np.bool_], area: float) -> bool:
    """Whether enough of a thing is visible to be annotated."""
    return visible.sum() >= max(MIN_VISIBLE_SHARE * area, MIN_VISIBLE_PIXELS)
