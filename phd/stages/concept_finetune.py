"""Stage 3: concepts; every instance of a noun phrase, and whether there is any."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from phd.batches import ConceptBatch
from phd.contract import Branch, Detections, ImageFeatures
from phd.errors import UserError
from phd.outputs import ConceptPrediction, PhraseTargets, StepOutput
from phd.stages.base import Stage
from phd.stages.concept_answers import Answerer, found_instances, teacher_targets, with_masks
from phd.stages.concept_features import feature_terms, feature_weight
from phd.stages.concept_losses import ConceptLosses, ConceptNormalisers, concept_counts
from phd.stages.concept_prompts import (
    ConceptMix,
    ConceptPrompts,
    corrected_prompts,
    draw_concept_prompts,
    phrases_alone,
)
from phd.stages.concept_rates import (
    PRESENCE,
    PartRates,
    parameter_groups,
    presence_parameters,
    rated_parameters,
    reciprocal_root,
    still_modules,
)
from phd.stages.concept_start import check_start, require_detector, settle_text
from phd.stages.concept_terms import concept_loss, concept_terms, phrase_targets
from phd.stages.joint import joint_shares
from phd.stages.learner import build_learner
from phd.stages.prompt_loop import Supervision
from phd.teachers import FrozenTeacher, load_teacher


class ConceptFinetune(Stage):
    """Fine-tune a student of SAM 3 on images with noun phrases, or train any SAM 3 from ground truth.

    What becomes of the other verbs: the tracker's heads and the memory are frozen, and batch norms keep the statistics
    that they have. With `rates.trunk` 0, points and video answer bit by bit as before. Otherwise trunk and shared neck
    move; a teacher then pulls the levels of both branches to its own by the feature terms, and the tracker's own branch
    of the neck follows. Without a teacher nothing holds them, of which a run warns.

    Presence trains in every case, also where `StageFreeze` or `rates.heads` 0 freeze the heads around it.

    Args:
        teacher: Hub id, local folder or `toy-teacher`, of SAM 3; empty only with `supervision: ground_truth`.
        segmenter: Train this segmenter: a teacher's name, or a student's folder.
        init_from: Continue from this student artefact; that of stage 2 has all four verbs in the end.
        image_size: Run a SAM 3 teacher, and the model trained, at this size instead of their own, in pixels.
        supervision: `ground_truth` compares with the data's instances, `teacher` with what the teacher finds with a
            score of at least 0.5, masks cut at 0, `both` with the data's, and with the teacher by the teacher terms.
        text: The text encoder of a student that has none: `teacher`, `mobileclip_s0`, `mobileclip_s1`,
            `mobileclip2_l`, or the folder of one that `make text` distilled. A student that has one keeps it.
        text_context: 16 or 32 tokens; the teacher's, or the folder's, by default.
        replace_text: Give it `text` although it has one.
        losses: Weights of the terms.
        prompts: How phrases are asked.
        rates: Which parts train, and how fast each.
        branches: Whose levels are pulled to the teacher's; by default those that a trained part writes.
        pairs_at_once: (image, phrase) pairs that are answered at a time in validation and, with
            `gradient_checkpointing`, in training.
        gradient_checkpointing: Recompute the activations of trunk and detector in the backward pass.
        schedule: After the warm-up, a cosine or, as in SAM 3, the reciprocal square root of the step with a linear end
            as long as the warm-up.
        lr: Peak learning rate.
        weight_decay: Of matrices and kernels.
        warmup: Share of the steps.
        final_lr: Share of the peak rate at the end of the cosine.
    """

    headline: ClassVar[str] = "val/cgf1"
    # Read by `StageFreeze`.
    always_trained: ClassVar[tuple[str, ...]] = (PRESENCE,)

    def __init__(
        self,
        teacher: str = "",
        segmenter: str = "",
        init_from: str = "",
        image_size: int | None = None,
        supervision: Supervision = "both",
        text: str | None = None,
        text_context: int | None = None,
        replace_text: bool = False,
        losses: ConceptLosses | None = None,
        prompts: ConceptMix | None = None,
        rates: PartRates | None = None,
        branches: list[Branch] | None = None,
        pairs_at_once: int = 8,
        gradient_checkpointing: bool = False,
        schedule: Literal["cosine", "reciprocal_sqrt"] = "cosine",
        lr: float = 8e-5,
        weight_decay: float = 0.1,
        warmup: float = 0.05,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__(lr, weight_decay, warmup, final_lr)
        self.save_hyperparameters()
        self.losses = losses or (ConceptLosses() if teacher else ConceptLosses(feature_mse=0.0))
        self.prompts, self.rates = prompts or ConceptMix(), rates or PartRates()
        self.supervision: Supervision = supervision
        self.pairs_at_once, self.schedule, self.recompute = pairs_at_once, schedule, gradient_checkpointing
        check_start(teacher, segmenter or init_from, supervision, self.losses)
        if pairs_at_once < 1:
            raise UserError(f"model.pairs_at_once is {pairs_at_once}; give at least 1")
        loaded = load_teacher(teacher, image_size) if teacher else None
        if loaded is not None:
            require_detector(loaded, "model.teacher")
            self.teacher = FrozenTeacher(loaded)
        self.learner = build_learner(
            segmenter=segmenter,
            init_from=init_from,
            backbone="",
            neck="light",
            pretrained=False,
            teacher=loaded,
            image_size=image_size,
        )
        require_detector(self.learner, "model.segmenter" if segmenter else "model.init_from")
        settle_text(self.learner, text, text_context, replace_text, loaded)
        self.contract = self.learner.contract
        self.branches: tuple[Branch, ...] = self._pulled(branches)
        self.learner.requires_grad_(False)
        for _, parameter in self._rated():
            parameter.requires_grad_(True)
        if gradient_checkpointing:
            self.learner.gradient_checkpointing()
        self._still: list[nn.Module] = []

    def _pulled(self, branches: list[Branch] | None) -> tuple[Branch, ...]:
        """The branches whose levels are compared with the teacher's."""
        if self.teacher is None or feature_weight(self.losses) == 0:
            return ()
        if branches is not None:
            return tuple(branches)
        if self.rates.trunk > 0:
            return tuple(self.contract.branches)
        return ("detector",) if self.rates.neck > 0 else ()

    def _rated(self) -> list[tuple[float, nn.Parameter]]:
        return list(rated_parameters(self.learner, self.rates, tracker="tracker" in self.branches))

    def optimised_groups(self) -> list[dict[str, Any]]:
        """See `Stage.optimised_groups`; a rate for each part."""
        trained = [(factor, parameter) for factor, parameter in self._rated() if parameter.requires_grad]
        return parameter_groups(trained, self.lr, self.weight_decay)

    def _rate(self, step: int, total: int) -> float:
        return super()._rate(step, total) if self.schedule == "cosine" else reciprocal_root(step, total, self.warmup)

    def on_train_start(self) -> None:
        """Find what stays still."""
        if self.rates.trunk > 0 and "tracker" not in self.branches:
            rank_zero_warn(
                "points and video: the trunk is trained (model.rates.trunk) and nothing pulls the tracker's levels to "
                "a teacher's, so their answers will change"
            )
        self._still = still_modules(self.learner, self.rates)
        super().on_train_start()

    def settle_modes(self) -> None:
        """Frozen parts run as at inference, and batch norms on the statistics they have: a step sees few images."""
        for module in self._still:
            module.training = False

    def step(self, batch: ConceptBatch, train: bool) -> StepOutput:
        """See `Stage.step`; validation asks phrases alone, and looks at the last decoder layer alone."""
        truth = phrase_targets(batch, self.contract.image_size)
        features, theirs = self._encode(batch, train)
        prompts = self._first_prompts(truth) if train else phrases_alone(truth)
        all_at_once = train and not self.recompute
        mine = Answerer.of(
            self.learner,
            features,
            batch,
            prompts.visual,
            at_once=max(1, len(truth)) if all_at_once else self.pairs_at_once,
            recompute=train and self.recompute,
        )
        other: Answerer | None = None
        if self.teacher is not None and theirs is not None and self._asks_teacher(train):
            other = Answerer.of(self.teacher.model, theirs, batch, prompts.visual, self.pairs_at_once)
        if train:
            prompts = self._corrected(prompts, mine, other, truth)
        deep, branched = train and self.losses.auxiliary > 0, train and self.losses.one_to_many > 0
        guide = None if other is None else other.reference(prompts.exemplars, self._shown(truth, train))
        drawn = self._drawn(truth, guide) if train else None
        answer = mine.ask(prompts.exemplars, deep, branched, drawn)
        terms, loss = self._compare(answer, guide, truth)
        if theirs is not None and self.branches:
            distances = feature_terms(features, theirs, self.branches, batch.content, self.contract, self.losses)
            terms |= distances
            loss = loss + torch.stack([getattr(self.losses, name) * value for name, value in distances.items()]).sum()
        if train and not loss.requires_grad:
            loss = loss + self._zero()
        prediction = ConceptPrediction(truth, batch.phrases, batch.image_index, batch.keys, mine.text.cut)
        if not train:
            prediction.student = found_instances(answer)
            prediction.teacher = None if guide is None else found_instances(guide)
        return StepOutput(
            loss=loss,
            terms=terms,
            batch_size=len(batch),
            student_features=features,
            teacher_features=theirs,
            content=batch.content,
            concepts=prediction,
        )

    def _asks_teacher(self, train: bool) -> bool:
        """Whether the teacher answers too: in validation always, for its own numbers."""
        learnt = self.supervision == "teacher" or (self.supervision == "both" and self.losses.teacher > 0)
        return self.teacher is not None and (learnt or not train)

    def _encode(self, batch: ConceptBatch, train: bool) -> tuple[ImageFeatures, ImageFeatures | None]:
        """The learner's levels, and the teacher's where somebody reads them."""
        pixels = self.contract.normalise(batch.images, batch.content)
        all_read: tuple[Branch, ...] = ("detector", *(branch for branch in self.branches if branch != "detector"))
        features = self.learner.encode(pixels, all_read)
        wanted = all_read if self._asks_teacher(train) else self.branches
        if self.teacher is None or not wanted:
            return features, None
        with torch.no_grad():
            return features, self.teacher.model.encode(pixels, wanted)

    def _first_prompts(self, truth: PhraseTargets) -> ConceptPrompts:
        generator = self.generator(self.batches_seen, self.global_rank)
        return draw_concept_prompts(self.prompts, truth, self.contract.image_size, generator)

    def _corrected(
        self, prompts: ConceptPrompts, mine: Answerer, other: Answerer | None, truth: PhraseTargets
    ) -> ConceptPrompts:
        """The prompts after some corrective rounds, which take no gradient."""
        key, targets = (self.batches_seen, self.global_rank), truth
        # As many in all processes, so that they take about as long.
        drawn = torch.randint(self.prompts.rounds + 1, (), generator=self.generator(key[0], 0, 2), device=self.device)
        for number in range(int(drawn)):
            answer = mine.reference(prompts.exemplars)
            if self.supervision == "teacher" and other is not None:
                targets = teacher_targets(other.reference(prompts.exemplars))
            generator = self.generator(*key, 3, number)
            prompts = corrected_prompts(prompts, answer, targets, self.contract.image_size, generator)
        return prompts

    def _shown(self, truth: PhraseTargets, train: bool) -> Tensor | None:
        """The pairs whose masks are read from the teacher's answer: None for all, or none of them."""
        compared = max(self.losses.teacher_focal, self.losses.teacher_dice) > 0
        return None if compared or self.supervision == "teacher" or not train else torch.zeros_like(truth.present)

    def _drawn(self, truth: PhraseTargets, guide: Detections | None) -> Tensor:
        """(P,) bool, the pairs whose masks a term compares; none without such a term."""
        shown = with_masks(truth, guide)
        return shown if self.losses.draws(guide is not None) else torch.zeros_like(shown)

    def _compare(
        self, answer: Detections, guide: Detections | None, truth: PhraseTargets
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms, and their weighted sum, as means over the joint batch of all processes."""
        if self.supervision == "teacher" and guide is not None:
            truth = teacher_targets(guide)
        if self.supervision == "ground_truth" or self.losses.teacher == 0:
            guide = None
        counts = concept_counts(truth, guide)
        normalisers = ConceptNormalisers.of(counts, joint_shares(counts))
        terms = concept_terms(answer, truth, self.losses, normalisers, guide)
        return terms, concept_loss(terms, self.losses, normalisers)

    def _zero(self) -> Tensor:
        """A zero for a batch without any phrase, so that no process skips its backward pass.

        It depends on one weight: a zero gradient, unlike none, would let others decay.
        """
        return 0.0 * presence_parameters(self.learner)[0].sum()
