"""Load any segmenter by name: a teacher or a student."""

from __future__ import annotations

from phd.segmenter import Segmenter
from phd.student import Student, StudentConfig
from phd.teachers import EMBEDDED, load_teacher
from phd.teachers.loading import read_model_type


def load_segmenter(source: str, image_size: int | None = None) -> Segmenter:
    """A student or a teacher.

    Args:
        source: A student's folder, a teacher's folder, a hub id, `toy-teacher` or `toy-random`.
        image_size: Run a SAM 3 teacher, or a student of one, at this size instead of its own, in pixels.

    Raises:
        UserError: There is nothing of that name, or it is no segmenter.
    """
    if source not in EMBEDDED and read_model_type(source) == StudentConfig.model_type:
        return Student.from_pretrained(source, image_size=image_size)
    return load_teacher(source, image_size)
