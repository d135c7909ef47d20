"""What the metric loggers share: metrics that live in a callback and read the `StepOutput`."""

from __future__ import annotations

import warnings
from typing import Any, cast

import lightning as L
from torch import Tensor
from torchmetrics import Metric

from phd.contract import Contract
from phd.outputs import StepOutput


class MetricLogger(L.Callback):
    """Holds `torchmetrics` objects over a validation or test epoch and logs them at its end.

    A subclass says which metrics there are and feeds them. The set must not depend on the data: with several
    processes each takes part in every sum, also in one that its own batches did not touch. Metrics without any
    update are not logged. The states are sums, so the value is exact for any number of processes.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def build(self, contract: Contract) -> dict[str, Metric]:
        """New metrics by name, without the `val/` or `test/` in front."""
        raise NotImplementedError(f"{type(self).__name__} has no build")

    def update(self, output: StepOutput, contract: Contract) -> None:
        """Feed one batch to `self.metrics`."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def summarise(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is logged, from the metrics' values; by default these."""
        return values

    def _start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        built = self.build(cast(Contract, pl_module.contract))
        self.metrics = {name: metric.to(pl_module.device) for name, metric in built.items()}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from empty metrics."""
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Feed a batch."""
        self.update(outputs["output"], cast(Contract, pl_module.contract))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log as `val/...` or `test/...`, except in the sanity check."""
        if trainer.sanity_checking:
            return
        with warnings.catch_warnings():
            # A metric without an update is expected, and computes NaN.
            warnings.filterwarnings("ignore", message=".*was called before the ``update`` method")
            values = {name: metric.compute() for name, metric in self.metrics.items()}
        seen = {name: value for name, value in values.items() if not value.isnan()}
        prefix = "test" if trainer.testing else "val"
        for name, value in self.summarise(seen).items():
            # Every process holds the same value; sync_dist only tells Lightning that this is known.
            pl_module.log(f"{prefix}/{name}", value, prog_bar="/" not in name, sync_dist=True)

    # A test begins, feeds its metrics and ends as a validation does.
    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end
