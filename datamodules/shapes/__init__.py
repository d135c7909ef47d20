"""The embedded world: scenes and clips of coloured, textured shapes with masks and noun phrases, from a seed."""

from datamodules.shapes.background import Background, random_background
from datamodules.shapes.clip import Clip, numbered_clip
from datamodules.shapes.placement import Pose
from datamodules.shapes.render import render
from datamodules.shapes.sa1b import write_sa1b
from datamodules.shapes.world import Identity, Scene, Thing, numbered_scene, random_scene

__all__ = [
    "Background",
    "Clip",
    "Identity",
    "Pose",
    "Scene",
    "Thing",
    "numbered_clip",
    "numbered_scene",
    "random_background",
    "random_scene",
    "render",
    "write_sa1b",
]
