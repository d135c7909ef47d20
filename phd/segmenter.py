"""The one interface of teachers and students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from phd.concept_prompts import VISUAL, Exemplars, TextFeatures
from phd.contract import Branch, Contract, Detections, ImageFeatures, Masks, ObjectPrompt, Prompts
from phd.errors import UserError
from phd.heads import Sam3Heads
from phd.heads.memory import streaming
from phd.heads.memory.rules import TrackRules
from phd.heads.memory.streaming import TrackState
from phd.heads.memory.video import VideoHeads


class Segmenter(nn.Module):
    """A model with the verbs of the SAM family; teachers and students are the same kind of thing.

    A subclass has `contract`, `name`, `heads` and perhaps `text`, a `TextEncoder`, and implements `encode`. The other
    verbs belong to the heads, which teacher and student share class by class, so that whatever one can do, the other
    can.
    """

    contract: Contract
    name: str
    heads: Any
    trunk: Any
    neck: Any

    @property
    def verbs(self) -> tuple[str, ...]:
        """What the model can do; `detect` takes a text encoder."""
        track = ("track",) if isinstance(self._heads, VideoHeads) else ()
        detect = ("detect",) if isinstance(self._heads, Sam3Heads) and self._text is not None else ()
        return ("encode", "segment", *track, *detect)

    def encode(self, images: Tensor, branches: Sequence[Branch] | None = None, coarsest: bool = False) -> ImageFeatures:
        """Encode normalised images.

        Args:
            images: (B, 3, S, S) float, normalised by `contract.normalise`.
            branches: Which branches to compute; all that the contract has by default.
            coarsest: Compute the coarsest level of each alone.

        Returns:
            The levels that the heads read.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode")

    def gradient_checkpointing(self) -> None:
        """Recompute the trunk's activations in the backward pass."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient_checkpointing")

    def segment(self, features: ImageFeatures, prompts: Prompts, multimask: bool | None = None) -> Masks:
        """Answer prompts (promptable visual segmentation).

        Args:
            features: Of the batch that `prompts.image_index` points into.
            prompts: P prompts of one kind.
            multimask: Ask for several candidates; by default only for a lone point.

        Returns:
            Masks with K candidates for each of the P prompts.
        """
        return self.heads.segment(features, prompts, prompts.ambiguous if multimask is None else multimask)

    def encode_text(self, phrases: Sequence[str]) -> TextFeatures:
        """Encode noun phrases; those longer than the context are cut and counted.

        Args:
            phrases: T phrases; the caller leaves out repetitions, and points to them by `text_index`.

        Raises:
            UserError: A phrase is empty, or the model has no text encoder.
        """
        self._detector_heads()
        if self._text is None:
            raise UserError(
                f"{self.name}: has no text encoder yet; give it one with set_text, or take stage 3's student"
            )
        return self._text(phrases)

    def detect(
        self,
        features: ImageFeatures,
        text: TextFeatures | None,
        image_index: Tensor,
        exemplars: Exemplars | None = None,
        text_index: Tensor | None = None,
        auxiliary: bool = False,
        one_to_many: bool = False,
        drawn: Tensor | None = None,
    ) -> Detections:
        """Find every instance of a concept (promptable concept segmentation).

        A pair's answer depends on nothing else in the batch.

        Args:
            features: Of B images, with the detector's branch.
            text: T phrases, or None where exemplars alone say what is meant.
            image_index: (P,) image of each (image, phrase) pair.
            exemplars: Boxes for each pair; None for none.
            text_index: (P,) phrase of each pair; by default one for each pair, or the only one for all.
            auxiliary: Also return the earlier decoder layers, for training.
            one_to_many: Also return the branch without self-attention, for training.
            drawn: (P,) bool, the pairs whose masks are wanted, which are most of the cost; None for all.

        Returns:
            Answers of Q queries to each of the P pairs.

        Raises:
            UserError: The model does not detect, there is neither text nor exemplar, or the numbers do not fit.
        """
        if text is None and exemplars is None:
            raise UserError("detect: neither a phrase nor an exemplar box; give one of them")
        heads, pairs = self._detector_heads(), len(image_index)
        text = self.encode_text([VISUAL]) if text is None else text
        if text_index is None:
            if len(text) not in (1, pairs):
                raise UserError(f"detect: {len(text)} phrases for {pairs} pairs; give text_index")
            text_index = torch.arange(pairs, device=image_index.device) if len(text) == pairs else image_index * 0
        if len(text_index) != pairs or (exemplars is not None and len(exemplars.labels) != pairs):
            raise UserError(f"detect: {pairs} pairs, but text_index or exemplars are of another number")
        return heads.detect(
            features,
            image_index,
            text.tokens[text_index],
            text.mask[text_index],
            exemplars=None if exemplars is None else exemplars.normalised(self.contract.image_size),
            auxiliary=auxiliary,
            one_to_many=one_to_many,
            drawn=drawn,
        )

    @property
    def _text(self) -> Any:
        return getattr(self, "text", None)

    @property
    def _heads(self) -> Any:
        return getattr(self, "heads", None)

    def _detector_heads(self) -> Sam3Heads:
        if not isinstance(self._heads, Sam3Heads):
            raise UserError(f"{self.name}: does not read phrases; take a model of SAM 3")
        return self._heads

    def track(
        self,
        frame: Tensor | ImageFeatures,
        state: TrackState | None = None,
        prompts: dict[int, ObjectPrompt] | None = None,
        rules: TrackRules | None = None,
    ) -> TrackState:
        """Answer for the next frame of a video.

        Args:
            frame: (1, 3, S, S) float, normalised, or what `encode` made of it.
            state: What this returned for the frame before; None for the first frame.
            prompts: By object id; an object begins, or begins again, with its prompt.
            rules: What is remembered, and whether masks may overlap; by default what the model's configuration says.

        Returns:
            The new state; its `answer` has one row for each of its `ids`.

        Raises:
            UserError: The model has no memory, there is no object at all, or a prompt is empty.
        """
        return streaming.track(self._video_heads(), self._features(frame), state, prompts, rules)

    def correct(
        self,
        frame: Tensor | ImageFeatures,
        state: TrackState,
        prompts: dict[int, ObjectPrompt],
        rules: TrackRules | None = None,
    ) -> TrackState:
        """Answer the latest frame again, with prompts that are read beside the memory.

        Args:
            frame: The latest frame, as in `track`.
            state: What `track` or this returned for it.
            prompts: Points or a box by object id, for objects that are tracked.
            rules: As in `track`.

        Raises:
            UserError: The model has no memory, an object is unknown, or no frame has been tracked.
        """
        return streaming.correct(self._video_heads(), self._features(frame), state, prompts, rules)

    def _video_heads(self) -> VideoHeads:
        if not isinstance(self.heads, VideoHeads):
            raise UserError(
                f"{self.name}: a model of SAM 1 segments single images and cannot track; take one of SAM 2 or SAM 3"
            )
        return self.heads

    def _features(self, frame: Tensor | ImageFeatures) -> ImageFeatures:
        features = self.encode(frame, ("tracker",)) if isinstance(frame, Tensor) else frame
        count = len(features.tracker[-1])
        if count != 1:
            raise UserError(f"track: {count} images at once; give the frames of a video one at a time")
        return features
