"""Which phrases of an image are asked, and what an annotator answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from datamodules.concept_record import is_negative, phrase_instances
from phd.errors import UserError

Annotator = Literal["first", "drawn"]
# Words that a mirror image makes false.
SIDES = re.compile(r"\b(left|right)(most|hand|handed|side|ward|wards)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A phrase and its answer.

    Attributes:
        text: The phrase.
        instances: The annotations that answer it, crowds left out; none for a negative.
        exhaustive: Whether these are all that the image shows.
        hard: Whether it is a mined hard negative.
    """

    text: str
    instances: list[dict[str, Any]]
    exhaustive: bool
    hard: bool = False


@dataclass(frozen=True)
class PhraseChoice:
    """How many phrases are asked of an image.

    Attributes:
        max_positives: Most phrases with instances.
        max_negatives: Most phrases without.
        hard_negative_share: Share of the negatives that are hard ones, as far as there are any of either.
        max_instances: Most instances of a phrase.
        annotator: Whose answer counts where there are several: the "first", or one "drawn" for each phrase.
    """

    max_positives: int = 8
    max_negatives: int = 16
    hard_negative_share: float = 0.5
    max_instances: int = 64
    annotator: Annotator = "first"

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            UserError: Names the setting.
        """
        if not 0 <= self.hard_negative_share <= 1:
            raise UserError(f"data.hard_negative_share is {self.hard_negative_share}; give a number from 0 to 1")

    def questions(self, record: dict[str, Any], rng: np.random.Generator | None) -> list[Question]:
        """The phrases to ask, those with instances first.

        Left out are phrases that prove nothing: without instances but not exhaustive, with nothing but crowds, or
        where the annotator that counts found nothing and another one did.

        Args:
            record: A concept record.
            rng: Of the sample; the first phrases, and the first annotator's answers, where None.
        """
        positives, hard, easy = [], [], []
        for phrase in record["phrases"]:
            question = self._question(record, phrase, rng)
            if question.instances:
                positives.append(question)
            elif is_negative(phrase) and question.exhaustive:
                (hard if question.hard else easy).append(question)
        if rng is not None:
            positives, hard, easy = ([some[i] for i in rng.permutation(len(some))] for some in (positives, hard, easy))
        wanted = round(self.max_negatives * self.hard_negative_share)
        # What one kind lacks, the other fills up.
        num_hard = min(len(hard), max(wanted, self.max_negatives - len(easy)))
        return positives[: self.max_positives] + hard[:num_hard] + easy[: self.max_negatives - num_hard]

    def _question(self, record: dict[str, Any], phrase: dict[str, Any], rng: np.random.Generator | None) -> Question:
        answers = phrase["answers"]
        drawn = self.annotator == "drawn" and rng is not None and len(answers) > 1
        annotator = int(rng.integers(len(answers))) if drawn and rng is not None else 0
        instances = phrase_instances(record, phrase, annotator)
        # A crowd hides objects that nobody drew one by one.
        whole = len(instances) == len(answers[annotator]["instances"])
        exhaustive = whole and bool(answers[annotator]["exhaustive"])
        return Question(phrase["text"], instances, exhaustive, bool(phrase.get("hard", False)))


def names_a_side(questions: list[Question]) -> bool:
    """Whether a phrase says left or right, so that the image must not be mirrored."""
    return any(SIDES.search(question.text) for question in questions)
