"""What a student's folder says about it, as plain JSON."""

from __future__ import annotations

import json
from typing import Any, Literal

from transformers import AutoConfig, PretrainedConfig


class StudentConfig(PretrainedConfig):
    """Everything that is needed to build the student again, and where it came from.

    Attributes:
        backbone: A name that `build_trunk` takes.
        neck: "light" or "teacher".
        contract: `Contract.to_dict()`.
        teacher: Name of the teacher.
        teacher_config: The teacher's `transformers` configuration, from which the heads (and its neck) are built.
        memory: `MemorySettings` as plain values; None for the teacher's memory, in which every cell is kept.
        memory_layers: Layers of the memory attention, the first so many of the teacher's; None for all.
        text: "teacher", a key of `phd.text.MOBILECLIP`, or None for a student that does not read phrases yet.
        text_context: Tokens of a phrase; None for the teacher's.
        provenance: Filled when the student is saved: stage, data hash, git revision, metrics and the like.
    """

    model_type = "phd_student"

    backbone: str = "efficientvit_b0"
    neck: Literal["light", "teacher"] = "light"
    contract: dict[str, Any] | None = None
    teacher: str = ""
    teacher_config: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    memory_layers: int | None = None
    text: str | None = None
    text_context: int | None = None
    provenance: dict[str, Any] | None = None


# So that `AutoConfig` names a student's folder for what it is; its weights are read by `Student.from_pretrained` only.
AutoConfig.register(StudentConfig.model_type, StudentConfig, exist_ok=True)


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """What JSON gives back, so that a student is the same before and after it is saved."""
    return json.loads(json.dumps(values, default=str))
