"""Stage 2: distil the memory; teacher and student track the same clips."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from phd.batches import ClipBatch
from phd.contract import ImageFeatures, Prompts
from phd.errors import UserError
from phd.heads.memory.compressors import MemorySettings
from phd.heads.memory.rules import RULES, TrackRules
from phd.heads.memory.video import VideoHeads
from phd.outputs import ClipPrediction, StepOutput
from phd.segmenter import Segmenter
from phd.stages.base import Stage
from phd.stages.clip_distances import distance_terms
from phd.stages.clip_objects import ClipObjects
from phd.stages.clip_prompts import ClipMix, ClipPlan, draw_plan, first_prompts
from phd.stages.clip_terms import Supervision, TrackingLosses, supervising, tracking_terms
from phd.stages.learner import build_learner
from phd.stages.rollout import Rollout, RolloutMasks, roll_out
from phd.student import Student
from phd.teachers import FrozenTeacher, load_teacher

# Frames that a trunk encodes at once; a long clip does not fit whole.
FRAMES_AT_ONCE = 8


class MemoryDistill(Stage):
    """Distil the memory of a tracker into a stage 1 student, or train any tracker from ground truth.

    Image encoder and prompt encoder are frozen, and the former is in eval mode. Trained are the memory (compressor,
    encoder, attention), the mask decoder, the object pointers and the codes of time.

    Args:
        teacher: Hub id, local folder or `toy-teacher`; empty only with `supervision: ground_truth`.
        segmenter: Train this segmenter: a teacher's name, or a student's folder.
        init_from: Continue from this student artefact, as stage 1 or an earlier stage 2 wrote it.
        image_size: Run a SAM 3 teacher, and the model trained, at this size instead of their own, in pixels.
        supervision: Whose masks the mask terms compare with.
        memory: The student's compressor; None keeps the one it has. A student that has it already keeps its weights.
        memory_layers: Keep the first so many layers of the memory attention; None for those that are there.
        losses: Weights of the terms.
        prompts: First prompts and corrections.
        rollout: Whose masks go into the student's memory in training.
        truncate: Cut the gradient through time after every so many frames; None for never.
        lead_in: Most frames of a clip, a number drawn for each step, that are tracked without gradients before those
            that are trained on, `clip_length` less `lead_in`: the memory is then as full, and as wrong, as later in a
            video, for the cost of tracking alone.
        rules: See `TrackRules`, for training: `plain`, as SAM 2 and SAM 3 are trained, or `selective`, as the embedded
            teacher tracks. Validation tracks by the rules of the model's configuration.
        teacher_frames: Longer clips learn from ground truth alone, as EdgeTAM's (arXiv 2501.07256, section 4.1);
            None for the teacher at every length.
        lr: Peak learning rate.
        inherited_rate: Of all but the compressor, as a factor of `lr`: the memory's attention, its encoder and the mask
            decoder are the teacher's, and know already what the compressor has to learn. 0 freezes them.
        weight_decay: Of matrices and kernels.
        warmup: Share of the steps.
        final_lr: Share of the peak rate at the end.
    """

    headline: ClassVar[str] = "val/jf"

    def __init__(
        self,
        teacher: str = "",
        segmenter: str = "",
        init_from: str = "",
        image_size: int | None = None,
        supervision: Supervision = "both",
        memory: MemorySettings | None = None,
        memory_layers: int | None = None,
        losses: TrackingLosses | None = None,
        prompts: ClipMix | None = None,
        rollout: RolloutMasks = "own",
        truncate: int | None = None,
        lead_in: int = 0,
        rules: Literal["plain", "selective"] = "plain",
        teacher_frames: int | None = None,
        lr: float = 3e-4,
        inherited_rate: float = 1.0,
        weight_decay: float = 0.1,
        warmup: float = 0.05,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__(lr, weight_decay, warmup, final_lr)
        self.save_hyperparameters()
        self.losses = losses or (TrackingLosses() if teacher else TrackingLosses(feature_mse=0.0, memory_mse=0.0))
        self.prompts = prompts or ClipMix()
        self.supervision: Supervision = supervision
        self.rollout: RolloutMasks = rollout
        self.rules = RULES[rules]
        self.truncate, self.lead_in, self.teacher_frames = truncate, lead_in, teacher_frames
        self._check(teacher, segmenter, init_from)
        if inherited_rate < 0:
            raise UserError(f"model.inherited_rate is {inherited_rate}; give at least 0")
        self.inherited_rate = inherited_rate
        if teacher:
            self.teacher = FrozenTeacher(load_teacher(teacher, image_size))
            _require_tracker(self.teacher.model, "model.teacher")
        self.learner = build_learner(
            segmenter=segmenter,
            init_from=init_from,
            backbone="",
            neck="light",
            pretrained=False,
            teacher=None if self.teacher is None else self.teacher.model,
            image_size=image_size,
        )
        _require_tracker(self.learner, "model.init_from")
        self._settle_memory(memory, memory_layers)
        self.contract = self.learner.contract
        self.learner.requires_grad_(False)
        for parameter in self.learner.heads.track_parameters():
            parameter.requires_grad_(inherited_rate > 0)
        self.learner.heads.compressor.requires_grad_(True)
        if not any(parameter.requires_grad for parameter in self.learner.parameters()):
            raise UserError("model.inherited_rate is 0, and dense memory has nothing else to train; raise it")

    def _check(self, teacher: str, segmenter: str, init_from: str) -> None:
        if not (segmenter or init_from):
            raise UserError(
                "model.init_from: empty, but stage 2 starts from the student that stage 1 wrote; set "
                "model.init_from=FOLDER, or model.segmenter to train another tracker"
            )
        if self.truncate is not None and self.truncate < 1:
            raise UserError(f"model.truncate is {self.truncate}; give at least 1 frame, or leave it out")
        if self.lead_in < 0:
            raise UserError(f"model.lead_in is {self.lead_in}; give at least 0 frames")
        if teacher:
            return
        needs = {
            f"supervision is {self.supervision!r}": self.supervision != "ground_truth",
            "rollout is 'teacher'": self.rollout == "teacher",
            "losses.feature_mse or losses.memory_mse has a weight": self.losses.distils,
        }
        for reason, needed in needs.items():
            if needed:
                raise UserError(f"model.teacher: empty, but model.{reason}; name a teacher, or change that")

    def _settle_memory(self, memory: MemorySettings | None, layers: int | None) -> None:
        student = self.learner
        if memory is None and layers is None:
            return
        if not isinstance(student, Student):
            raise UserError("model.memory: only a student can have another memory than its own; leave it out")
        settled = asdict(memory) if memory is not None else student.config.memory
        if settled == student.config.memory and layers in (None, student.config.memory_layers):
            return
        student.set_memory(MemorySettings(**(settled or {"kind": "none"})), layers)

    def optimised_groups(self) -> list[dict[str, Any]]:
        """See `Stage.optimised_groups`; the compressor has a rate of its own."""
        new = {id(parameter) for parameter in self.learner.heads.compressor.parameters()}
        groups: list[dict[str, Any]] = []
        for group in super().optimised_groups():
            for is_new, rate in ((True, self.lr), (False, self.inherited_rate * self.lr)):
                parameters = [each for each in group["params"] if (id(each) in new) == is_new]
                groups += [{**group, "params": parameters, "lr": rate}] if parameters else []
        return groups

    def settle_modes(self) -> None:
        """The frozen encoder runs as it will at inference."""
        for part in (self.learner.trunk, self.learner.neck):
            if part.training:
                part.eval()

    def step(self, batch: ClipBatch, train: bool) -> StepOutput:
        """See `Stage.step`; validation gives the first frame's masks, tracks on its own and corrects nothing."""
        plan = self._plan(batch, train)
        batch = batch.beginning(plan.frames)
        objects = ClipObjects.of(batch, self.contract)
        frames = batch.frames.shape[1]
        features = self._encode(self.learner, batch)
        teacher = self._teacher(frames, train)
        theirs = None if teacher is None else self._encode(teacher, batch)
        student_rollout, teacher_rollout = None, None
        if len(objects):
            student_rollout, teacher_rollout = self._rollouts(plan, objects, features, teacher, theirs, train)
        references = supervising(self.supervision, objects, teacher_rollout) if len(objects) else []
        terms = tracking_terms(student_rollout, references, self.losses.tracking(), features.tracker[-1])
        if theirs is not None:
            terms |= distance_terms(self.contract, batch, features, theirs, student_rollout, teacher_rollout)
        weighted = [getattr(self.losses, name) * value for name, value in terms.items()]
        loss = torch.stack(weighted).sum() if weighted else features.tracker[-1].new_zeros(())
        if not loss.requires_grad and train:
            loss = loss + self._zero()
        return StepOutput(
            loss=loss,
            terms=terms,
            batch_size=len(batch) * frames,
            student_features=features,
            teacher_features=theirs,
            content=batch.content.repeat_interleave(frames, dim=0),
            clip=None if student_rollout is None else _prediction(batch, objects, student_rollout, teacher_rollout),
        )

    def _encode(self, model: Segmenter, batch: ClipBatch) -> ImageFeatures:
        """Levels of the B x T frames, those of clip 0 first."""
        frames = batch.frames.flatten(0, 1).split(FRAMES_AT_ONCE)
        content = batch.content.repeat_interleave(batch.frames.shape[1], dim=0).split(FRAMES_AT_ONCE)
        with torch.no_grad():
            parts = [
                model.encode(self.contract.normalise(some, filled), ("tracker",)).tracker
                for some, filled in zip(frames, content, strict=True)
            ]
        return ImageFeatures({"tracker": tuple(torch.cat(levels) for levels in zip(*parts, strict=True))})

    def _teacher(self, frames: int, train: bool) -> Segmenter | None:
        """The teacher, if it takes part: in validation always, for its own numbers."""
        if self.teacher is None:
            return None
        if train and self.teacher_frames is not None and frames > self.teacher_frames:
            return None
        wanted = self.supervision != "ground_truth" or self.rollout == "teacher" or self.losses.distils
        return self.teacher.model if wanted or not train else None

    def _plan(self, batch: ClipBatch, train: bool) -> ClipPlan:
        """One plan for all processes, so that they take about as long; what is drawn by it differs."""
        if not train:
            return ClipPlan("mask")
        frames = batch.frames.shape[1]
        if frames - self.lead_in < min(2, frames):
            raise UserError(
                f"model.lead_in is {self.lead_in}, but a clip has {frames} frames (data.clip_length) and the last two "
                f"must be left to train on; change one of the two"
            )
        return draw_plan(self.prompts, frames, self.generator(self.batches_seen, 0, 2), self.lead_in)

    def _rollouts(
        self,
        plan: ClipPlan,
        objects: ClipObjects,
        features: ImageFeatures,
        teacher: Segmenter | None,
        theirs: ImageFeatures | None,
        train: bool,
    ) -> tuple[Rollout, Rollout | None]:
        """The student's, and the teacher's where it takes part; both get the same first prompts."""
        key = (self.batches_seen, self.global_rank) if train else (0, 0)
        size = self.contract.image_size
        first: Prompts | None = None
        if plan.kind != "mask":
            first = first_prompts(plan.kind, self.prompts, objects.target[0], size, self.generator(*key))
        rules = self.rules if train else TrackRules.of(self.learner.heads.tracker_model.config)
        tracked = partial(
            roll_out, objects=objects, plan=plan, first=first, image_size=size, binary=not train, rules=rules
        )
        guide: Rollout | None = None
        if teacher is not None and theirs is not None:
            with torch.no_grad():
                guide = tracked(teacher.heads, theirs, generator=self.generator(*key, 3))
        masks: RolloutMasks = self.rollout if train and (guide is not None or self.rollout != "teacher") else "own"
        student = tracked(
            self.learner.heads,
            features,
            generator=self.generator(*key, 4),
            guide=guide,
            masks=masks,
            truncate=self.truncate,
        )
        return student, guide

    def _zero(self) -> Tensor:
        """A zero for a batch without any object, so that no process skips its backward pass.

        It depends on one weight that every decoding uses: a zero gradient, unlike none, would let others decay.
        """
        decoder = self.learner.heads.tracker_model.mask_decoder
        trained = (each for part in (decoder, self.learner) for each in part.parameters() if each.requires_grad)
        return 0.0 * next(trained).sum()


def _require_tracker(model: Segmenter, setting: Literal["model.teacher", "model.init_from"]) -> None:
    if not isinstance(model.heads, VideoHeads):
        raise UserError(f"{setting}: {model.name} is of SAM 1's family and has no memory; take one of SAM 2 or SAM 3")


def _prediction(batch: ClipBatch, objects: ClipObjects, student: Rollout, teacher: Rollout | None) -> ClipPrediction:
    return ClipPrediction(
        student=student.masks,
        teacher=None if teacher is None else teacher.masks,
        target=objects.target > 0.5,
        labelled=objects.labelled,
        void=objects.void,
        clip_index=objects.clip_index,
        keys=batch.keys,
    )
