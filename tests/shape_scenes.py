"""Things and scenes of the embedded world for tests."""

import colorsys

import numpy as np

from datamodules.shapes import Identity, Pose, Scene, Thing, random_background
from datamodules.shapes.textures import PALETTE, colour_pair

CHROMATIC = sorted(set(PALETTE) - {"white", "black"})


def thing(shape="disk", colour="red", texture="plain", pose=None, seed=0):
    rgb, shade = colour_pair(colour, np.random.default_rng(seed))
    return Thing(Identity(shape, colour, texture, rgb, shade, period=0.45), pose or Pose(0.5, 0.5, 0.5, 0.0))


def scene_of(*things):
    return Scene(random_background(np.random.default_rng(3)), things)


def hue_saturation_value(rgb):
    return colorsys.rgb_to_hsv(*(float(value) / 255.0 for value in rgb))


def hue_gap(first, second):
    return abs((first - second + 0.5) % 1.0 - 0.5) * 360.0
