"""Freeze parts of the learner for a stage, or until an epoch."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import Any, cast

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from phd.errors import UserError


class StageFreeze(L.Callback):
    """Freezes modules of `learner`, for the whole stage or until an epoch.

    A frozen module has no gradients and is in eval mode: in train mode a frozen BatchNorm would still normalise
    with the batch and move its running statistics. What is frozen is a pure function of the epoch, so a resumed
    run needs no state. Where names nest, the more specific one counts.

    Modules that are frozen for good are frozen before the optimiser is made, which leaves them out if it takes
    what requires a gradient. Modules that unfreeze later are in the optimiser from the start: without gradients
    it neither moves nor decays them and holds no state, its groups never change, and they begin at the rate
    that the schedule has reached by then. DDP only averages gradients of what was trainable when it wrapped the
    module, so the module is wrapped anew when the frozen set changes.

    Args:
        modules: Names of modules, frozen for the whole stage; or name -> epoch at whose start the module is
            unfrozen (null: never). Names are dotted paths below `learner` (`heads`, `trunk.stages_0`) or
            patterns (`trunk.stages_*`; `*` also matches dots).

    Raises:
        UserError: An epoch is no whole number of at least 0; at setup: a name matches no module, everything
            would be frozen, a scheduled module has nothing to train, or the strategy cannot unfreeze.
    """

    def __init__(self, modules: list[str] | dict[str, int | None]) -> None:
        schedule = modules if isinstance(modules, dict) else dict.fromkeys(modules)
        for name, epoch in schedule.items():
            if epoch is not None and (not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0):
                raise UserError(f"StageFreeze: modules.{name} is {epoch!r}; write an epoch of 0 or later, or null")
        self.schedule: dict[str, int | None] = dict(schedule)
        self._unfreeze_at: dict[nn.Module, int | None] = {}
        self._parameters: dict[nn.Parameter, int | None] = {}
        self._epoch: int | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Freeze before DDP wraps the module and before the optimiser is made."""
        if stage != "fit":
            return
        for parameter in self._parameters:  # as an earlier fit found them
            parameter.requires_grad = True
        learner = cast(nn.Module, pl_module.learner)
        # Parts that the stage never lets freeze; their names are longer than those above them, so they count.
        self.schedule |= dict.fromkeys(getattr(pl_module, "always_trained", ()), 0)
        self._epoch = None
        self._unfreeze_at = _resolve(learner, self.schedule)
        self._parameters = {
            parameter: epoch
            for module, epoch in self._unfreeze_at.items()
            for parameter in module.parameters(recurse=False)
            if parameter.requires_grad
        }
        self._check(trainer, learner)
        for parameter, epoch in self._parameters.items():
            parameter.requires_grad = epoch is not None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Freeze what is scheduled; here the epoch of a resumed run is known, also in the middle of one."""
        # Once more, because a conversion to SyncBatchNorm since setup has replaced modules.
        self._unfreeze_at = _resolve(cast(nn.Module, pl_module.learner), self.schedule)
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        optimised = {parameter for group in groups for parameter in group["params"]}
        if any(at is not None and parameter not in optimised for parameter, at in self._parameters.items()):
            raise RuntimeError("configure_optimizers must take all parameters that require a gradient")
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Unfreeze what is due."""
        self._apply(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Undo a `train()` that something, such as the end of a validation, has called on a frozen module."""
        epoch = trainer.current_epoch
        if any(module.training for module, at in self._unfreeze_at.items() if _frozen(at, epoch)):
            self._set_modes(epoch)

    def _apply(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        before = [parameter.requires_grad for parameter in self._parameters]
        for parameter, at in self._parameters.items():
            parameter.requires_grad = not _frozen(at, epoch)
        for module, at in self._unfreeze_at.items():
            if _frozen(at, self._epoch) and not _frozen(at, epoch):
                module.train()
        self._set_modes(epoch)
        self._epoch = epoch
        strategy = trainer.strategy
        changed = before != [parameter.requires_grad for parameter in self._parameters]
        if changed and isinstance(strategy, DDPStrategy):
            strategy.model = pl_module
            strategy.configure_ddp()

    def _set_modes(self, epoch: int) -> None:
        for module, at in self._unfreeze_at.items():
            if _frozen(at, epoch):
                module.training = False

    def _check(self, trainer: L.Trainer, learner: nn.Module) -> None:
        trainable = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        if all(_frozen(self._parameters.get(parameter, 0), 0) for parameter in trainable):
            raise UserError("StageFreeze: every parameter is frozen in epoch 0; leave something to train in modules")
        for name, epoch in self.schedule.items():
            if epoch is None:
                continue
            modules = _matches(learner, name).values()
            if not any(parameter.requires_grad for module in modules for parameter in module.parameters()):
                raise UserError(
                    f"StageFreeze: {name} is to unfreeze at epoch {epoch}, but nothing in it requires a gradient; "
                    f"remove its epoch, or the setting of the model that freezes it"
                )
            if epoch > 0 and not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
                raise UserError(
                    f"StageFreeze: {name} cannot unfreeze under {type(trainer.strategy).__name__}; "
                    f"set trainer.strategy to ddp, or freeze it for the whole stage"
                )


def _frozen(unfreeze_at: int | None, epoch: int | None) -> bool:
    # Before the first epoch (None) whatever is named counts as frozen.
    return unfreeze_at is None or epoch is None or epoch < unfreeze_at


def _named_modules(learner: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module with its path, also by way of views: a teacher keeps `heads` outside its module tree."""
    views = {name: view for name, view in vars(learner).items() if isinstance(view, nn.Module)}
    pairs = [pair for pair in learner.named_modules() if pair[0]]
    for name, view in views.items():
        pairs += [(f"{name}.{path}" if path else name, module) for path, module in view.named_modules()]
    return pairs


def _matches(learner: nn.Module, name: str) -> dict[str, nn.Module]:
    return {path: module for path, module in _named_modules(learner) if fnmatchcase(path, name)}


def _resolve(learner: nn.Module, schedule: dict[str, int | None]) -> dict[nn.Module, int | None]:
    """The epoch of every module at or below a named one; the longest named path above a module decides."""
    pairs = _named_modules(learner)
    named: dict[str, int | None] = {}
    for name, epoch in schedule.items():
        paths = _matches(learner, name)
        if not paths:
            near = difflib.get_close_matches(name, [path for path, _ in pairs], n=3, cutoff=0.4)
            tops = [path for path, _ in pairs if "." not in path]
            raise UserError(
                f"StageFreeze: the learner has no module {name!r}; "
                + (f"did you mean {', '.join(near)}?" if near else f"its parts are {', '.join(tops)}")
            )
        named.update(dict.fromkeys(paths, epoch))
    decisive: dict[nn.Module, str] = {}
    for path, module in pairs:
        parts = path.split(".")
        above = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        nearest = next((name for name in above if name in named), "")
        if nearest and len(nearest) > len(decisive.get(module, "")):
            decisive[module] = nearest
    return {module: named[path] for module, path in decisive.items()}
