"""Where a teacher lives when its trunk's features come from a cache."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Trainer

from phd.errors import UserError
from phd.teachers import FrozenTeacher
from phd.teachers.fingerprint import weights_sha256


def cache_of(trainer: Trainer | None) -> Any:
    """The cache that the data module reads from, its `cache_join`; None without one."""
    return getattr(getattr(trainer, "datamodule", None), "cache_join", None)


def move_teacher(teacher: FrozenTeacher | None, cache: Any, device: torch.device) -> None:
    """Move a teacher to the device; of one whose every trunk map is cached, only neck and heads.

    Args:
        teacher: Or None.
        cache: What `cache_of` found.
        device: Where to.

    Raises:
        UserError: The cache was made by another teacher, or there is no teacher to make anything of it.
    """
    if cache is not None:
        if teacher is None:
            raise UserError("data.cache is set, but model.teacher is empty; name the teacher or leave out data.cache")
        cache.reader.require_weights(weights_sha256(teacher.model.trunk), teacher.name)
    if teacher is None:
        return
    parts = (teacher.model.neck, teacher.model.heads) if cache is not None and cache.complete else (teacher.model,)
    for part in parts:
        part.to(device)
