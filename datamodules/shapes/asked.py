"""Scenes of the embedded world with the phrases that are asked about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.crowd import numbered_crowd
from datamodules.shapes.questions import Asking, Question, ask
from datamodules.shapes.render import render
from datamodules.shapes.sight import sight
from datamodules.shapes.world import Scene, numbered_scene

CROWD = 0.25

_STREAM = 53  # keeps these draws apart from those of scenes and clips


@dataclass(frozen=True)
class AskedScene:
    """A picture and its questions.

    Attributes:
        scene: What there is.
        image: RGB `(height, width, 3)`.
        masks: The visible pixels of each thing `(things, height, width)`; empty where it is hidden.
        questions: Numbers in their answers are those of the things.
    """

    scene: Scene
    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    questions: list[Question]


def is_crowded(seed: int, index: int, crowd: float = CROWD) -> bool:
    """Whether scene number `index` of the world `seed` is a crowded one, where this share is."""
    return bool(np.random.default_rng([seed, index, _STREAM, 0]).random() < crowd)


def asked_scene(seed: int, index: int, asking: Asking | None = None, crowd: float = CROWD) -> AskedScene:
    """Draw scene number `index` of the world `seed` with its questions: a pure function of its arguments.

    A scene that is not crowded is the one that SA-1B's format has under these numbers.

    Args:
        seed: Number of the world.
        index: Number of the scene.
        asking: How many phrases are drawn.
        crowd: Share of the scenes that are crowded.
    """
    draw = numbered_crowd if is_crowded(seed, index, crowd) else numbered_scene
    scene, height, width = draw(seed, index)
    image, masks = render(scene, height, width)
    identities, poses = zip(*((thing.identity, thing.pose) for thing in scene.things), strict=True)
    clear, seen = sight(identities, poses, masks)
    rng = np.random.default_rng([seed, index, _STREAM, 1])
    questions = ask(rng, identities, clear.tolist(), seen.tolist(), asking or Asking())
    return AskedScene(scene, image, masks, questions)
