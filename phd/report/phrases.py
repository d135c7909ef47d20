"""What models answer to the noun phrases of one image: scores, and pictures of a true and of a false phrase."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, cast

import numpy as np
from pycocotools import mask as coco_mask

from phd.draw_detections import overlay_detections
from phd.outputs import LabelledConcepts, LabelledPhrase
from phd.predict import ImagePredictor
from phd.predict_concepts import PhraseAnswer
from phd.report.page import figure, table

# Scores above the first are listed, and from the second on an instance counts as found, as in the evaluation.
LISTED, FOUND = 0.05, 0.5
MOST_SCORES = 3  # of a phrase, in a cell of the table


def phrase_rows(models: Mapping[str, ImagePredictor], sample: LabelledConcepts) -> str:
    """A row of pictures for a true phrase and one for the false phrase that is most like it, then all with scores.

    Args:
        models: By name.
        sample: An image whose annotators agree on some phrases.
    """
    true, false = agreed(sample)
    phrases = [*true, *false]
    answers: dict[str, list[PhraseAnswer]] = {}
    for name, predictor in models.items():
        predictor.set_image(sample.image)
        answers[name] = predictor.answer([phrase.text for phrase in phrases], threshold=LISTED)
    parts = [f"<h3>{html.escape(sample.file_name)}</h3>"]
    for phrase in most_alike(true, false):
        place = phrases.index(phrase)
        parts.append(picture_row(sample.image, phrase, {name: found[place] for name, found in answers.items()}))
    return "\n".join([*parts, score_table(phrases, answers)])


def agreed(sample: LabelledConcepts) -> tuple[list[LabelledPhrase], list[LabelledPhrase]]:
    """The phrases that all annotators call true, and those that all call false; both answered exhaustively."""
    sure = [phrase for phrase in sample.phrases if phrase.exhaustive]
    true = [phrase for phrase in sure if all(phrase.answers)]
    return true, [phrase for phrase in sure if not any(phrase.answers)]


def most_alike(true: Sequence[LabelledPhrase], false: Sequence[LabelledPhrase]) -> list[LabelledPhrase]:
    """The true and the false phrase that share the largest part of their words; of several the first."""

    def shared(pair: tuple[LabelledPhrase, LabelledPhrase]) -> float:
        one, other = (set(phrase.text.split()) for phrase in pair)
        return len(one & other) / len(one | other)

    return list(max(product(true, false), key=shared, default=(*true[:1], *false[:1])))


def picture_row(image: np.ndarray, phrase: LabelledPhrase, answers: Mapping[str, PhraseAnswer]) -> str:
    """The instances of a phrase as the first annotator drew them, and as each model found them."""
    masks = [coco_mask.decode(cast(Any, rle)).astype(bool) for rle in phrase.answers[0]]
    boxes = [box_of(rle) for rle in phrase.answers[0]]
    truth = overlay_detections(image, masks, boxes, [phrase.text] * len(masks))
    cells = [figure(truth, f'"{phrase.text}": {f"true, {len(masks)} of them" if masks else "false"}')]
    for name, answer in answers.items():
        found = [detection for detection in answer.detections if detection.score >= FOUND]
        names = [f"{phrase.text} {detection.score:.2f}" for detection in found]
        picture = overlay_detections(image, [d.mask for d in found], [d.box for d in found], names)
        cells.append(figure(picture, f"{name}: presence {answer.presence:.2f}, {len(found)} found"))
    return f'<div class="row">{"".join(cells)}</div>'


def box_of(rle: dict[str, Any]) -> list[float]:
    """The tight box x0 y0 x1 y1 of a mask."""
    x, y, width, height = (float(value) for value in coco_mask.toBbox(cast(Any, rle)))
    return [x, y, x + width, y + height]


def score_table(phrases: Sequence[LabelledPhrase], answers: Mapping[str, Sequence[PhraseAnswer]]) -> str:
    """For each phrase, whether it is true, and by model its presence and the best scores of instances."""
    heads = ["phrase", "truth", *(f"{name}: presence, scores" for name in answers)]
    rows: list[list[str]] = []
    for place, phrase in enumerate(phrases):
        count = len(phrase.answers[0])
        cells = [told(found[place]) for found in answers.values()]
        rows.append([phrase.text, f"true, {count} of them" if count else "false", *cells])
    return f"{table(heads, rows)}<p>Scores above {LISTED}; from {FOUND} on an instance counts as found.</p>"


def told(answer: PhraseAnswer) -> str:
    """Presence, and the best scores."""
    scores = [f"{detection.score:.2f}" for detection in answer.detections]
    rest = f" and {len(scores) - MOST_SCORES} more" if len(scores) > MOST_SCORES else ""
    return f"{answer.presence:.2f}, {' '.join(scores[:MOST_SCORES]) or 'none'}{rest}"
