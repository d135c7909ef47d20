"""The heads of each family, shared class by class between teacher and student."""

from __future__ import annotations

from typing import Any

from transformers import Sam2VideoConfig, Sam3VideoConfig, SamConfig

from phd.contract import Family
from phd.heads.image_size import no_other_size, require_whole_patches, set_image_size
from phd.heads.interactive import InteractiveHeads
from phd.heads.necks import TeacherNeck, build_neck
from phd.heads.sam import SamHeads
from phd.heads.sam3 import Sam3Heads
from phd.heads.tracker import TrackerHeads, sam2_heads

__all__ = [
    "InteractiveHeads",
    "Sam3Heads",
    "SamHeads",
    "TeacherNeck",
    "TrackerHeads",
    "build_heads",
    "build_neck",
    "no_other_size",
    "require_whole_patches",
    "set_image_size",
]


def build_heads(family: Family, config: dict[str, Any]) -> InteractiveHeads:
    """New heads for a student.

    Args:
        family: Which heads.
        config: The teacher's `transformers` configuration as a dictionary.

    Returns:
        Heads with fresh weights, whose state dict has the names of the teacher's.
    """
    if family == "sam":
        return SamHeads(SamConfig.from_dict(config))
    if family == "sam2":
        return sam2_heads(Sam2VideoConfig.from_dict(config))
    return Sam3Heads(Sam3VideoConfig.from_dict(config))
