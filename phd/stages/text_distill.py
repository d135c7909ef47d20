"""Distil SAM 3's text encoder alone, from phrases without images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch

from phd.errors import UserError
from phd.losses.text import text_cosine, text_mse
from phd.outputs import StepOutput, TextPrediction
from phd.segmenter import Segmenter
from phd.stages.base import Stage
from phd.student import TextStudent
from phd.teachers import FrozenTeacher, load_teacher


@dataclass
class TextLosses:
    """Weights of the terms; a term of weight 0 is not computed.

    Attributes:
        text_mse: Of the tokens' mean squared error.
        text_cosine: Of one minus their cosine.
    """

    text_mse: float = 1.0
    text_cosine: float = 1.0


class TextDistill(Stage):
    """Distil a text encoder: its tokens against the teacher's, in the width of the detector.

    Both read the same token ids, cut at the student's context, so that every token has its counterpart. What it
    writes is a folder that `Student.create(text=FOLDER)` and stage 3 take.

    Args:
        text: Which encoder: `mobileclip_s0`, `mobileclip_s1` or `mobileclip2_l`.
        teacher: Hub id, local folder or `toy-teacher`, of SAM 3.
        init_from: Continue from the folder that an earlier run wrote (never through `--ckpt_path`).
        text_context: 16 or 32 tokens; the teacher's by default.
        losses: The weights.
        lr: Peak learning rate.
        weight_decay: Of matrices and kernels.
        warmup: Share of the steps.
        final_lr: Share of the peak rate at the end.
    """

    headline: ClassVar[str] = "val/text_cosine"

    def __init__(
        self,
        text: Literal["mobileclip_s0", "mobileclip_s1", "mobileclip2_l"] = "mobileclip_s0",
        teacher: str = "",
        init_from: str = "",
        text_context: int | None = None,
        losses: TextLosses | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.05,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__(lr, weight_decay, warmup, final_lr)
        self.save_hyperparameters()
        self.losses = losses or TextLosses()
        weights = vars(self.losses)
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise UserError("model.losses: give weights of at least 0, and one above it")
        if not teacher:
            raise UserError("model.teacher: empty; name a teacher of SAM 3, whose text encoder is distilled")
        loaded = load_teacher(teacher)
        if loaded.text is None:
            raise UserError(f"model.teacher: {teacher} reads no phrases; name a teacher of SAM 3")
        self.teacher = FrozenTeacher(loaded)
        self.contract = loaded.contract
        student = TextStudent.load(init_from).train() if init_from else TextStudent.create(text, loaded, text_context)
        if init_from:
            check_settings(init_from, student, text_context, loaded.text)
        # It encodes phrases only, and is no segmenter.
        self.learner = cast(Segmenter, student)

    def step(self, batch: list[str], train: bool) -> StepOutput:
        """Encode T phrases by both and compare their tokens."""
        assert self.teacher is not None
        student, teacher = cast(Any, self.learner).text, cast(Any, self.teacher.model).text
        tokens = student.tokenizer(batch, student.context)
        mine = student.read(tokens)
        with torch.no_grad():
            theirs = teacher.read(tokens)
        terms = {
            name: function(mine.tokens, theirs.tokens, mine.mask)
            for name, function in (("text_mse", text_mse), ("text_cosine", text_cosine))
            if getattr(self.losses, name) > 0
        }
        loss = torch.stack([getattr(self.losses, name) * value for name, value in terms.items()]).sum()
        text = TextPrediction(mine.tokens.detach(), theirs.tokens, mine.mask, tokens.cut)
        return StepOutput(loss, terms, len(batch), text=text)


def check_settings(source: str, student: TextStudent, context: int | None, teacher: Any) -> None:
    """Raise unless a saved text encoder fits the teacher and the settings.

    Raises:
        UserError: It does not.
    """
    mine = student.config["vocab_size"], student.config["width"]
    theirs = teacher.tokenizer.vocab_size, teacher.projection.out_features
    if mine != theirs:
        raise UserError(f"model.init_from {source}: vocabulary and width {mine}, but the teacher's are {theirs}")
    if context not in (None, student.text.context):
        raise UserError(f"model.text_context is {context}, but {source} was distilled with {student.text.context}")
