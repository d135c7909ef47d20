"""Keep the checkpoint to resume from fresh, and write it before the run is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks.run_folder import is_dry_run, run_folder
from phd.errors import UserError

# In rising order: a batch system lets SIGTERM follow its warning, and the job is to be requeued then too.
SIGNALS = [signal.Signals[name] for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class LastCheckpoint(Checkpoint):
    """Writes `checkpoints/last.ckpt` in the run's folder every so many steps, and when the run is told to stop.

    SIGTERM (`kill`, a preempted job, a stopped `torchrun`) and SIGUSR1 (SLURM's warning before the time limit,
    `sbatch --signal=SIGUSR1@90`) let the optimiser step end, write the checkpoint and end the run with the exit code
    128 + signal. It is enough that one process gets the signal: all of them ask each other after every step. After
    SIGUSR1 in a SLURM job the first process asks SLURM to requeue it.

    Lightning 2.6 answers both signals within the handler, with collective operations, wherever each process happens to
    be. Processes that stand at different places then wait for each other, and a checkpoint from the middle of a step
    does not resume exactly. The handlers here only take a note, and replace Lightning's.

    No checkpoint is written between the batches of one optimiser step: it would lack their gradients. A validation that
    is due or under way is ended first, since it cannot be resumed; the weights before it are written before it.

    Args:
        every_n_steps: Optimiser steps between two checkpoints.
        requeue: Whether SIGUSR1 requeues a SLURM job.

    Raises:
        UserError: `every_n_steps` is less than 1.
    """

    def __init__(self, every_n_steps: int = 500, requeue: bool = True) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise UserError(f"LastCheckpoint: every_n_steps is {every_n_steps}; give at least 1")
        self.every_n_steps, self.requeue = every_n_steps, requeue
        self.path = ""
        self._told = 0  # this process: 0, or one more than the place in SIGNALS
        self._agreed = 0  # the same, of all processes
        self._step = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the folder."""
        if stage == "fit":
            self.path = str(run_folder(trainer) / "checkpoints" / "last.ckpt")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen from here on: Lightning has just set its own handlers, and puts the earlier ones back at the end."""
        self._told = int(trainer.received_sigterm)
        self._agreed = 0
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread() and not is_dry_run(trainer):
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told = max(self._told, 1 + SIGNALS.index(signal.Signals(number)))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimiser step: write if it is time, or if any process was told to stop."""
        if trainer.global_step == self._step or is_dry_run(trainer):
            return
        self._step = trainer.global_step
        self._agree(trainer)
        if self._agreed or self._step % self.every_n_steps == 0:
            trainer.save_checkpoint(self.path)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the run; the step before has written its checkpoint, and a validation that was due is over."""
        if self._agreed:
            self._end(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End the run behind an epoch and its validation, unless it is at its end anyway."""
        if is_dry_run(trainer):
            return
        self._agree(trainer)
        if self._agreed and not _finished(trainer):
            trainer.save_checkpoint(self.path)
            self._end(trainer)

    def _agree(self, trainer: L.Trainer) -> None:
        told = torch.tensor(self._told, device=trainer.strategy.root_device)
        self._agreed = int(trainer.strategy.reduce(told, reduce_op="max"))

    def _end(self, trainer: L.Trainer) -> None:
        number = SIGNALS[self._agreed - 1]
        rank_zero_info(f"{number.name}: stopped at step {self._step}; go on with --ckpt_path={self.path}")
        if trainer.is_global_zero and number.name == "SIGUSR1" and self.requeue:
            _requeue()
        raise SystemExit(128 + number)


def _finished(trainer: L.Trainer) -> bool:
    """Whether the epoch that ends is the last one."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    last_epoch = epochs is not None and epochs != -1 and trainer.current_epoch + 1 >= epochs
    return last_epoch or (steps != -1 and trainer.global_step >= steps)


def _requeue() -> None:
    """Ask SLURM to start this job again; outside of SLURM do nothing."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if array is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        rank_zero_warn(f"the job {job} is not requeued: scontrol does not start ({error}); submit it again")
        return
    if answer.returncode:
        rank_zero_warn(f"the job {job} is not requeued: {' '.join(answer.stderr.split())}; submit it again")
