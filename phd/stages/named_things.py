"""Before concepts: points and boxes as in stage 1, while each cell learns words and borders of the thing it shows.

SAM 3's trunk comes from the Perception Encoder (arXiv 2504.13181), which has learnt from captions what things are
called; its detector and its tracker are trained on top. A trunk that has only learnt where things end keeps little of
what they are, and neither a detector nor a memory can bring it back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phd.batches import ConceptBatch, ImageBatch
from phd.errors import UserError
from phd.losses.extents import extents_loss
from phd.outputs import StepOutput
from phd.stages.encoder_distill import EncoderDistill
from phd.stages.joint import joint_shares
from phd.text.words import KINDS, WORD_VOCABULARY, word_ids

# Of a thing with a hole or an edge, the cells that show mostly something else do not count.
LEAST_COVERAGE = 0.4
# The words are new; much faster, and their noise hides what the trunk could learn.
WORDS_RATE = 2.0


class NamedThings(EncoderDistill):
    """Train trunk, neck and mask decoder of a segmenter of the embedded world on images with noun phrases.

    In a phase without any mask term the trunk learns words and borders alone, at a small part of the cost.

    Args:
        names: Weight of the words.
        extents: Weight of the borders, which a detector's boxes and a tracker's masks need.
        max_masks: Instances of an image that are asked for by points and boxes.
        others: Those of `EncoderDistill`.
    """

    def __init__(self, names: float = 1.0, extents: float = 0.0, max_masks: int = 6, **others: Any) -> None:
        low = [f"model.{name} is {value}" for name, value in {"names": names, "extents": extents}.items() if value < 0]
        if low:
            raise UserError(f"{low[0]}; give at least 0")
        if max_masks < 1:
            raise UserError(f"model.max_masks is {max_masks}; give at least 1")
        super().__init__(**others)
        self.names, self.extents, self.max_masks = names, extents, max_masks
        widths = {"trunk": self.contract.trunk[-1].channels, "tracker": self.contract.tracker[-1].channels}
        self.words = nn.ModuleDict({place: nn.Linear(width, WORD_VOCABULARY) for place, width in widths.items()})
        self.borders = nn.ModuleDict({place: nn.Conv2d(width, 4, 1) for place, width in widths.items()})

    def optimised_groups(self) -> list[dict[str, Any]]:
        """See `Stage.optimised_groups`; words and borders have a rate of their own."""
        new = [*self.words.parameters(), *self.borders.parameters()]
        return [*super().optimised_groups(), {"params": new, "lr": WORDS_RATE * self.lr, "weight_decay": 0.0}]

    def step(self, batch: Any, train: bool) -> StepOutput:
        """See `EncoderDistill.step`; words and borders are terms of their own."""
        assert isinstance(batch, ConceptBatch)
        if train and not self.losses.at(self.progress).decodes:
            cells = self.learner.trunk(self.contract.normalise(batch.images, batch.content))[-1]
            loss, terms = self._known("trunk", cells, batch)
            return StepOutput(loss=loss, terms=terms, batch_size=len(batch))
        output = super().step(as_image_batch(batch, self.max_masks), train)
        assert output.student_features is not None
        loss, terms = self._known("tracker", output.student_features.tracker[-1], batch)
        output.terms |= terms
        output.loss = output.loss + loss
        return output

    def _known(self, place: str, cells: Tensor, batch: ConceptBatch) -> tuple[Tensor, dict[str, Tensor]]:
        # Most of a feature is the same in all cells; what is left has to be as large as the new weights expect.
        cells = F.batch_norm(cells, None, None, training=True)
        cover = covered(cells, batch)
        terms = words_loss(self.words[place](pooled(cells, cover, batch)), batch)
        loss = self.names * torch.stack(list(terms.values())).mean()
        if self.extents:
            boxes, image = batch.boxes / self.contract.image_size, batch.image_index[batch.phrase_index]
            share = joint_shares((cover.sum((1, 2)) > 0).sum().float())
            terms["extents"] = share * extents_loss(self.borders[place](cells), boxes, cover, image)
            loss = loss + self.extents * terms["extents"]
        return loss, terms


def as_image_batch(batch: ConceptBatch, most: int) -> ImageBatch:
    """The first instances of each image, whatever they are called."""
    image = batch.image_index[batch.phrase_index]
    first = torch.searchsorted(image, torch.arange(len(batch.images), device=image.device))
    place = torch.arange(len(image), device=image.device) - first[image]
    kept = place < most
    masks = batch.masks.new_zeros(len(batch.images), most, *batch.masks.shape[-2:], dtype=torch.uint8)
    valid = torch.zeros(len(batch.images), most, dtype=torch.bool, device=image.device)
    masks[image[kept], place[kept]] = batch.masks[kept].to(torch.uint8)
    valid[image[kept], place[kept]] = True
    return ImageBatch(batch.images, batch.content, masks, valid, batch.keys)


def pooled(cells: Tensor, cover: Tensor, batch: ConceptBatch) -> Tensor:
    """The mean feature (K, C) of the cells of each instance.

    Args:
        cells: (B, C, h, w).
        cover: (K, h, w), of `covered`.
        batch: Images with K instances.
    """
    weight = cover / cover.sum((1, 2), keepdim=True).clamp(min=1e-6)
    image = batch.image_index[batch.phrase_index]
    return torch.einsum("khw,kchw->kc", weight, cells[image])


def covered(cells: Tensor, batch: ConceptBatch) -> Tensor:
    """How much of each cell each instance covers, (K, h, w) in [0, 1]; 0 where it covers little."""
    cover = F.adaptive_avg_pool2d(batch.masks.float(), (cells.shape[-2], cells.shape[-1]))
    least = torch.minimum(cover.amax((1, 2), keepdim=True), cover.new_tensor(LEAST_COVERAGE))
    return cover * (cover >= least)


def words_loss(logits: Tensor, batch: ConceptBatch) -> dict[str, Tensor]:
    """Cross-entropy between the words of a phrase and what is said of its instances, a scalar by kind of word.

    The words of a kind (shape, colour, texture) exclude each other. Each instance counts the same, whatever its size.

    Args:
        logits: (K, V), of the instances.
        batch: Images with phrases and instances.
    """
    said = torch.zeros(len(batch.phrases), logits.shape[-1], device=logits.device)
    for number, phrase in enumerate(batch.phrases):
        said[number, word_ids(phrase)] = 1.0
    said = said[batch.phrase_index]
    terms: dict[str, Tensor] = {}
    for kind, (first, end) in KINDS.items():
        count = said[:, first:end].sum()
        heard = logits[:, first:end].log_softmax(-1) * said[:, first:end]
        terms[kind] = -joint_shares(count) * heard.sum() / count.clamp(min=1)
    return terms
