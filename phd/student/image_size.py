"""A student at another image size than it was saved with."""

from __future__ import annotations

from dataclasses import replace

from transformers import Sam3VideoConfig

from phd.contract import Contract, Level
from phd.heads import no_other_size, set_image_size
from phd.student.config import StudentConfig, plain


def at_size(config: StudentConfig, image_size: int) -> StudentConfig:
    """The configuration of the same student for images of another size; no weight depends on it.

    So a student can learn on small images, where a step costs a fraction, and go on at its own size (Touvron et al.,
    arXiv 1906.06423, for classifiers).

    Args:
        config: Of a student of SAM 3.
        image_size: In pixels, a multiple of the teacher's patch.

    Raises:
        UserError: A student of another family, or a size that is no multiple of the patch.
    """
    contract = Contract.from_dict(config.contract or {})
    if image_size == contract.image_size:
        return config
    if contract.family != "sam3":
        raise no_other_size(image_size)
    teacher_config = Sam3VideoConfig.from_dict(config.teacher_config or {})
    set_image_size(teacher_config, image_size)

    def scaled(levels: tuple[Level, ...]) -> tuple[Level, ...]:
        return tuple(replace(level, size=level.size * image_size // contract.image_size) for level in levels)

    resized = replace(
        contract,
        image_size=image_size,
        tracker=scaled(contract.tracker),
        detector=scaled(contract.detector),
        trunk=scaled(contract.trunk),
        mask_size=contract.mask_size * image_size // contract.image_size,
    )
    changed = {"contract": resized.to_dict(), "teacher_config": teacher_config.to_dict()}
    return StudentConfig.from_dict(plain(config.to_dict() | changed))
