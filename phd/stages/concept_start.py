"""With what stage 3 begins: settings that fit each other, models that detect, and a text encoder."""

from __future__ import annotations

from phd.errors import UserError
from phd.heads import Sam3Heads
from phd.segmenter import Segmenter
from phd.stages.concept_features import feature_weight
from phd.stages.concept_losses import ConceptLosses
from phd.stages.prompt_loop import Supervision
from phd.student import Student
from phd.student.notices import notice
from phd.teachers import Teacher
from phd.text import MOBILECLIP


def check_start(teacher: str, learner: str, supervision: Supervision, losses: ConceptLosses) -> None:
    """Check that there is something to train, and something to learn from.

    Args:
        teacher: Its name, or nothing.
        learner: `segmenter` or `init_from`, or nothing.
        supervision: Who says what is right.
        losses: The weights.

    Raises:
        UserError: Names the setting.
    """
    if not learner:
        raise UserError(
            "model.init_from: empty, but stage 3 starts from an earlier stage's student; set "
            "model.init_from=FOLDER, or model.segmenter to train another detector"
        )
    needs = {
        f"supervision is {supervision!r}": supervision != "ground_truth",
        "losses.feature_mse or losses.feature_relative_mse has a weight": feature_weight(losses) > 0,
    }
    for reason, needed in needs.items():
        if needed and not teacher:
            raise UserError(f"model.teacher: empty, but model.{reason}; name a teacher, or change that")


def require_detector(model: Segmenter, setting: str) -> None:
    """Raise unless a model has the heads of a detector.

    Raises:
        UserError: It has none.
    """
    if not isinstance(model.heads, Sam3Heads):
        raise UserError(f"{setting}: {model.name} is of SAM 1's or SAM 2's family and reads no phrases; take a SAM 3")


def settle_text(
    learner: Segmenter, text: str | None, context: int | None, replace: bool, teacher: Teacher | None
) -> None:
    """Give a student a text encoder where it has none, or another one where asked to.

    Args:
        learner: What is trained.
        text: See `Student.set_text`; None for the one that it has.
        context: Tokens of a phrase; None for the encoder's own.
        replace: Whether an encoder that is there is replaced.
        teacher: Gives its weights to the encoder "teacher".

    Raises:
        UserError: The learner would have none, or is no student and cannot have another.
    """
    if replace and text is None:
        raise UserError("model.replace_text is set, but model.text is empty; name the encoder, or leave it out")
    has_one = "detect" in learner.verbs
    if isinstance(learner, Student):
        kept, config = has_one and not replace, learner.config
        if text is not None and not kept:
            learner.set_text(text, teacher, context)
            if text in MOBILECLIP:
                notice(f"model.text: {text} starts from new weights; `make text TEXT={text}` distils it first")
        elif kept and text is not None:
            notice(
                f"text encoder {config.text}, {config.text_context} tokens: kept (model.replace_text puts {text} there)"
            )
        if kept and context not in (None, config.text_context):
            raise UserError(
                f"model.text_context is {context}, but the student's text encoder reads {config.text_context} tokens; "
                f"leave it out, or set model.replace_text"
            )
    elif text is not None or context is not None:
        raise UserError("model.text: only a student can have another text encoder than its own; leave it out")
    if "detect" not in learner.verbs:
        raise UserError(
            f"model.text: empty, but {learner.name} reads no phrases yet; set it to mobileclip_s0, mobileclip_s1, "
            f"mobileclip2_l, teacher, or the folder that `make text` wrote"
        )
