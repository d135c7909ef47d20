"""A killed run goes on to the same weights, bit for bit on one CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cli_runs import small

from phd.cli import run

STEPS_PER_EPOCH, EPOCHS = 3, 3
EVERY_STEP = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.callbacks.filename=step",
    "--trainer.callbacks.enable_version_counter=false",
]


class Killed(Exception):
    """Stands for a machine that goes down."""


class Stop(L.Callback):
    """Kills the run before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            raise Killed


def fit(shards: Path, teacher: Path, folder: Path, *more: str) -> None:
    # Order and augmentation depend on the epoch; the rate, the phase and the prompts on the step.
    limits = [f"--trainer.limit_train_batches={STEPS_PER_EPOCH}", f"--trainer.max_epochs={EPOCHS}"]
    run(["fit", *small(shards, folder, teacher, *limits, *more, steps=-1)])


def checkpoint(folder: Path, name: str = "last") -> Path:
    return folder / "checkpoints" / f"{name}.ckpt"


def state_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def same(one: Any, two: Any) -> bool:
    """Whether two nested structures are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, toy_folder: Path) -> dict[str, Any]:
    """The end of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("straight")
    fit(toy_shards, toy_folder, folder)
    return state_of(checkpoint(folder))


@pytest.mark.parametrize(
    ("killed_at", "resumed_at", "name", "more"),
    [
        (STEPS_PER_EPOCH, STEPS_PER_EPOCH, "last", []),
        (2 * STEPS_PER_EPOCH + 1, 2 * STEPS_PER_EPOCH, "last", []),
        (STEPS_PER_EPOCH + 1, STEPS_PER_EPOCH + 1, "step", EVERY_STEP),
    ],
    ids=["after an epoch", "the epoch is repeated", "within an epoch"],
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    killed_at: int,
    resumed_at: int,
    name: str,
    more: list[str],
    straight: dict[str, Any],
    tmp_path: Path,
    toy_shards: Path,
    toy_folder: Path,
) -> None:
    stop = ["--trainer.callbacks+=test_resume.Stop", f"--trainer.callbacks.step={killed_at}"]
    with pytest.raises(Killed):
        fit(toy_shards, toy_folder, tmp_path, *more, *stop)
    assert state_of(checkpoint(tmp_path, name))["global_step"] == resumed_at
    fit(toy_shards, toy_folder, tmp_path, *more, f"--ckpt_path={checkpoint(tmp_path, name)}")
    resumed = state_of(checkpoint(tmp_path))
    assert resumed["global_step"] == straight["global_step"] == STEPS_PER_EPOCH * EPOCHS
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(resumed[part], straight[part]), part
