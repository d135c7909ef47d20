"""A module that learns nothing and writes down which samples it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from raw_samples import contract
from torch import Tensor, nn


class Recorder(L.LightningModule):
    """Keeps the keys of every batch.

    Args:
        scheduled: Whether the optimiser asks for the number of steps, as every schedule does; Lightning then makes the
            training loader before it restores its loops.
    """

    def __init__(self, scheduled: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.contract = contract()
        self.scheduled = scheduled
        self.trained: list[tuple[int, list[str]]] = []
        self.validated: list[str] = []
        self.batches: list[Any] = []

    def training_step(self, batch: Any, index: int) -> Tensor:
        self.trained.append((self.current_epoch, batch.keys))
        self.batches.append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Any, index: int) -> None:
        self.validated += batch.keys

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.scheduled:
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Killed(Exception):
    """Stands for a machine that goes down."""


class Stop(L.Callback):
    """Writes a checkpoint and ends the run: behind a batch (counted over all epochs from 1), or behind an epoch."""

    def __init__(self, path: Path, batch: int = 0, epoch: int = 0, validation: int = 0) -> None:
        self.path, self.batch, self.epoch, self.validation = path, batch, epoch, validation

    def _kill(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        raise Killed

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.batch:
            self._kill(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.validation and trainer.current_epoch + 1 == self.validation:
            self._kill(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.epoch and trainer.current_epoch + 1 == self.epoch:
            self._kill(trainer)


def fit(
    data: L.LightningDataModule, epochs: int = 2, scheduled: bool = False, resume: Path | None = None, **options: Any
) -> Recorder:
    """Train a recorder; where a `Stop` among the callbacks ends it, what it saw up to there."""
    model = Recorder(scheduled)
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": epochs,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    trainer = L.Trainer(**{**defaults, **options})
    try:
        trainer.fit(model, data, ckpt_path=resume, weights_only=True if resume else None)
    except Killed:
        assert any(isinstance(callback, Stop) for callback in options["callbacks"])
    return model
