"""Truth and predictions of SA-Co/Gold and SA-Co/Silver, in which an "image" is an image with one noun phrase.

Format: https://github.com/facebookresearch/sam3, scripts/eval/gold and scripts/eval/silver. Boxes are fractions of the
image, masks run lengths in pixels; predictions are a list of COCO results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from phd.errors import UserError
from phd.evaluate.concept_json import (
    box_of,
    by_id,
    get,
    known,
    read_predictions,
    read_truth,
    score_of,
    side_lengths,
    text_of,
)
from phd.evaluate.concept_masks import checked_mask

IouType = Literal["segm", "bbox"]
# What all annotators were asked; it cannot differ.
QUESTION = ("text_input", "height", "width")


@dataclass(frozen=True)
class Question:
    """An image with a noun phrase, as one annotator's file has it.

    Attributes:
        entry: From the file's `images`.
        exhaustive: All instances are labelled.
        targets: Its annotations by their id, without crowd regions: what is predicted on a crowd is wrong.
        crowds: Annotations that are crowd regions.
    """

    entry: dict[str, Any]
    exhaustive: bool
    targets: list[dict[str, Any]] = field(default_factory=list)
    crowds: list[dict[str, Any]] = field(default_factory=list)


def read_questions(path: Path) -> dict[Any, Question]:
    """The questions of one annotator's file by id.

    Raises:
        UserError: The file is damaged.
    """
    content = read_truth(path, ("images", "annotations"))
    questions: dict[Any, Question] = {}
    for number, entry in by_id(content["images"], "image", path).items():
        where = f"{path}: image id {number}"
        exhaustive = get(entry, "is_instance_exhaustive", where)
        if exhaustive not in (0, 1):
            raise UserError(f"{where}: is_instance_exhaustive is {exhaustive!r}, not 0 or 1; mend the file")
        side_lengths(entry, where)
        text_of(entry, "text_input", where)
        questions[number] = Question(entry, bool(exhaustive))
    for place, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotation id {annotation.get('id', f'missing, number {place}')}"
        question = questions[known(annotation, "image_id", questions, where, path)]
        (question.crowds if annotation.get("iscrowd") else question.targets).append(annotation)
    if not questions:
        raise UserError(f"{path}: lists no images; name another file")
    return questions


def read_annotators(files: Sequence[Path]) -> list[dict[Any, Question]]:
    """The questions of every annotator's file.

    Raises:
        UserError: A file is damaged, or the files do not ask the same.
    """
    read = [read_questions(path) for path in files]
    first = read[0]
    for path, questions in zip(files[1:], read[1:], strict=True):
        pairs = ((files[0], path, first.keys() - questions), (path, files[0], questions.keys() - first))
        for has, lacks, missing in pairs:
            if missing:
                number = min(missing, key=str)
                raise UserError(f"{lacks}: has no image id {number}, but {has} has; all annotators answer the same")
        for number, question in questions.items():
            for name in QUESTION:
                mine, theirs = question.entry[name], first[number].entry[name]
                if mine != theirs:
                    raise UserError(
                        f"{path}: image id {number} has {name} {mine!r} but {files[0]} has {theirs!r}; all annotators "
                        f"answer the same"
                    )
    return read


@dataclass(frozen=True)
class Prediction:
    """One predicted instance: its score, and its mask as compressed RLE or its box as fractions x y width height."""

    score: float
    region: Any


def read_answers(path: Path, truth: Path, questions: dict[Any, Question], iou_type: IouType) -> dict[Any, list[Any]]:
    """Predictions by question, in the order of the file.

    A category that is given has to be the 1 of the format: the reference ignores others in silence.

    Raises:
        UserError: The file is damaged, or answers what was not asked.
    """
    answers: defaultdict[Any, list[Prediction]] = defaultdict(list)
    for place, item in enumerate(read_predictions(path)):
        where = f"{path}: prediction {place}"
        number = known(item, "image_id", questions, where, truth)
        where = f"{where} (image id {number})"
        if item.get("category_id", 1) != 1:
            raise UserError(f"{where}: category_id is {item['category_id']!r}; every phrase has the category 1")
        score, region = score_of(item, where), region_of(item, questions[number].entry, iou_type, where)
        answers[number].append(Prediction(score, region))
    return answers


def region_of(item: dict[str, Any], entry: dict[str, Any], iou_type: IouType, where: str) -> Any:
    """The checked mask or box of an annotation or a prediction.

    Raises:
        UserError: It is missing or damaged, or not within the image.
    """
    if iou_type == "bbox":
        return box_of(item, 1, 1, where)
    return checked_mask(get(item, "segmentation", where), entry["height"], entry["width"], where)
