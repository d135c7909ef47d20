"""Teachers: SAM, SAM 2, SAM 3 from `transformers`, and the embedded toy."""

from __future__ import annotations

from phd.errors import UserError
from phd.heads import no_other_size
from phd.teachers.base import FrozenTeacher, Teacher
from phd.teachers.loading import read_model_type
from phd.teachers.sam import Sam
from phd.teachers.sam2 import Sam2
from phd.teachers.sam3 import Sam3
from phd.teachers.toy import TOY_SIZE, TOY_TEACHERS, new_toy, shipped_toy

__all__ = ["EMBEDDED", "FrozenTeacher", "Sam", "Sam2", "Sam3", "Teacher", "load_teacher", "new_toy", "shipped_toy"]

EMBEDDED = (*TOY_TEACHERS, "toy-random")
FAMILY_OF_MODEL_TYPE = {"sam": Sam, "sam2": Sam2, "sam2_video": Sam2}


def load_teacher(source: str, image_size: int | None = None) -> Teacher:
    """A teacher by name.

    Args:
        source: A hub id (`facebook/sam3`), a local folder, `toy-teacher` (the embedded one, at 192 pixels),
            `toy-teacher-128` (the same at 128), or `toy-random` (its architecture with new weights, at 128).
        image_size: Run SAM 3 at this size instead of its own, in pixels.

    Raises:
        UserError: Nothing of that name, or a model outside the SAM family; `sam3` alone is the detector without the
            tracker, which only `sam3_video` has.
    """
    if source == "toy-random":
        return new_toy(TOY_SIZE if image_size is None else image_size)
    if source in TOY_TEACHERS:
        return shipped_toy(source, image_size)
    model_type = read_model_type(source)
    if model_type == "sam3_video":
        return Sam3(source, image_size)
    if image_size is not None:
        raise no_other_size(image_size)
    if model_type not in FAMILY_OF_MODEL_TYPE:
        known = ", ".join([*FAMILY_OF_MODEL_TYPE, "sam3_video"])
        raise UserError(f"teacher {source!r}: model type {model_type!r} is none that can teach ({known})")
    return FAMILY_OF_MODEL_TYPE[model_type](source)
