"""What steps and evaluations hand on: predictions, what a step returns, and labelled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phd.contract import ImageFeatures, Prompts


@dataclass
class MaskPrediction:
    """What a step predicted for the prompts of one kind; metrics and panels read it.

    Attributes:
        prompts: The P prompts as first given, without corrective points.
        student: (P, m, m) mask logits of the trained model, after the last round.
        teacher: (P, m, m) mask logits of the teacher for the same prompts, or None without a teacher.
        target: (P, m, m) uint8 ground truth, or None without any.
    """

    prompts: Prompts
    student: Tensor
    teacher: Tensor | None
    target: Tensor | None


@dataclass
class ClipPrediction:
    """What a step tracked: N objects through T frames, on the mask grid.

    Attributes:
        student: (T, N, m, m) mask logits of the trained model.
        teacher: (T, N, m, m) mask logits of the teacher, or None without one.
        target: (T, N, m, m) bool, ground truth.
        labelled: (T, N) bool, whether the frame has ground truth.
        void: (T, N, m, m) bool, cells that count neither way.
        clip_index: (N,) clip of each object in the batch.
        keys: Sample keys of the clips.
    """

    student: Tensor
    teacher: Tensor | None
    target: Tensor
    labelled: Tensor
    void: Tensor
    clip_index: Tensor
    keys: list[str]


@dataclass
class PhraseTargets:
    """What supervises P (image, phrase) pairs: N instances, packed, those of pair 0 first.

    Attributes:
        counts: (P,) instances of each phrase, N in all; 0 for a negative.
        exhaustive: (P,) bool, whether these are all; where not, absence proves nothing.
        boxes: (N, 4) centre x, centre y, width, height, in [0, 1] of the canvas.
        masks: (N, m, m) {0, 1} on a grid of the canvas, or None.
        mask_valid: (N,) bool, which instances have a mask; None for all.
    """

    counts: Tensor
    exhaustive: Tensor
    boxes: Tensor
    masks: Tensor | None = None
    mask_valid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def pair(self) -> Tensor:
        """(N,) pair of each instance."""
        return torch.repeat_interleave(self.counts)

    @property
    def present(self) -> Tensor:
        """(P,) bool, whether the phrase has an instance."""
        return self.counts > 0


@dataclass
class FoundInstances:
    """What a model answered to P (image, phrase) pairs: K instances, packed, those of pair 0 first.

    Attributes:
        presence: (P,) probability that the phrase is there, in [0, 1].
        pair: (K,) pair of each instance, ascending.
        scores: (K,) in [0, 1]; those that are too low for an instance are left out.
        masks: (K, m, m) bool, on the mask grid.
    """

    presence: Tensor
    pair: Tensor
    scores: Tensor
    masks: Tensor


@dataclass
class ConceptPrediction:
    """What a step asked and found in P (image, phrase) pairs.

    Attributes:
        truth: What the data says of them.
        phrases: The P phrases.
        image_index: (P,) image of each pair in the batch.
        keys: Sample keys of the images.
        cut: How many of the distinct phrases were longer than the text encoder's context and lost their end.
        student: What the trained model found; None in training.
        teacher: What the teacher found, or None.
    """

    truth: PhraseTargets
    phrases: list[str]
    image_index: Tensor
    keys: list[str]
    cut: int
    student: FoundInstances | None = None
    teacher: FoundInstances | None = None


@dataclass
class TextPrediction:
    """What a text encoder made of T phrases, beside its teacher.

    Attributes:
        student: (T, L, C) tokens.
        teacher: (T, L, C) tokens.
        mask: (T, L) bool, which tokens belong to the phrase.
        cut: How many phrases were longer than the context.
    """

    student: Tensor
    teacher: Tensor
    mask: Tensor
    cut: int


@dataclass
class StepOutput:
    """What a step of any stage returns; the base module logs the terms, callbacks read the rest.

    Attributes:
        loss: Scalar to descend.
        terms: Its unweighted parts by name, scalars, for the log.
        batch_size: Number of images; in stage 2, of frames.
        masks: Predictions by prompt kind ("box", "point", "mask").
        student_features: What the trained model encoded, or None.
        teacher_features: What the teacher encoded, or None.
        content: (B, 2) filled part of the canvas in contract pixels; features beyond it do not count.
        clip: What was tracked, in stage 2.
        text: What a text encoder made of phrases.
        concepts: What was asked and found, in stage 3.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    batch_size: int
    masks: dict[str, MaskPrediction] = field(default_factory=dict)
    student_features: ImageFeatures | None = None
    teacher_features: ImageFeatures | None = None
    content: Tensor | None = None
    clip: ClipPrediction | None = None
    text: TextPrediction | None = None
    concepts: ConceptPrediction | None = None


@dataclass
class LabelledImage:
    """One image with its instances, for evaluation.

    Attributes:
        key: Names the sample in reports and errors.
        image: (H, W, 3) uint8 RGB, at its own size.
        masks: COCO compressed RLE of each instance, `{"size": [H, W], "counts": str}`.
        ids: Id of each instance in its data set.
    """

    key: str
    image: np.ndarray
    masks: list[dict[str, Any]]
    ids: list[int]


@dataclass
class LabelledPhrase:
    """One noun phrase asked of an image, for evaluation.

    Attributes:
        text: The phrase.
        answers: By annotator, the masks of the instances as compressed RLE of the image's size; crowds are left out.
        exhaustive: Whether every annotator says that these are all; where not, what is missing proves nothing.
        num_crowd: Crowd regions that were left out.
    """

    text: str
    answers: list[list[dict[str, Any]]]
    exhaustive: bool
    num_crowd: int


@dataclass
class LabelledConcepts:
    """One image with its phrases, for evaluation.

    Attributes:
        where: Names the sample in messages.
        file_name: As the source has it.
        image: (H, W, 3) uint8 RGB, at its own size.
        phrases: In the order of the record.
    """

    where: str
    file_name: str
    image: np.ndarray
    phrases: list[LabelledPhrase]


@dataclass
class LabelledVideo:
    """One video with the masks of its objects, for evaluation; places are those in `frames`.

    Crowds, regions of many objects, are left out.

    Attributes:
        name: As its data set has it.
        height: Of all frames, in pixels.
        width: Likewise.
        frames: Names of the stored frames in order: their numbers in the source, with leading zeros.
        labelled: Places with ground truth, ascending.
        ids: Of the objects.
        masks: By object and place, compressed RLE, valid for the video's size, or None where it is not to be seen.
        void: By place, likewise: pixels that the annotators left undecided.
        read: Frame (H, W, 3) uint8 RGB at a place.
    """

    name: str
    height: int
    width: int
    frames: list[str]
    labelled: list[int]
    ids: list[int | str]
    masks: list[list[dict[str, Any] | None]]
    void: list[dict[str, Any] | None]
    read: Callable[[int], np.ndarray]
