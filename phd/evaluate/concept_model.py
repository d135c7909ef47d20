"""cgF1 of a model: it detects every phrase of labelled images, scored by the code that scores files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phd.concept_prompts import TextFeatures
from phd.contract import Contract
from phd.errors import UserError
from phd.evaluate.concept_gold import IouType
from phd.evaluate.concept_masks import ious
from phd.evaluate.concept_report import PROTOCOL, ConceptTally, plain
from phd.evaluate.concept_saved import SavedConcepts, as_fractions, true_boxes
from phd.metrics import CalibrationError
from phd.outputs import LabelledConcepts, LabelledPhrase
from phd.predict import encode_image
from phd.predict_concepts import CHUNK, Detection, PhraseAnswer, answers_on, coco_result
from phd.segmenter import Segmenter

# Lower than the metric's own, so that the calibration of scores sees the doubtful ones too.
THRESHOLD = 0.05


@torch.inference_mode()
def evaluate_concept_model(
    model: Segmenter,
    samples: Iterable[LabelledConcepts],
    *,
    iou_type: IouType = "segm",
    threshold: float = THRESHOLD,
    nms: float | None = None,
    save: SavedConcepts | None = None,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Detect the phrases of labelled images, each image encoded once, and score the instances.

    Args:
        model: A teacher or a student that can detect; moved to `device` and left in eval mode.
        samples: Read once, in order.
        iou_type: Compare masks or boxes.
        threshold: Scores above it are predictions; from `SCORE_THRESHOLD` on they count for cgF1.
        nms: Suppress a mask that overlaps a better one of its phrase by an IoU above this; SAM 3's protocol does not.
        save: Is given all predictions, and the truth.
        progress: Show progress on stderr.
        device: Where the model runs.

    Returns:
        The keys of `phd.evaluate.concept_images.evaluate_concepts`, with the presence as the model itself says it.

    Raises:
        UserError: The model cannot detect, a sample cannot be read or asked, or no phrase is labelled exhaustively.
    """
    if "detect" not in model.verbs:
        model.encode_text([])  # says why
    device = torch.device(device)
    model.to(device).eval()
    run = _Run(model, device, iou_type, threshold, nms, save)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(f"detect with {model.name}", total=len(samples) if isinstance(samples, Sized) else None)
        for sample in samples:
            run.add(sample)
            bar.advance(task)
    return run.result()


class _Run:
    def __init__(
        self,
        model: Segmenter,
        device: torch.device,
        iou_type: IouType,
        threshold: float,
        nms: float | None,
        save: SavedConcepts | None,
    ) -> None:
        self.model, self.device, self.threshold, self.nms, self.save = model, device, threshold, nms, save
        self.iou_type: IouType = iou_type
        self.tally, self.largest = ConceptTally(), CalibrationError()
        self.chosen: list[int] = []
        self.num_images = self.num_unsure = self.num_crowd = self.num_cut = self.num_dropped = 0

    def add(self, sample: LabelledConcepts) -> None:
        """Ask one image its phrases."""
        self.num_images += 1
        asked = [phrase for phrase in sample.phrases if phrase.exhaustive]
        self.num_unsure += len(sample.phrases) - len(asked)
        answers = self._answers(sample, asked)
        for phrase in sample.phrases:
            answer = next(answers) if phrase.exhaustive else None
            if answer is not None:
                self._score(phrase, answer, *sample.image.shape[:2])
            if self.save is not None:
                self.save.add(sample, phrase, [] if answer is None else answer.detections)

    def _answers(self, sample: LabelledConcepts, asked: list[LabelledPhrase]) -> Iterator[PhraseAnswer]:
        """In order, a few phrases at once: an unsure model finds hundreds of masks as large as the image for each."""
        if not asked:
            return
        texts = [phrase.text for phrase in asked]
        try:
            text = self.model.encode_text(texts)
        except UserError as error:
            raise UserError(f"{sample.where}: {error}") from error
        self.num_cut += text.cut
        features = encode_image(self.model, sample.image, self.device, ("detector",))
        height, width = sample.image.shape[:2]
        for start in range(0, len(texts), CHUNK):
            part = slice(start, start + CHUNK)
            some = TextFeatures(text.tokens[part], text.mask[part])
            yield from answers_on(
                self.model, features, (height, width), texts[part], threshold=self.threshold, nms=self.nms, text=some
            )

    def _score(self, phrase: LabelledPhrase, answer: PhraseAnswer, height: int, width: int) -> None:
        found = [self._region(detection, height, width) for detection in answer.detections]
        truths = [true_boxes(masks, height, width) if self.iou_type == "bbox" else masks for masks in phrase.answers]
        scores = [detection.score for detection in answer.detections]
        best = self.tally.add(scores, [ious(found, targets) for targets in truths], answer.presence)
        self.chosen += [0] * (len(truths) - len(self.chosen))
        self.chosen[best] += 1
        self.num_crowd += phrase.num_crowd
        largest = torch.tensor([max(scores, default=0.0)], dtype=torch.float64)
        self.largest.update(largest, torch.tensor([bool(phrase.answers[best])]))

    def _region(self, detection: Detection, height: int, width: int) -> Any:
        result = coco_result(detection, 0, 0)
        return as_fractions(result["bbox"], height, width) if self.iou_type == "bbox" else result["segmentation"]

    def result(self) -> dict[str, Any]:
        """The report.

        Raises:
            UserError: Nothing was asked.
        """
        if not self.tally.num_positive + self.tally.num_negative:
            raise UserError(
                f"nothing to evaluate: {self.num_images} images, of which no phrase is labelled exhaustively by all "
                f"annotators; convert data that says what an image lacks"
            )
        cut = f"{self.num_cut} phrases are longer than the text encoder reads and were cut"
        return {
            **self.tally.numbers(),
            **self.tally.calibration(),
            "largest_score_ece": plain(self.largest.compute()["error"]),
            **self.tally.counts(),
            "num_images": self.num_images,
            "num_phrases_cut": self.num_cut,
            "num_dropped_not_exhaustive": self.num_unsure,
            "num_crowd_dropped": self.num_crowd,
            "chosen_annotators": self.chosen,
            "warnings": [*self.tally.warnings(), *([cut] if self.num_cut else [])],
            "protocol": protocol(self.model.contract, self.iou_type, self.threshold, self.nms, len(self.chosen)),
        }


def protocol(
    contract: Contract, iou_type: IouType, threshold: float, nms: float | None, num_annotators: int
) -> dict[str, Any]:
    """Every choice that moves the numbers."""
    oracle = f"of up to {num_annotators} the one with the largest mean F1 on the datapoint; ties keep the first"
    suppressed = "no suppression" if nms is None else f"but none that overlaps a better one by an IoU above {nms:g}"
    return {
        **PROTOCOL,
        "iou_type": iou_type,
        "input": f"{contract.resize} to {contract.image_size} px, bilinear with antialiasing",
        "resolution": f"IoU at the image's own size; logits of {contract.mask_size} x {contract.mask_size} resized "
        f"bilinearly, then thresholded at 0",
        "boxes": "as the detector predicts them, against those of the true masks" if iou_type == "bbox" else "not used",
        "score": "presence times the query's own probability",
        "predictions": f"all with a score > {threshold:g}, {suppressed}",
        "phrases": "each alone, without exemplars; one encoding of the image for all",
        "annotators": oracle if num_annotators > 1 else "one",
        "exhaustive": "a phrase counts if every annotator's answer is exhaustive",
        "calibration": "presence: the model's own probability of a phrase against whether it has an instance; "
        "largest_score_ece: its largest score instead, which is what a file of predictions can tell; scores: all "
        "predictions against whether they take a free instance at IoU 0.5 in the order of their scores; 15 bins",
    }
