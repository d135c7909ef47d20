"""What the stages share: logging once, the optimiser, and a teacher that Lightning does not see."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from phd.contract import Contract
from phd.outputs import StepOutput
from phd.segmenter import Segmenter
from phd.teachers import FrozenTeacher


class Stage(L.LightningModule):
    """Base of the stages: `step` returns, the base logs.

    A subclass sets `learner` (what is trained), `contract` and perhaps `teacher`, and implements `step`.

    Args:
        lr: Peak learning rate of AdamW.
        weight_decay: Decay of matrices and kernels; vectors (biases, norms) have none.
        warmup: Share of the steps over which the rate rises linearly from 0.
        final_lr: Share of the peak rate at which the cosine ends.
    """

    headline: ClassVar[str] = "val/mask_iou"  # the logged value that says how good the learner is
    learner: Segmenter
    contract: Contract

    def __init__(self, lr: float, weight_decay: float, warmup: float, final_lr: float) -> None:
        super().__init__()
        self.lr, self.weight_decay, self.warmup, self.final_lr = lr, weight_decay, warmup, final_lr
        self.teacher: FrozenTeacher | None = None

    def step(self, batch: Any, train: bool) -> StepOutput:
        """Predict and compare; no logging, no metrics, no side effects.

        Args:
            batch: Of the stage's data module.
            train: Whether prompts are drawn for training or fixed for validation.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    @property
    def progress(self) -> float:
        """Share of the optimiser steps already taken, in [0, 1)."""
        return self.global_step / max(1, self.trainer.estimated_stepping_batches)

    @property
    def batches_seen(self) -> int:
        """Training batches of this run so far, also under gradient accumulation and after a resume."""
        return 0 if self._trainer is None else self.trainer.fit_loop.total_batch_idx + 1

    def generator(self, *key: int) -> torch.Generator:
        """A generator on the module's device, a pure function of the run's seed (`seed_everything`) and the key."""
        return torch.Generator(self.device).manual_seed(_seed(*key))

    def setup(self, stage: str) -> None:
        """Let DDP look for parameters that a step does not use, unless the strategy says otherwise.

        Which ones take part changes from step to step: with the phase, the branches and the prompts that were drawn,
        and from process to process. Without the search, DDP waits for the missing gradients. It adds no gradient
        where no process has one, so such parameters are neither moved nor decayed, as in a single process.
        """
        strategy = self.trainer.strategy
        if stage == "fit" and isinstance(strategy, DDPStrategy):
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def settle_modes(self) -> None:
        """Put what is frozen into eval mode, as it runs at inference; a stage that freezes says what.

        Lightning puts everything into train mode after a validation, also in the middle of an epoch, and a run that
        resumes within an epoch sees no start of one: hence all three hooks.
        """

    def on_train_start(self) -> None:
        """Lightning's hook."""
        self.settle_modes()

    def on_train_epoch_start(self) -> None:
        """Lightning's hook."""
        self.settle_modes()

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Lightning's hook."""
        self.settle_modes()

    def training_step(self, batch: Any, batch_index: int) -> dict[str, Any]:
        """Lightning's hook: one step, its terms logged.

        What draws from torch's own generators (the drop path of a trunk, dropout in trained heads) is keyed to the
        batch and the process, so that a resumed run draws the same and processes draw differently.
        """
        torch.manual_seed(_seed(self.batches_seen, self.global_rank, 1))  # other numbers than the prompts'
        output = self.step(batch, train=True)
        self._log_terms("train", output)
        return {"loss": output.loss, "output": _detached(output)}

    def validation_step(self, batch: Any, batch_index: int) -> dict[str, Any]:
        """Lightning's hook: one step; the callbacks hold the metrics."""
        output = self.step(batch, train=False)
        self._log_terms("val", output)
        return {"loss": output.loss, "output": output}

    def test_step(self, batch: Any, batch_index: int) -> dict[str, Any]:
        """Lightning's hook: as in validation."""
        return self.validation_step(batch, batch_index)

    def _log_terms(self, prefix: str, output: StepOutput) -> None:
        named = {f"{prefix}/loss/{name}": value for name, value in output.terms.items()}
        named[f"{prefix}/loss"] = output.loss
        self.log_dict(named, batch_size=output.batch_size, sync_dist=prefix == "val")

    def optimised_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters for AdamW; a stage with several rates has its own."""
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        return [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a warm-up and the schedule, per step."""
        optimizer = torch.optim.AdamW(self.optimised_groups(), lr=self.lr)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int, total: int) -> float:
        warmup = max(1, round(self.warmup * total))
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * done))

    def _move_teacher(self) -> None:
        if self.teacher is not None:
            self.teacher.model.to(self.device)

    def on_fit_start(self) -> None:
        """Move the teacher, which is no submodule, to the device."""
        self._move_teacher()

    def on_validation_start(self) -> None:
        """Move the teacher for `validate` without `fit`."""
        self._move_teacher()

    def on_test_start(self) -> None:
        """Move the teacher for `test`."""
        self._move_teacher()


def _seed(*key: int) -> int:
    """A number for generators, from the run's seed and the key."""
    seed = 0
    for part in (int(os.environ.get("PL_GLOBAL_SEED", "0")), *key):
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 25)
    return seed


def _detached(output: StepOutput) -> StepOutput:
    """The output without its graph, so that callbacks cannot keep the activations alive."""

    def off(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.detach()

    masks = {kind: replace(m, student=m.student.detach(), teacher=off(m.teacher)) for kind, m in output.masks.items()}
    features, clip = output.student_features, output.clip
    return replace(
        output,
        loss=output.loss.detach(),
        terms={name: term.detach() for name, term in output.terms.items()},
        masks=masks,
        student_features=None if features is None else features.detach(),
        clip=None if clip is None else replace(clip, student=clip.student.detach()),
    )
