"""Log how fast training runs, what it waits for, and how much memory it takes."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
import torch


class Throughput(L.Callback):
    """Logs what training costs, every `window` batches and at the end of an epoch.

    - `perf/images_per_s`: images of all processes per second of wall time; validation does not count,
    - `perf/data_wait_share`: share of that time between the end of a batch and the start of the next, in [0, 1].
      On a GPU the host runs ahead of the device; a wait that the device does not notice is counted too,
    - `perf/peak_memory_gb`: the most that was allocated on the GPU since the start or, on a CPU, the largest
      resident size of the process without its data workers, in 10^9 bytes.

    Nothing here waits for the device.

    Args:
        window: Batches per value.
    """

    def __init__(self, window: int = 50) -> None:
        self.window = window
        self._reset()

    def _reset(self) -> None:
        self._batches = self._images = 0
        self._wait = self._work = 0.0
        self._mark = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of a run that resumes within an epoch, whose start is not announced."""
        self._reset()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; the start of the data workers counts as waiting."""
        self._reset()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The data has come."""
        now = time.perf_counter()
        self._wait += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The batch is done."""
        now = time.perf_counter()
        self._work += now - self._mark
        self._mark = now
        self._batches += 1
        self._images += outputs["output"].batch_size
        if self._batches == self.window:
            self._log(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave a validation in the middle of an epoch out of the wait."""
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what is left over."""
        if self._batches > 0:
            self._log(trainer)

    def _log(self, trainer: L.Trainer) -> None:
        total = self._wait + self._work
        values = {
            "perf/images_per_s": self._images * trainer.world_size / total,
            "perf/data_wait_share": self._wait / total,
        }
        memory = peak_memory(trainer.strategy.root_device)
        if memory is not None:
            values["perf/peak_memory_gb"] = memory / 1e9
        # Straight to the loggers: `self.log` would copy to the device, and drop what falls between its steps.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        self._reset()


def peak_memory(device: torch.device) -> int | None:
    """Most bytes allocated by torch on a GPU; else the largest resident size, which Windows does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB on Linux
