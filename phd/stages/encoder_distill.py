"""Stage 1: distil the image encoder; features first, then prompt in the loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from phd.batches import ImageBatch
from phd.contract import Branch, ImageFeatures, Prompts
from phd.errors import UserError
from phd.losses.feature import feature_cosine, feature_mse, relative_feature_mse
from phd.outputs import MaskPrediction, StepOutput
from phd.stages.base import Stage
from phd.stages.cached_teacher import cache_of, move_teacher
from phd.stages.joint import feature_shares, joint_shares
from phd.stages.learner import build_learner
from phd.stages.prompt_loop import MaskWeights, Side, Supervision, run_rounds
from phd.stages.prompt_mix import PromptMix, draw_prompts, fixed_prompts
from phd.teachers import FrozenTeacher, load_teacher

FEATURE_LOSSES = {
    "feature_mse": feature_mse,
    "feature_relative_mse": relative_feature_mse,
    "feature_cosine": feature_cosine,
}


@dataclass
class Phase(MaskWeights):
    """A stretch of the training with its own weights.

    Attributes:
        share: Its share of the optimiser steps, relative to the other phases.
        feature_mse: Weight of the plain mean squared error, mean over levels.
        feature_relative_mse: Weight of the error relative to the teacher's power, mean over levels.
        feature_cosine: Weight of one minus the cosine, mean over levels.
        rounds: Corrective rounds R of the prompt loop.
        levels: Which levels are made and compared: "all", or the "coarsest" of each branch, as the one map of
            EfficientSAM3's stage 1: at a fraction of the cost, for many views; masks need all.
    """

    share: float = 1.0
    feature_mse: float = 0.0
    feature_relative_mse: float = 0.0
    feature_cosine: float = 0.0
    rounds: int = 0
    levels: Literal["all", "coarsest"] = "all"

    @property
    def decodes(self) -> bool:
        """Whether any mask term has a weight."""
        return max(self.mask_weights().values()) > 0


@dataclass
class Losses:
    """The phases in order. EdgeSAM (arXiv 2312.06660, table 7) found features and masks at once worse than in turn.

    Attributes:
        phases: At least one.
    """

    phases: list[Phase] = field(
        default_factory=lambda: [
            Phase(share=0.5, feature_relative_mse=1.0, feature_cosine=1.0),
            Phase(share=0.5, feature_relative_mse=0.1, focal=20.0, dice=1.0, iou=1.0, rounds=1),
        ]
    )

    def at(self, progress: float) -> Phase:
        """The phase at a share of the steps in [0, 1)."""
        total, reached = sum(phase.share for phase in self.phases), 0.0
        for phase in self.phases:
            reached += phase.share / total
            if progress < reached - 1e-9:
                return phase
        return self.phases[-1]


class EncoderDistill(Stage):
    """Distil an image encoder from a teacher, or train any segmenter from ground truth.

    Args:
        backbone: One of the nine trunks, or any timm `features_only` name.
        teacher: Hub id, local folder or `toy-teacher`; empty only with `supervision: ground_truth`.
        segmenter: Train this segmenter instead of a new student: a teacher's name, or a student's folder.
        init_from: Continue from this student artefact (never through `--ckpt_path`).
        image_size: Run a SAM 3 teacher, and the model trained, at this size instead of their own, in pixels.
        neck: `light`, or the teacher's own.
        pretrained: Whether the trunk starts from timm's weights; `auto` takes them where they can be had.
        supervision: Whose masks the mask terms compare with.
        losses: The phases with their weights.
        prompts: The mix of prompts.
        branches: Whose levels are distilled; all of the teacher's by default.
        lr: Peak learning rate.
        weight_decay: Of matrices and kernels.
        warmup: Share of the steps.
        final_lr: Share of the peak rate at the end.
        train_heads: Whether the heads are trained too; frozen heads keep the teacher's calibration.
        gradient_checkpointing: Recompute the trunk's activations in the backward pass.
        compile: Run the trunk through `torch.compile`.
    """

    def __init__(
        self,
        backbone: str = "efficientvit_b0",
        teacher: str = "",
        segmenter: str = "",
        init_from: str = "",
        image_size: int | None = None,
        neck: Literal["light", "teacher"] = "light",
        pretrained: Literal["auto", True, False] = "auto",
        supervision: Supervision = "teacher",
        losses: Losses | None = None,
        prompts: PromptMix | None = None,
        branches: list[Branch] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        final_lr: float = 0.01,
        train_heads: bool = False,
        gradient_checkpointing: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay, warmup, final_lr)
        self.save_hyperparameters()
        if not teacher and supervision != "ground_truth":
            raise UserError(
                f"model.teacher: empty, but supervision is {supervision!r}; name a teacher or set it to ground_truth"
            )
        self.losses, self.prompts = losses or Losses(), prompts or PromptMix()
        for number, phase in enumerate(self.losses.phases):
            if phase.levels == "coarsest" and phase.decodes:
                raise UserError(
                    f"model.losses: phase {number} has a mask term, but levels is 'coarsest'; masks need all"
                )
        self.supervision: Supervision = supervision
        self.train_heads = train_heads
        if teacher:
            self.teacher = FrozenTeacher(load_teacher(teacher, image_size))
        if not teacher and any(getattr(phase, name) for phase in self.losses.phases for name in FEATURE_LOSSES):
            raise UserError("model.losses: a feature term has a weight, but there is no teacher; set it to 0")
        self.learner = build_learner(
            segmenter=segmenter,
            init_from=init_from,
            backbone=backbone,
            neck=neck,
            pretrained=pretrained,
            teacher=None if self.teacher is None else self.teacher.model,
            image_size=image_size,
        )
        self.contract = self.learner.contract
        self.branches: tuple[Branch, ...] = tuple(branches or self.contract.branches)
        self._choose_trained_parameters()
        # Convolutions of few channels are faster with the channels last, on CPU and in mixed precision on a GPU.
        self.learner.trunk.to(memory_format=torch.channels_last)
        self.learner.neck.to(memory_format=torch.channels_last)
        if gradient_checkpointing:
            self.learner.gradient_checkpointing()
        if compile:
            self.learner.trunk.compile()

    def _choose_trained_parameters(self) -> None:
        """Trunk and neck, and of the heads at most what `segment` reads: the rest would only wait in the optimiser."""
        self.learner.requires_grad_(False)
        self.learner.trunk.requires_grad_(True)
        self.learner.neck.requires_grad_(True)
        if self.train_heads:
            for parameter in self.learner.heads.segment_parameters():
                parameter.requires_grad_(True)

    def _move_teacher(self) -> None:
        """With a cache for every sample its trunk stays where it is."""
        move_teacher(self.teacher, cache_of(self._trainer), self.device)

    def settle_modes(self) -> None:
        """Frozen heads run as they will at inference: no dropout, the decoder's stability rule included."""
        if not self.train_heads and self.learner.heads.training:
            self.learner.heads.eval()

    def step(self, batch: ImageBatch, train: bool) -> StepOutput:
        """See `Stage.step`; validation decodes tight boxes and centre points once, and compares features."""
        phase = self.losses.at(self.progress) if train else Phase(focal=1.0, dice=1.0, iou=1.0)
        decodes, coarsest = phase.decodes, phase.levels == "coarsest"
        pixels = self.contract.normalise(batch.images, batch.content)
        branches = self.branches if self.teacher is not None else ("tracker",)
        student = Side(self.learner, self.learner.encode(pixels, branches, coarsest))
        teacher = self._teacher_side(batch, pixels, branches, coarsest)
        terms: dict[str, Tensor] = {}
        if teacher is not None:
            terms |= self.feature_terms(student.features, teacher.features, batch.content, phase, train)
        masks: dict[str, MaskPrediction] = {}
        if decodes:
            mask_terms, masks = self._mask_terms(batch, student, teacher, phase, train)
            terms |= mask_terms
        weighted = [getattr(phase, name) * value for name, value in terms.items()]
        loss = torch.stack(weighted).sum() if weighted else _zero(student.features)
        if coarsest:  # the heads of the finer levels wait, and no process may miss a gradient
            loss = loss + torch.stack([0.0 * each.sum() for each in self.learner.neck.parameters()]).sum()
        return StepOutput(
            loss=loss,
            terms=terms,
            batch_size=len(batch),
            masks=masks,
            student_features=student.features,
            teacher_features=None if teacher is None else teacher.features,
            content=batch.content,
        )

    def feature_terms(
        self, mine: ImageFeatures, theirs: ImageFeatures, content: Tensor, phase: Phase, train: bool
    ) -> dict[str, Tensor]:
        """Feature terms, means over the levels of all branches, padding left out; in validation all of them."""
        wanted = [name for name in FEATURE_LOSSES if not train or getattr(phase, name) > 0]
        found: dict[str, list[Tensor]] = {name: [] for name in wanted}
        pairs = [
            pair
            for branch in self.branches
            for pair in zip(mine.branches[branch], theirs.branches[branch], strict=True)
        ]
        valid = [self.contract.content_mask(content, ours.shape[-1]) for ours, _ in pairs]
        shares = feature_shares([(reference, cells) for (_, reference), cells in zip(pairs, valid, strict=True)])
        for (ours, reference), cells, (by_cells, by_power) in zip(pairs, valid, shares, strict=True):
            for name in wanted:
                share = by_power if name == "feature_relative_mse" else by_cells
                found[name].append(share * FEATURE_LOSSES[name](ours, reference, cells))
        return {name: torch.stack(values).mean() for name, values in found.items()}

    def _teacher_side(
        self, batch: ImageBatch, pixels: Tensor, branches: tuple[Branch, ...], coarsest: bool
    ) -> Side | None:
        """The teacher and its features; from a cache its neck makes them, without its trunk."""
        if self.teacher is None:
            return None
        teacher = self.teacher.model
        with torch.no_grad():
            if batch.cached is None:
                return Side(teacher, teacher.encode(pixels, branches, coarsest))
            return Side(teacher, ImageFeatures(teacher.neck(batch.cached.dequantised(), branches, coarsest)))

    def _mask_terms(
        self, batch: ImageBatch, student: Side, teacher: Side | None, phase: Phase, train: bool
    ) -> tuple[dict[str, Tensor], dict[str, MaskPrediction]]:
        images, places = batch.valid.nonzero(as_tuple=True)
        target = batch.masks[images, places].float()
        generator = self.generator(self.batches_seen, self.global_rank) if train else self.generator()
        size = self.contract.image_size
        drawn: dict[str, tuple[Tensor, Prompts]] = {}
        if len(target):
            drawn = (
                draw_prompts(self.prompts, target, images, size, generator)
                if train
                else fixed_prompts(target, images, size)
            )
        asked = sum(len(chosen) for chosen, _ in drawn.values())
        share = joint_shares(target.new_tensor(asked))  # before the way out: every process takes part
        if not drawn:
            return {name: _zero(student.features) for name, weight in phase.mask_weights().items() if weight > 0}, {}
        content = self.contract.content_mask(batch.content, target.shape[-1])
        sums: dict[str, Tensor] = {}
        masks: dict[str, MaskPrediction] = {}
        for kind, (chosen, prompts) in drawn.items():
            result = run_rounds(
                student,
                teacher,
                prompts,
                target[chosen],
                valid=content[images[chosen]],
                supervision=self.supervision,
                weights=phase,
                rounds=phase.rounds,
                generator=generator,
            )
            weight = share * (len(chosen) / asked)
            for name, value in result.terms.items():
                sums[name] = sums.get(name, value.new_zeros(())) + weight * value
            masks[kind] = MaskPrediction(prompts, result.student, result.teacher, batch.masks[images, places][chosen])
        return sums, masks


def _zero(features: ImageFeatures) -> Tensor:
    """A zero that depends on every level, for a batch without any instance: no process skips its backward pass."""
    return torch.stack([0.0 * level.sum() for levels in features.branches.values() for level in levels]).sum()
