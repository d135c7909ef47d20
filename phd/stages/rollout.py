"""Roll a tracker out over a clip, differentiably: prompt, track, correct, remember, frame after frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from phd.contract import ImageFeatures, Prompts
from phd.heads.memory.rules import PLAIN, TrackRules
from phd.heads.memory.video import GIVEN_BIAS, GIVEN_SCALE, TrackedFrame, VideoHeads
from phd.prompts import corrective_points, points_to_pixels
from phd.stages.clip_objects import ClipObjects
from phd.stages.clip_prompts import ClipPlan

RolloutMasks = Literal["own", "teacher", "ground_truth"]


@dataclass
class Answer:
    """One decoding of one frame: the tracked answer, or one after a corrective click.

    Attributes:
        frame: Number of the frame in the clip.
        tracked: What was decoded.
        decoded: Whether the decoder answered; a mask that is given is not its answer.
    """

    frame: int
    tracked: TrackedFrame
    decoded: bool = True


@dataclass
class Rollout:
    """What was tracked.

    Attributes:
        answers: All answers to frames that are trained on, in order.
        final: The last answer of each frame.
        lead_in: How many frames were tracked before those that are trained on.
    """

    answers: list[Answer] = field(default_factory=list)
    final: list[TrackedFrame] = field(default_factory=list)
    lead_in: int = 0

    @property
    def masks(self) -> Tensor:
        """(T, N, m, m) logits of the last answers."""
        return torch.stack([answer.masks for answer in self.final])

    @property
    def remembered(self) -> Tensor:
        """(t, N, C, h, w) the features conditioned on the memory, of frames trained on but the first of the clip."""
        return torch.stack([answer.conditioned for answer in self.final[max(1, self.lead_in) :]])


def roll_out(
    heads: VideoHeads,
    features: ImageFeatures,
    objects: ClipObjects,
    plan: ClipPlan,
    first: Prompts | None,
    *,
    image_size: int,
    generator: torch.Generator,
    guide: Rollout | None = None,
    masks: RolloutMasks = "own",
    truncate: int | None = None,
    binary: bool = False,
    rules: TrackRules = PLAIN,
) -> Rollout:
    """Track N objects through T frames.

    Corrective clicks are drawn where the answer differs from the ground truth, as a user would give them.

    Args:
        heads: Of the student or of the teacher.
        features: Of all B x T frames, those of clip 0 first.
        objects: The objects with their ground truth, at least one.
        plan: First prompt and corrections.
        first: Prompts of the first frame; None where it is given as a mask.
        image_size: Contract pixels.
        generator: Draws the corrective points.
        guide: The teacher's rollout, for `masks: teacher`.
        masks: Whose masks go into the memory.
        truncate: Cut the gradient through the memory after every so many frames; None for never.
        binary: Cut prompted masks off to 0 and 1 before they go into memory, as at inference.
        rules: Which frames an object remembers, and whether the masks of a clip may overlap, as in tracking.
    """
    size = heads.bank_size.within(len(objects.target), len({0, *plan.corrected}))
    bank = heads.new_bank(len(objects), features.tracker[-1], size)
    nothing = Prompts(torch.arange(len(objects), device=features.device))
    rollout = Rollout(lead_in=plan.lead_in)
    looks = None
    for number in range(len(objects.target)):
        with torch.set_grad_enabled(torch.is_grad_enabled() and number >= plan.lead_in):
            coarse, finer = _levels(heads, features, objects, number)
            conditioned = (
                heads.without_memory(coarse) if number == 0 else heads.read_memory(coarse, bank, bank.coming())
            )
            asked = nothing if number > 0 or first is None else first
            if number == 0 and first is None:
                given = heads.given_frame(coarse, finer, upsampled(objects.target[0], image_size))
                answers = [Answer(number, given, decoded=False)]
            else:
                candidates = heads.wants_candidates(_points(asked), number == 0)
                answers = [Answer(number, heads.decode_frame(conditioned, finer, asked, candidates))]
            for _ in range(plan.clicks if number in plan.corrected else 0):
                asked = _corrected(asked, answers[-1].tracked, objects, number, image_size, generator)
                answers.append(Answer(number, heads.decode_frame(conditioned, finer, asked, multimask=False)))
            answer = answers[-1].tracked
            prompted = torch.full((len(objects),), number == 0 or number in plan.corrected, device=coarse.device)
            sight = rules.sight(_frames(features, objects, number), objects.clip_index, looks)
            answer = rules.settled(answer, prompted, heads.tracker_model.no_object_pointer, objects.clip_index, sight)
            looks = sight and sight.noted(answer.canvas, prompted)
            canvas, object_logits = _drawn(answer, objects, number, guide, masks, image_size)
            drawn = replace(answer, canvas=canvas, object_logits=object_logits)
            rows = rules.remembered(drawn, prompted)
            if len(rows):
                tokens = heads.remember(coarse[rows], canvas[rows], object_logits[rows], prompted[rows] & binary)
                bank = bank.write(bank.coming()[rows], tokens, answer.pointers[rows], prompted[rows], rows)
        rollout.answers += answers if number >= plan.lead_in else []
        rollout.final.append(answer)
        if truncate is not None and (number + 1) % truncate == 0:
            bank = bank.detached()
    return rollout


def upsampled(masks: Tensor, size: int) -> Tensor:
    """Masks (N, m, m) on the canvas (N, S, S), cells as blocks."""
    return F.interpolate(masks.unsqueeze(1), (size, size), mode="nearest").squeeze(1)


def _levels(
    heads: VideoHeads, features: ImageFeatures, objects: ClipObjects, number: int
) -> tuple[Tensor, list[Tensor]]:
    """The coarsest level of a frame and the projected finer ones, for each object."""
    coarse, finer = heads.decoder_levels(_frames(features, objects, number))
    return coarse[objects.clip_index], [level[objects.clip_index] for level in finer]


def _frames(features: ImageFeatures, objects: ClipObjects, number: int) -> list[Tensor]:
    """The tracker's levels of one frame of every clip."""
    return [level[number :: len(objects.target)] for level in features.tracker]


def _drawn(
    answer: TrackedFrame,
    objects: ClipObjects,
    number: int,
    guide: Rollout | None,
    masks: RolloutMasks,
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """The mask that goes into the memory, logits (N, S, S), and whether the object is there, logits (N,)."""
    if masks == "teacher" and guide is not None:
        return guide.final[number].canvas, guide.final[number].object_logits
    if masks != "ground_truth":
        return answer.canvas, answer.object_logits
    # Where a frame has no ground truth, the own mask is all there is.
    truth = upsampled(objects.target[number], image_size) * GIVEN_SCALE + GIVEN_BIAS
    there = objects.target[number].flatten(1).any(1).to(truth.dtype) * GIVEN_SCALE + GIVEN_BIAS
    known = objects.labelled[number]
    return torch.where(known[:, None, None], truth, answer.canvas), torch.where(known, there, answer.object_logits)


def _points(prompts: Prompts) -> int:
    return (0 if prompts.points is None else prompts.points.shape[1]) + (0 if prompts.boxes is None else 2)


def _corrected(
    prompts: Prompts,
    answer: TrackedFrame,
    objects: ClipObjects,
    number: int,
    image_size: int,
    generator: torch.Generator,
) -> Prompts:
    """One click more where answer and truth disagree, and the last mask fed back; nothing where there is no truth."""
    best = answer.masks.detach()
    target = objects.target[number]
    points, labels = corrective_points(best, target - 0.5, generator, ~objects.void[number])
    labels = torch.where(objects.labelled[number][:, None], labels, -1)
    points = points_to_pixels(points, target.shape[-1], image_size)
    if prompts.points is not None and prompts.labels is not None:
        points, labels = torch.cat([prompts.points, points], 1), torch.cat([prompts.labels, labels], 1)
    return replace(prompts, points=points, labels=labels, masks=best.unsqueeze(1))
