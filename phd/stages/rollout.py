"""Roll a tracker out over a clip, differentiably: prompt, track, correct, remember, frame after frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from phd.batches import ClipBatch
from phd.contract import ImageFeatures, Prompts
from phd.heads.memory.bank import MemoryBank
from phd.heads.memory.video import GIVEN_BIAS, GIVEN_SCALE, TrackedFrame, VideoHeads
from phd.prompts import corrective_points, points_to_pixels
from phd.stages.clip_prompts import ClipPlan

RolloutMasks = Literal["own", "teacher", "ground_truth"]


@dataclass
class ClipObjects:
    """The N objects of a batch of clips, with the frames of the clip first.

    Attributes:
        clip_index: (N,) clip of each object.
        target: (T, N, m, m) float in {0, 1}.
        labelled: (T, N) bool, whether the frame has ground truth.
        void: (T, N, m, m) bool.
    """

    clip_index: Tensor
    target: Tensor
    labelled: Tensor
    void: Tensor

    @classmethod
    def of(cls, batch: ClipBatch) -> ClipObjects:
        """Flatten the valid places of a batch."""
        clips, places = batch.valid.nonzero(as_tuple=True)
        return cls(
            clips,
            batch.masks[clips, :, places].transpose(0, 1).float(),
            batch.labelled[clips].T,
            batch.void[clips].transpose(0, 1),
        )

    def __len__(self) -> int:
        return len(self.clip_index)


@dataclass
class Answer:
    """One decoding of one frame: the tracked answer, or one after a corrective click.

    Attributes:
        frame: Number of the frame in the clip.
        tracked: What was decoded.
        decoded: Whether the decoder answered; a mask that is given is not its answer.
        remembered: Whether memory was read.
    """

    frame: int
    tracked: TrackedFrame
    decoded: bool = True
    remembered: bool = False


@dataclass
class Rollout:
    """All answers in order, and the last one of each frame."""

    answers: list[Answer]
    final: list[TrackedFrame]


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
) -> Rollout:
    """Track N objects through T frames.

    Args:
        heads: Of the student or of the teacher.
        features: Of all B x T frames, those of clip 0 first.
        objects: The objects.
        plan: First prompt and corrections.
        first: Prompts of the first frame; None where it is given as a mask.
        image_size: Contract pixels.
        generator: Draws the corrective points.
        guide: The teacher's rollout, for `masks: teacher`.
        masks: Whose masks go into the memory.
        truncate: Cut the gradient through the memory after so many frames; None for never.
        binary: Cut prompted masks off to 0 and 1 before they go into memory, as at inference.
    """
    frames, count = objects.target.shape[:2]
    bank = heads.new_bank(count, features.tracker[-1])
    rows = torch.arange(count, device=bank.values.device)
    answers: list[Answer] = []
    final: list[TrackedFrame] = []
    for number in range(frames):
        levels = [level[objects.clip_index * frames + number] for level in features.tracker]
        decoder = heads.tracker_model.mask_decoder
        finer, coarse = [decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1])], levels[2]
        asked = first if number == 0 else None
        if number == 0 and first is None:
            given = upsampled(objects.target[0], image_size)
            answer = heads.given_frame(coarse, finer, given)
            conditioned = answer.conditioned + heads.tracker_model.no_memory_embedding.view(1, -1, 1, 1)
            answers.append(Answer(number, answer, decoded=False))
        else:
            if number == 0:
                conditioned = coarse + heads.tracker_model.no_memory_embedding.view(1, -1, 1, 1)
            else:
                conditioned = heads.read_memory(coarse, bank, number)
            prompts = asked or Prompts(rows)
            points = 0 if asked is None else _points(asked)
            answer = heads.decode_frame(conditioned, finer, prompts, heads.wants_candidates(points, number == 0))
            answers.append(Answer(number, answer, remembered=number > 0))
        if number in plan.corrected:
            for _ in range(plan.clicks):
                asked = _corrected(asked or Prompts(rows), answer, objects, number, image_size, generator)
                answer = heads.decode_frame(conditioned, finer, asked, multimask=False)
                answers.append(Answer(number, answer, remembered=number > 0))
        final.append(answer)
        prompted = number == 0 or number in plan.corrected
        bank = _remember(
            heads, coarse, bank, number, answer, objects, guide, masks, prompted, binary and prompted, image_size
        )
        if truncate is not None and (number + 1) % truncate == 0:
            bank = bank.detached()
    return Rollout(answers, final)


def upsampled(masks: Tensor, size: int) -> Tensor:
    """Masks (N, m, m) on the canvas (N, S, S), cells as blocks."""
    return F.interpolate(masks.unsqueeze(1), (size, size), mode="nearest").squeeze(1)


def _remember(
    heads: VideoHeads,
    coarse: Tensor,
    bank: MemoryBank,
    number: int,
    answer: TrackedFrame,
    objects: ClipObjects,
    guide: Rollout | None,
    masks: RolloutMasks,
    conditioning: bool,
    binary: bool,
    image_size: int,
) -> MemoryBank:
    canvas, object_logits = answer.canvas, answer.object_logits
    if masks == "teacher" and guide is not None:
        canvas, object_logits = guide.final[number].canvas, guide.final[number].object_logits
    elif masks == "ground_truth":
        # Where a frame has no ground truth, the own mask is all there is.
        truth = upsampled(objects.target[number], image_size) * GIVEN_SCALE + GIVEN_BIAS
        there = objects.target[number].flatten(1).any(1).to(truth.dtype) * GIVEN_SCALE + GIVEN_BIAS
        known = objects.labelled[number]
        canvas = torch.where(known[:, None, None], truth, canvas)
        object_logits = torch.where(known, there, object_logits)
    rows = torch.arange(len(objects), device=canvas.device)
    flags = torch.full_like(rows, conditioning, dtype=torch.bool)
    tokens = heads.remember(coarse, canvas, object_logits, torch.full_like(flags, binary))
    return bank.write(number, tokens.to(bank.values.dtype), answer.pointers, flags, rows)


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
