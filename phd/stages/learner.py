"""What a stage trains: a new student, an earlier stage's artefact, or any segmenter."""

from __future__ import annotations

from typing import Literal

from phd.errors import UserError
from phd.loading import load_segmenter
from phd.segmenter import Segmenter
from phd.student import Student
from phd.teachers import Teacher


def build_learner(
    *,
    segmenter: str,
    init_from: str,
    backbone: str,
    neck: Literal["light", "teacher"],
    pretrained: Literal["auto", True, False],
    teacher: Segmenter | None,
    image_size: int | None,
) -> Segmenter:
    """The model that a stage trains.

    Raises:
        UserError: Settings that exclude each other, or a student made for another contract than the teacher's.
    """
    if segmenter and init_from:
        raise UserError("model.segmenter and model.init_from are both set; a run trains one model, so set only one")
    if segmenter or init_from:
        learner = load_segmenter(segmenter or init_from, image_size)
        if teacher is not None:
            learner.contract.require_equal(
                teacher.contract, f"the student {segmenter or init_from}", f"the teacher {teacher.name}"
            )
        return learner.train()
    if not isinstance(teacher, Teacher):
        raise UserError(
            "model.teacher: empty, so there is no contract to build a new student to; "
            "name a teacher, or set model.segmenter or model.init_from"
        )
    return Student.create(backbone, teacher, neck=neck, pretrained=pretrained)
