"""What is asked beside a phrase: exemplar boxes, in its place or with it, and corrections of an answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phd.concept_prompts import Exemplars
from phd.contract import Detections
from phd.errors import UserError
from phd.losses.concept_boxes import box_overlap, corners
from phd.outputs import PhraseTargets
from phd.prompts import jitter_boxes
from phd.stages.concept_losses import TEACHER_THRESHOLD

# An instance is found by a confident query whose box has this IoU with it; a query that has less than the second with
# every instance is a false positive.
FOUND_IOU, FALSE_IOU = 0.5, 0.1


@dataclass
class ConceptMix:
    """How the phrases of a batch are asked in training; a phrase without instances has no exemplar and is asked alone.

    The shares are those of SAM 3's pre-training (arXiv 2511.16719, appendix C.4), the noise that of its released
    training configuration.

    Attributes:
        phrase: Share of phrases that are asked alone.
        exemplar: Share that a box of an instance replaces.
        both: Share that a box of an instance accompanies.
        box_jitter: Standard deviation of an exemplar's edge, as a share of the side.
        box_jitter_limit: Largest move of an edge, in contract pixels.
        rounds: Most corrective rounds; how many is drawn for each step, from 0 to this.
    """

    phrase: float = 0.6
    exemplar: float = 0.2
    both: float = 0.2
    box_jitter: float = 0.1
    box_jitter_limit: float = 20.0
    rounds: int = 0

    def __post_init__(self) -> None:
        shares = (self.phrase, self.exemplar, self.both)
        if min(shares) < 0 or sum(shares) <= 0:
            raise UserError(
                f"model.prompts: the shares of phrase, exemplar and both are {shares}; give shares of at least 0, "
                f"not all 0"
            )
        if self.rounds < 0:
            raise UserError(f"model.prompts.rounds is {self.rounds}; give at least 0")


@dataclass
class ConceptPrompts:
    """What is asked of P (image, phrase) pairs.

    Attributes:
        visual: (P,) bool, whether exemplars stand in place of the phrase.
        exemplars: Their boxes, or None for none at all.
    """

    visual: Tensor
    exemplars: Exemplars | None = None


def phrases_alone(targets: PhraseTargets) -> ConceptPrompts:
    """No exemplar for any pair."""
    return ConceptPrompts(torch.zeros_like(targets.exhaustive))


def draw_concept_prompts(
    mix: ConceptMix, targets: PhraseTargets, image_size: int, generator: torch.Generator
) -> ConceptPrompts:
    """Training prompts for P pairs.

    Args:
        mix: The shares.
        targets: Their instances, from which the exemplars are drawn.
        image_size: Contract pixels.
        generator: On the device of the targets.
    """
    if mix.exemplar + mix.both == 0 or not len(targets.boxes):
        return phrases_alone(targets)
    counts, device = targets.counts, targets.counts.device
    shares = torch.tensor([mix.phrase, mix.exemplar, mix.both], dtype=torch.float, device=device)
    kind = torch.multinomial(shares, len(counts), replacement=True, generator=generator)
    kind = torch.where(targets.present, kind, 0)
    offset = (torch.rand(len(counts), generator=generator, device=device) * counts).long()
    chosen = (counts.cumsum(0) - counts + offset).clamp(max=len(targets.boxes) - 1)
    boxes = edges(targets.boxes, image_size)[chosen]
    boxes = jitter_boxes(boxes, mix.box_jitter, mix.box_jitter_limit, image_size, generator)
    labels = torch.where(kind > 0, 1, -1)
    return ConceptPrompts(kind == 1, Exemplars(boxes[:, None], labels[:, None]))


def corrected_prompts(
    prompts: ConceptPrompts, answer: Detections, targets: PhraseTargets, image_size: int, generator: torch.Generator
) -> ConceptPrompts:
    """The prompts with one exemplar more for each pair that has a mistake.

    A missed instance becomes a positive box, a confident query that hits no instance a negative one; of all mistakes
    of a pair one is drawn (SAM 3, arXiv 2511.16719, appendix C.4; its sampler is not released). Where not every
    instance is annotated, no query is wrong for certain.

    Args:
        prompts: What was asked.
        answer: What came.
        targets: What should have come.
        image_size: Contract pixels.
        generator: On the device of the targets.
    """
    pair, device = targets.pair, targets.counts.device
    iou = box_overlap(answer.boxes[pair], targets.boxes[:, None])[0]
    confident = answer.scores >= TEACHER_THRESHOLD
    found = ((iou >= FOUND_IOU) & confident[pair]).any(dim=1)
    nearest = torch.zeros_like(answer.logits).scatter_reduce_(0, pair[:, None].expand_as(iou), iou, "amax")
    wrong = confident & (nearest < FALSE_IOU) & targets.exhaustive[:, None]

    # Every mistake draws a number; the largest of a pair wins.
    missed = torch.rand(len(pair), generator=generator, device=device).masked_fill(found, -1.0)
    most = torch.full((len(targets),), -1.0, device=device).scatter_reduce_(0, pair, missed, "amax")
    first = (missed >= 0) & (missed == most[pair])
    instance = torch.zeros_like(targets.counts).scatter_(0, pair[first], first.nonzero()[:, 0])
    noise = torch.rand(wrong.shape, generator=generator, device=device).masked_fill(~wrong, -1.0)
    highest, query = noise.max(dim=1)

    boxes = corners(answer.boxes[torch.arange(len(query), device=device), query].float()) * image_size
    positive = most >= highest
    if len(targets.boxes):
        boxes = torch.where(positive[:, None], edges(targets.boxes, image_size)[instance], boxes)
    label = torch.where(torch.maximum(most, highest) < 0, -1, positive.long())
    added = Exemplars(boxes.clamp(0, image_size).detach()[:, None], label[:, None])
    if prompts.exemplars is None:
        return ConceptPrompts(prompts.visual, added)
    earlier = prompts.exemplars
    return ConceptPrompts(
        prompts.visual,
        Exemplars(
            torch.cat([earlier.boxes, added.boxes], dim=1),
            torch.cat([earlier.labels, added.labels], dim=1),
        ),
    )


def edges(boxes: Tensor, image_size: int) -> Tensor:
    """Centres and sizes (N, 4) in [0, 1] to edges x0 y0 x1 y1 in contract pixels."""
    return corners(boxes.float()) * image_size
