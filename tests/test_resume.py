"""A killed run goes on to the same weights, bit for bit on one CPU process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cli_runs import refused, small

from phd.cli import run

BATCHES_PER_EPOCH, EPOCHS = 4, 3
# The parts of a checkpoint that decide how a run goes on; those of an average of weights only where there is one.
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state", "averaging_state", "global_step")
EVERY_STEP = ["--trainer.callbacks+=callbacks.LastCheckpoint", "--trainer.callbacks.every_n_steps=1"]
AVERAGED = ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay=0.5"]
ACCUMULATED = ["--trainer.accumulate_grad_batches=2"]
DROP_PATH = ["--model.backbone=tinyvit_11m"]
VALIDATED = ["--trainer.val_check_interval=2"]

Straight = Callable[..., dict[str, Any]]


class Killed(Exception):
    """Stands for a machine that goes down."""


class Kill(L.Callback):
    """Kills the run in a batch, counted over all epochs from 0."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch:
            raise Killed


def fit(shards: Path, teacher: Path, folder: Path, *more: str) -> None:
    # Order and augmentation depend on the epoch; the rate, the phase and the prompts on the step.
    limits = [f"--trainer.limit_train_batches={BATCHES_PER_EPOCH}", f"--trainer.max_epochs={EPOCHS}"]
    run(["fit", *small(shards, folder, teacher, *limits, *more, steps=-1)])


def state_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def same(one: Any, two: Any) -> bool:
    """Whether two nested structures are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def assert_same_end(resumed: dict[str, Any], straight: dict[str, Any]) -> None:
    parts = [part for part in PARTS if part in straight]
    assert [part for part in parts if not same(resumed[part], straight[part])] == []
    assert len(parts) >= 4


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, toy_folder: Path) -> Straight:
    """The end of a run that nobody killed, by its settings."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}

    def end(*more: str) -> dict[str, Any]:
        if more not in found:
            folder = tmp_path_factory.mktemp("straight")
            fit(toy_shards, toy_folder, folder, *more)
            found[more] = state_of(folder)
        return found[more]

    return end


def slow(*values: object, id: str) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow, id=id)


@pytest.mark.parametrize(
    ("killed_in", "resumed_at", "kept", "more"),
    [
        pytest.param(4, 4, [], [], id="after an epoch"),
        pytest.param(5, 5, EVERY_STEP, [], id="within an epoch"),
        slow(10, 8, [], [], id="the epoch is repeated"),
        slow(2, 2, EVERY_STEP, [], id="within the first epoch"),
        slow(7, 7, EVERY_STEP, [], id="before the last batch of an epoch"),
        slow(8, 8, ["--trainer.callbacks+=test_resume.NoEpochEnd"], [], id="at the last batch of an epoch"),
        slow(1, 1, EVERY_STEP, ["--data.num_workers=1"], id="one worker, first epoch"),
        slow(6, 6, EVERY_STEP, ["--data.num_workers=1"], id="one worker, second epoch"),
        slow(3, 3, EVERY_STEP, ["--data.num_workers=2"], id="two workers, first epoch"),
        slow(6, 6, EVERY_STEP, ["--data.num_workers=2"], id="two workers, second epoch"),
        slow(2, 1, EVERY_STEP, ACCUMULATED, id="between two optimiser steps"),
        slow(7, 3, EVERY_STEP, ACCUMULATED, id="within an optimiser step"),
        slow(6, 6, EVERY_STEP, VALIDATED, id="behind a validation within an epoch"),
        slow(7, 7, EVERY_STEP, VALIDATED, id="after a validation within an epoch"),
        slow(5, 5, EVERY_STEP, AVERAGED, id="averaged weights"),
        slow(8, 8, [], AVERAGED, id="averaged weights, after an epoch"),
        slow(5, 5, EVERY_STEP, DROP_PATH, id="drop path"),
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    killed_in: int,
    resumed_at: int,
    kept: list[str],
    more: list[str],
    straight: Straight,
    tmp_path: Path,
    toy_shards: Path,
    toy_folder: Path,
) -> None:
    kill = ["--trainer.callbacks+=test_resume.Kill", f"--trainer.callbacks.batch={killed_in}"]
    with pytest.raises(Killed):
        fit(toy_shards, toy_folder, tmp_path, *more, *kept, *kill, "--ckpt_path=last")  # none yet: the beginning
    assert state_of(tmp_path)["global_step"] == resumed_at
    fit(toy_shards, toy_folder, tmp_path, *more, *kept, "--ckpt_path=last")
    assert_same_end(state_of(tmp_path), straight(*more))


def test_last_must_be_there_and_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = small(tmp_path, tmp_path, tmp_path, "--ckpt_path=last")
    measured = [word for word in words if "max_steps" not in word]
    assert f"{tmp_path}/checkpoints/last.ckpt does not exist" in refused(capsys, "validate", *measured)
    logger = ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", f"--trainer.logger.save_dir={tmp_path}"]
    assert "trainer.logger decides" in refused(capsys, "fit", *words, *logger)


@pytest.mark.slow
def test_workers_change_nothing(straight: Straight, tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    for number, workers in enumerate([2, 0, 1]):
        kill = ["--trainer.callbacks+=test_resume.Kill", f"--trainer.callbacks.batch={3 + 4 * number}"]
        resume = ["--ckpt_path=last"] if number else []
        with pytest.raises(Killed):
            fit(toy_shards, toy_folder, tmp_path, *EVERY_STEP, *kill, f"--data.num_workers={workers}", *resume)
    fit(toy_shards, toy_folder, tmp_path, "--data.num_workers=2", "--ckpt_path=last")
    assert_same_end(state_of(tmp_path), straight())


class NoEpochEnd(L.Callback):
    """Keeps the checkpoint of the last batch of an epoch: what comes behind it is lost with the machine."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == 2 * BATCHES_PER_EPOCH and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "batch.ckpt")

    def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
        self.resumed = trainer.global_step > 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        file = Path(trainer.default_root_dir) / "batch.ckpt"
        if file.exists() and not self.resumed:
            file.replace(file.parent / "checkpoints" / "last.ckpt")
