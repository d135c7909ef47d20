"""A model that is asked about a batch: images and phrases are encoded once, however often it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from phd.batches import ConceptBatch
from phd.concept_prompts import VISUAL, Exemplars, TextFeatures
from phd.contract import Detections, ImageFeatures, QueryMasks
from phd.errors import UserError
from phd.outputs import FoundInstances, PhraseTargets
from phd.segmenter import Segmenter
from phd.stages.concept_losses import TEACHER_THRESHOLD, teacher_objects


@dataclass
class Answerer:
    """A model with what it encoded.

    Attributes:
        model: A segmenter that detects.
        features: Of the B images, the detector's branch among them.
        text: Of the distinct phrases.
        text_index: (P,) phrase of each pair.
        image_index: (P,) image of each pair.
        at_once: Pairs that are answered at a time; each is answered as if it were alone, so this changes no answer.
        recompute: Keep no activations of an answer, and compute it again in the backward pass.
    """

    model: Segmenter
    features: ImageFeatures
    text: TextFeatures
    text_index: Tensor
    image_index: Tensor
    at_once: int
    recompute: bool = False

    @classmethod
    def of(
        cls,
        model: Segmenter,
        features: ImageFeatures,
        batch: ConceptBatch,
        visual: Tensor,
        at_once: int,
        recompute: bool = False,
    ) -> Answerer:
        """Encode the phrases of a batch, each distinct one once.

        Args:
            model: Whose text encoder reads them.
            features: What it encoded of the images.
            batch: Images with phrases.
            visual: (P,) bool, the pairs that are asked without their phrase.
            at_once: See the class.
            recompute: See the class.

        Raises:
            UserError: A phrase is empty; the sample is named.
        """
        asked = [VISUAL if only else phrase for phrase, only in zip(batch.phrases, visual.tolist(), strict=True)]
        distinct = {phrase: number for number, phrase in enumerate(dict.fromkeys(asked or [VISUAL]))}
        try:
            text = model.encode_text(list(distinct))
        except UserError as error:
            raise _naming_the_sample(error, batch) from error
        index = torch.tensor([distinct[phrase] for phrase in asked], dtype=torch.long, device=batch.images.device)
        return cls(model, features, text, index, batch.image_index, at_once, recompute)

    def ask(
        self,
        exemplars: Exemplars | None = None,
        auxiliary: bool = False,
        one_to_many: bool = False,
        drawn: Tensor | None = None,
    ) -> Detections:
        """Answer all P pairs; without any pair the answer is an empty one, without a graph.

        Args:
            exemplars: Boxes for each pair.
            auxiliary: Also return the earlier decoder layers.
            one_to_many: Also return the one-to-many branch.
            drawn: (P,) bool, the pairs whose masks are read; None for all.
        """
        if not len(self.image_index):
            with torch.no_grad():
                index = torch.zeros(1, dtype=torch.long, device=self.image_index.device)
                lone = self.model.detect(self.features, self.text, index, None, index, auxiliary, one_to_many)
            return _mapped([lone], lambda values: values[0][:0])

        def answer(pairs: Tensor) -> Detections:
            shown = None if exemplars is None else Exemplars(exemplars.boxes[pairs], exemplars.labels[pairs])
            image, phrase = self.image_index[pairs], self.text_index[pairs]
            masks = None if drawn is None else drawn[pairs]
            return self.model.detect(self.features, self.text, image, shown, phrase, auxiliary, one_to_many, masks)

        chunks = torch.arange(len(self.image_index), device=self.image_index.device).split(self.at_once)
        if self.recompute and torch.is_grad_enabled():
            parts = [checkpoint(answer, pairs, use_reentrant=False) for pairs in chunks]
        else:
            parts = [answer(pairs) for pairs in chunks]
        return _mapped(parts, torch.cat)

    @torch.no_grad()
    def reference(self, exemplars: Exemplars | None = None, drawn: Tensor | None = None) -> Detections:
        """The same without a graph, as a teacher answers."""
        return self.ask(exemplars, drawn=drawn)


def teacher_targets(answer: Detections) -> PhraseTargets:
    """What the teacher found, as if it were annotated: boxes, and masks that are cut at 0."""
    pair, query = teacher_objects(answer).nonzero(as_tuple=True)
    present = answer.logits.shape[0]
    return PhraseTargets(
        counts=torch.bincount(pair, minlength=present),
        exhaustive=torch.ones(present, dtype=torch.bool, device=pair.device),
        boxes=answer.boxes[pair, query].detach(),
        masks=answer.masks_at(pair, query).detach() > 0,
    )


def with_masks(truth: PhraseTargets, teacher: Detections | None) -> Tensor:
    """(P,) bool, the pairs whose masks a loss may compare: with annotated instances, or with some that it found."""
    return truth.present if teacher is None else truth.present | teacher_objects(teacher).any(1)


def found_instances(answer: Detections) -> FoundInstances:
    """The instances that count, with their masks."""
    assert answer.presence is not None
    scores = answer.scores.detach()
    pair, query = (scores >= TEACHER_THRESHOLD).nonzero(as_tuple=True)
    masks = answer.masks_at(pair, query).detach() > 0
    return FoundInstances(answer.presence.detach().sigmoid(), pair, scores[pair, query], masks)


def _mapped(parts: Sequence[Detections], join: Callable[[list[Tensor]], Tensor]) -> Detections:
    """One answer of several, tensor by tensor."""
    if len(parts) == 1 and join is torch.cat:
        return parts[0]

    def joined(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else join(values)

    logits, boxes, masks = joined("logits"), joined("boxes"), [part.masks for part in parts]
    assert logits is not None
    assert boxes is not None
    factors = [value for value in masks if isinstance(value, QueryMasks)]
    branches = [part.one_to_many for part in parts if part.one_to_many is not None]
    return Detections(
        logits=logits,
        boxes=boxes,
        presence=joined("presence"),
        masks=_joined_masks(factors, join) if factors else joined("masks"),
        semantic=joined("semantic"),
        auxiliary=[_mapped(layers, join) for layers in zip(*(part.auxiliary for part in parts), strict=True)],
        one_to_many=_mapped(branches, join) if branches else None,
    )


def _joined_masks(parts: list[QueryMasks], join: Callable[[list[Tensor]], Tensor]) -> QueryMasks:
    """Rows are counted on from part to part."""
    rows: list[Tensor] = []
    first = 0
    for part in parts:
        own = torch.arange(len(part.pixels), device=part.pixels.device) if part.rows is None else part.rows
        rows.append(torch.where(own < 0, own, own + first))
        first += len(part.pixels)
    return QueryMasks(join([part.embeddings for part in parts]), join([part.pixels for part in parts]), join(rows))


def _naming_the_sample(error: UserError, batch: ConceptBatch) -> UserError:
    """The same error with the sample whose phrase has no word; unchanged where it is about something else."""
    for phrase, image in zip(batch.phrases, batch.image_index.tolist(), strict=True):
        if not phrase.strip() or f"({phrase!r})" in str(error):
            return UserError(
                f"sample {batch.keys[image]}: its phrase {phrase!r} is empty; mend it, or take it out of the data"
            )
    return error
