"""cgF1 of files: the truth of one or of several annotators, and predictions in the format of COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from phd.errors import UserError
from phd.evaluate.concept_gold import IouType, Prediction, Question, read_annotators, read_answers, region_of
from phd.evaluate.concept_masks import ious
from phd.evaluate.concept_report import PROTOCOL, ConceptTally


def evaluate_concepts(truth: Sequence[Path], prediction: Path, iou_type: IouType = "segm") -> dict[str, Any]:
    """Evaluate a file of predictions.

    Several annotators are an oracle, as SA-Co/Gold has it: of each datapoint the annotator counts whose answer suits
    the prediction best (`phd.metrics.concept_matching.best_annotator`). Equal answers keep the first file, so the order
    of the files moves the numbers; the published ones are of a, b, c. A datapoint counts if it is exhaustively
    labelled in every file.

    Args:
        truth: A file of SA-Co/Gold or SA-Co/Silver, or the files of all annotators of one subset.
        prediction: A list of COCO results; boxes are fractions of the image.
        iou_type: Compare masks or boxes.

    Returns:
        `cgf1`, `pmf1` and `il_mcc` as fractions, then everything else, the protocol included.

    Raises:
        UserError: A file is damaged, the files do not belong together, or no datapoint is left.
    """
    annotators = read_annotators(truth)
    first = annotators[0]
    answers = read_answers(prediction, truth[0], first, iou_type)
    asked = [number for number in first if all(questions[number].exhaustive for questions in annotators)]
    if not asked:
        raise UserError(f"{truth[0]}: no datapoint is labelled exhaustively by all annotators; give another file")
    tally = ConceptTally()
    chosen = [0] * len(truth)
    num_crowd = 0
    for number in track(asked, f"cgF1 {iou_type}", console=Console(stderr=True), transient=True):
        questions = [by_annotator[number] for by_annotator in annotators]
        predictions = answers.get(number, [])
        overlaps = [
            _overlaps(predictions, question, iou_type, path) for question, path in zip(questions, truth, strict=True)
        ]
        chosen[tally.add([item.score for item in predictions], overlaps)] += 1
        num_crowd += sum(len(question.crowds) for question in questions)
    kept = set(asked)
    dropped = [len(found) for number, found in answers.items() if number not in kept]
    return {
        **tally.numbers(),
        **tally.calibration(),
        **tally.counts(),
        "num_dropped_not_exhaustive": len(first) - len(asked),
        "num_predictions_dropped": sum(dropped),
        "num_crowd_dropped": num_crowd,
        "chosen_annotators": {str(path): count for path, count in zip(truth, chosen, strict=True)},
        "warnings": tally.warnings(),
        "protocol": protocol(iou_type, len(truth)),
        "gt": [str(path) for path in truth],
        "pred": str(prediction),
    }


def _overlaps(predictions: list[Prediction], question: Question, iou_type: IouType, path: Path) -> np.ndarray:
    number = question.entry["id"]
    targets = [
        region_of(item, question.entry, iou_type, f"{path}: annotation id {item.get('id')} (image id {number})")
        for item in question.targets
    ]
    return ious([item.region for item in predictions], targets)


def protocol(iou_type: IouType, num_annotators: int) -> dict[str, Any]:
    """Every choice that moves the numbers."""
    oracle = (
        f"of {num_annotators} the one with the largest mean F1 on the datapoint; ties keep the first file, so that the "
        f"order of the files counts"
    )
    return {
        **PROTOCOL,
        "iou_type": iou_type,
        "boxes": "x, y, width, height as fractions of the image" if iou_type == "bbox" else "not used",
        "annotators": oracle if num_annotators > 1 else "one",
        "exhaustive": "a datapoint counts if is_instance_exhaustive is 1 in every file",
    }
