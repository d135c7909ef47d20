"""Write the student as a folder that stands alone, whenever it has improved."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning_utilities.core.rank_zero import rank_zero_warn

from callbacks.run_folder import is_dry_run, run_folder
from phd.errors import UserError


class StudentArtefact(L.Callback):
    """Keeps the best student of a run in a folder; the next stage, the predictor and the export read it.

    After each validation in which `monitor` is at least as good as ever, `learner.save` writes the learner, which holds
    no teacher, into `<folder>.partial`, and the folder is swapped: a reader or a killed run never sees half of it. Of
    equals the later one stays: early on a metric such as cgF1 is 0 for long. Under weight averaging (EMA) it writes the
    averaged weights, those that were validated. As long as `monitor` is not logged at all, each validation replaces the
    folder by the latest weights, with one warning that names what is logged; NaN is never good. A run without any
    validation writes its last weights at the end. Nothing is written in a `fast_dev_run`.

    A resumed run keeps the best value; if it logs into another folder, the best student is copied there first.

    Args:
        monitor: The logged value that decides; by default the stage's own headline.
        mode: "max" if larger is better, "min" if smaller is.
        folder: Where to write; `student` in the run's folder by default.

    Raises:
        UserError: At setup, if the strategy shards the weights, which no process then has as a whole.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        folder: Path | str | None = None,
    ) -> None:
        self.monitor = monitor
        self.mode = mode
        self.folder = None if folder is None else Path(folder)
        self.best: float | None = None
        self._earlier: Path | None = None
        self._validated = False
        self._written = False
        self._warned = False

    @property
    def state_key(self) -> str:
        """Several may run with different monitors."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """The best value and where its student lies."""
        return {"best": self.best, "folder": None if self.folder is None else str(self.folder)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the best value."""
        self.best = state_dict["best"]
        self._earlier = None if state_dict["folder"] is None else Path(state_dict["folder"])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the folder, and mend a swap that was interrupted."""
        if stage != "fit":
            return
        if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
            raise UserError(
                f"StudentArtefact: no process has the whole weights under {type(trainer.strategy).__name__}; "
                f"set trainer.strategy to ddp"
            )
        default = run_folder(trainer) / "student"
        self.folder = self.folder or default
        if trainer.is_global_zero:
            partial, replaced = _beside(self.folder, "partial"), _beside(self.folder, "replaced")
            if replaced.exists() and not self.folder.exists():
                replaced.rename(self.folder)
            _remove(partial, replaced)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Bring the best student of a resumed run along."""
        assert self.folder is not None
        if not trainer.is_global_zero or self.best is None or self.folder.exists():
            return
        if self._earlier is not None and self._earlier.exists():
            shutil.copytree(self._earlier, self.folder)
        else:
            rank_zero_warn(f"StudentArtefact: {self._earlier} is gone; the next validation writes a new student")
            self.best = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the student unless an earlier one was better."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or is_dry_run(trainer):
            return
        self._validated = True
        logged, monitor = trainer.callback_metrics, self._monitored(pl_module)
        if monitor not in logged:
            if not self._warned:
                names = ", ".join(sorted(name for name in logged if name.startswith("val/"))) or "no val/ value"
                rank_zero_warn(
                    f"StudentArtefact: {monitor} is not logged, so the latest student is kept instead of the "
                    f"best; set monitor to one of: {names}"
                )
                self._warned = True
            if self.best is None:
                self._write(trainer, pl_module)
            return
        value = float(logged[monitor])
        if math.isnan(value):
            return
        sign = 1 if self.mode == "max" else -1
        if self.best is None or sign * value >= sign * self.best:
            self.best = value
            self._write(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last student if there was no validation."""
        if self._written or self.best is not None or is_dry_run(trainer):
            return
        if self._validated:
            rank_zero_warn(
                f"StudentArtefact: {self._monitored(pl_module)} was NaN in every validation, no student is written"
            )
        else:
            self._write(trainer, pl_module)

    def _monitored(self, pl_module: L.LightningModule) -> str:
        return self.monitor or getattr(pl_module, "headline", "val/mask_iou")

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._written = True
        if not trainer.is_global_zero:
            return
        assert self.folder is not None
        partial, replaced = _beside(self.folder, "partial"), _beside(self.folder, "replaced")
        _remove(partial, replaced)
        partial.parent.mkdir(parents=True, exist_ok=True)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        metrics = {name: value for name, value in logged.items() if math.isfinite(value)}  # JSON has no NaN
        with averaged_weights(trainer, pl_module):
            cast(Any, pl_module.learner).save(
                partial,
                stage=type(pl_module).__name__,
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                metrics=metrics,
            )
        if self.folder.exists():
            self.folder.rename(replaced)
        partial.rename(self.folder)
        _remove(replaced)


@contextmanager
def averaged_weights(trainer: L.Trainer, pl_module: L.LightningModule) -> Iterator[None]:
    """Within, the module holds the averaged weights if the trainer has a `WeightAveraging`.

    That callback swaps them in when a validation epoch starts and out when it ends, which is before any callback's
    `on_validation_end`; its own two hooks swap them once more.
    """
    averages = [callback for callback in getattr(trainer, "callbacks", []) if isinstance(callback, WeightAveraging)]
    for average in averages:
        average.on_validation_epoch_start(trainer, pl_module)
    try:
        yield
    finally:
        for average in averages:
            average.on_validation_epoch_end(trainer, pl_module)


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")
