"""What a sample of concept data holds: an image, its annotations, and the phrases that were asked of it.

The JSON record is that of `datamodules.record` with a list of phrases:

    "phrases": [{"text": str, "id": id in the source, "answers": [answer, ...], "hard"?: bool, "origin"?: str}, ...]
    answer: {"instances": [annotation ids], "exhaustive": bool}

A phrase has one answer for each annotator: three in SA-Co/Gold, one elsewhere. It is a negative where no annotator
found an instance, and `hard` where it was chosen to be mistaken for something in the image. An answer that is not
exhaustive may lack instances: what it does not list is not known to be absent. Annotations of annotator k > 0 carry
`"annotator": k`; ids are unique within the record, and a source that repeats them keeps its own as `source_id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from datamodules.record import annotator_of, check_annotation, check_size
from datamodules.record import check_form as check_image_form
from phd.errors import UserError


def check_form(record: Any, where: str) -> None:
    """Check that a JSON record has an image, annotations and phrases with answers.

    Raises:
        UserError: It is something else.
    """
    check_image_form(record, where)
    if not all(isinstance(annotation.get("id"), int | str) for annotation in record["annotations"]):
        raise UserError(f"{where}: an annotation has no id; mend the annotations")
    phrases = record.get("phrases")
    if not isinstance(phrases, list):
        raise UserError(f'{where}: has no list of "phrases"; is this data without concepts?')
    for phrase in phrases:
        answers = phrase.get("answers") if isinstance(phrase, dict) else None
        if not isinstance(answers, list) or not answers or not isinstance(phrase.get("text"), str):
            raise UserError(f'{where}: a phrase has no "text" or no "answers"; convert the raw data again')
        for answer in answers:
            named = answer.get("instances") if isinstance(answer, dict) else None
            if not isinstance(named, list) or not all(isinstance(number, int | str) for number in named):
                raise UserError(
                    f'{where}: phrase {phrase["text"]!r}: an answer has no list of "instances" by id; '
                    f"convert the raw data again"
                )


def num_annotators(record: dict[str, Any]) -> int:
    """How many people answered each phrase of a record; 1 where it has no phrase."""
    return max((len(phrase["answers"]) for phrase in record["phrases"]), default=1)


def is_negative(phrase: dict[str, Any]) -> bool:
    """Whether no annotator found an instance."""
    return not any(answer["instances"] for answer in phrase["answers"])


def positives(record: dict[str, Any], annotator: int = 0) -> list[dict[str, Any]]:
    """The phrases for which this annotator found something, be it a crowd."""
    return [phrase for phrase in record["phrases"] if phrase["answers"][annotator]["instances"]]


def negatives(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The phrases for which no annotator found anything; absent for certain where the answer is exhaustive."""
    return [phrase for phrase in record["phrases"] if is_negative(phrase)]


def phrase_instances(record: dict[str, Any], phrase: dict[str, Any], annotator: int = 0) -> list[dict[str, Any]]:
    """The annotations with which this annotator answered a phrase, in the order of the answer, without crowds."""
    by_id = {annotation["id"]: annotation for annotation in record["annotations"]}
    found = (by_id[number] for number in phrase["answers"][annotator]["instances"])
    return [annotation for annotation in found if not annotation.get("iscrowd")]


def concept_problems(record: dict[str, Any], height: int, width: int, where: str) -> Iterator[UserError]:
    """Everything that is wrong with a record of the right form, for an image of this size in pixels."""
    try:
        check_size(record, height, width, where)
    except UserError as error:
        yield error
        return
    for annotation in record["annotations"]:
        try:
            check_annotation(annotation, height, width, where)
        except UserError as error:
            yield error
    yield from (UserError(f"{where}: {problem}") for problem in _phrase_problems(record))


def check_concept(record: dict[str, Any], height: int, width: int, where: str) -> None:
    """Check the form of a record, every mask, and that its answers name annotations that exist.

    Args:
        record: The JSON record.
        height: Of its image, in pixels.
        width: Likewise.
        where: Names the sample in the message.

    Raises:
        UserError: The first problem.
    """
    check_form(record, where)
    for problem in concept_problems(record, height, width, where):
        raise problem


def _phrase_problems(record: dict[str, Any]) -> Iterator[str]:
    owners = {annotation["id"]: annotator_of(annotation) for annotation in record["annotations"]}
    ids = Counter(annotation["id"] for annotation in record["annotations"])
    for number in (number for number, count in ids.items() if count > 1):
        yield f"two annotations have the id {number}; give each its own"
    annotators = num_annotators(record)
    for phrase in record["phrases"]:
        name, answers = f"phrase {phrase['text']!r}", phrase["answers"]
        if not phrase["text"].strip():
            yield f"phrase {phrase.get('id')} has no text; name the concept or remove it"
        if "id" not in phrase:
            yield f"{name} has no id; keep the source's"
        if len(answers) != annotators:
            yield f"{name} has {len(answers)} answers but others have {annotators}; give one for each annotator"
        for annotator, answer in enumerate(answers):
            if not isinstance(answer.get("exhaustive"), bool):
                yield f"{name}: answer {annotator} does not say whether it is exhaustive; write true or false"
            for number in answer["instances"]:
                if number not in owners:
                    yield f"{name}: answer {annotator} names annotation {number}, which does not exist"
                elif owners[number] != annotator:
                    yield f"{name}: answer {annotator} names annotation {number} of annotator {owners[number]}"
            if len(set(answer["instances"])) != len(answer["instances"]):
                yield f"{name}: answer {annotator} names an annotation twice"
