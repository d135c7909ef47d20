"""Where a training lies in the plan, kept in every checkpoint: what an exact and elastic resume needs."""

from __future__ import annotations

import warnings
from typing import Any

import lightning as L

from datamodules.plan import PlannedBatchSampler
from datamodules.streamed import StreamedExamples
from phd.errors import UserError

# It looks for a state of the loader; ours is that of the data module.
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")


class Place(L.Callback):
    """Counts the samples as they are consumed, and puts a resumed run where they end.

    The place is (epoch, samples of this epoch consumed by all ranks). Neither workers nor ranks nor the batch size
    occur in it, so that a run goes on with any of them: with the same global batch (`batch_size` x processes) it sees
    the same batches; with another one it goes on at the same sample, none seen twice and none left out but the tail
    of the epoch that fills no global batch. What was fetched ahead but not consumed is fetched again.

    Lightning counts batches, not samples. Where the global batch changed, its counter is set so that the epoch still
    ends with its last batch.

    Of a stream of tars without an index the order depends on processes and workers, so that its resume is exact with
    the same ones only.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin with the first epoch."""
        self.epoch = self.samples = 0
        self.sampler: PlannedBatchSampler | StreamedExamples | None = None
        self._loaded: dict[str, int] = {}
        self._first_batch = 0

    def attach(self, sampler: PlannedBatchSampler | StreamedExamples, root: str) -> None:
        """Follow this sampler; it begins where we are.

        Raises:
            UserError: The checkpoint lies within an epoch of another order of samples.
        """
        mine = {"num_samples": sampler.num_samples, "seed": sampler.seed}
        theirs = {name: self._loaded.get(name, value) for name, value in mine.items()}
        if self.samples and mine != theirs:
            said = " and ".join(
                f"{name} {theirs[name]} in the checkpoint, {mine[name]} now"
                for name in mine
                if mine[name] != theirs[name]
            )
            raise UserError(
                f"{root}: the checkpoint was written within an epoch of another order of samples ({said}); resume with "
                f"the same data and data.seed, or from a checkpoint at the end of an epoch"
            )
        self.sampler = sampler
        self._first_batch = sampler.seek(self.epoch, self.samples)

    def position(self) -> dict[str, int]:
        """The place, and the order that it is a place of."""
        order = {} if self.sampler is None else {"num_samples": self.sampler.num_samples, "seed": self.sampler.seed}
        return {"epoch": self.epoch, "samples": self.samples, **order}

    def go_to(self, position: dict[str, int]) -> None:
        """Take the place of a checkpoint."""
        self._loaded = dict(position)
        self.epoch, self.samples = position["epoch"], position["samples"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count batches of the size of now; Lightning has restored its loops, and begins the epoch hereafter."""
        if not self._loaded:
            return
        loop = trainer.fit_loop
        counted: Any = loop.epoch_loop.batch_progress.current
        whole_epoch = int(trainer.num_training_batches)
        target = min(self._first_batch, whole_epoch) if self.samples else whole_epoch * bool(counted.processed)
        counted.increment_by(target - counted.processed)
        if loop.restarted_on_epoch_end:
            # Lightning 2.6 with max_steps takes a checkpoint from behind an epoch for one from within it, and counts
            # the next epoch without training it.
            loop.epoch_progress.increment_completed()
            loop.reset_restart_stage()
            loop.epoch_loop.restarting = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """One more global batch."""
        assert self.sampler is not None, "training samples come from the sampler"
        self.samples += self.sampler.size
        if trainer.is_last_batch or trainer.fit_loop.batch_idx + 1 >= trainer.num_training_batches:
            self._next_epoch()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """An epoch may also end before its last batch."""
        if self.samples:
            self._next_epoch()

    def _next_epoch(self) -> None:
        assert self.sampler is not None, "training samples come from the sampler"
        self.epoch, self.samples = self.epoch + 1, 0
        self.sampler.set_epoch(self.epoch)
