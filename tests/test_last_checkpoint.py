"""A run that is told to stop writes its checkpoint first; a checkpoint appears as a whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from tiny_stage import TinyStage, loader, trainer

from callbacks import AtomicCheckpointIO, LastCheckpoint, StageFreeze
from phd.errors import UserError

BATCHES, EPOCHS = 4, 2


class Send(L.Callback):
    """Sends a signal to the own process in a hook, once a number of optimiser steps was taken."""

    def __init__(self, hook: str, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number, self.sent = step, number, False
        setattr(self, hook, self._send)

    def _send(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


class Events(L.Callback):
    """What happened, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.names.append("batch")

    def on_validation_end(self, *_: object) -> None:
        self.names.append("validation")


def fit(folder: Path, *callbacks: L.Callback, every: int = 100, resume: bool = False, **settings: Any) -> TinyStage:
    """A run on the same batches every epoch; a plain loader has no place to resume at."""
    stage = TinyStage()
    keep = LastCheckpoint(every_n_steps=every)
    runs = trainer(folder, *callbacks, keep, max_epochs=EPOCHS, **{"enable_checkpointing": True, **settings})
    last = folder / "checkpoints" / "last.ckpt"
    runs.fit(stage, loader(BATCHES), loader(1), ckpt_path=last if resume else None, weights_only=False)
    return stage


def saved(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("number", "hook", "step", "saved_at", "events"),
    [
        (signal.SIGTERM, "on_train_batch_start", 1, 2, 2 * ["batch"]),
        (signal.SIGUSR1, "on_before_optimizer_step", 1, 2, 2 * ["batch"]),
        (signal.SIGTERM, "on_train_batch_start", 3, 4, [*4 * ["batch"], "validation"]),
        (signal.SIGTERM, "on_validation_batch_start", 4, 4, [*4 * ["batch"], "validation"]),
    ],
    ids=["before a batch", "within a batch", "in the last batch of an epoch", "in a validation"],
)
def test_a_signal_writes_a_checkpoint_and_ends_the_run(
    number: int, hook: str, step: int, saved_at: int, events: list[str], tmp_path: Path
) -> None:
    before, seen = signal.getsignal(number), Events()
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, Send(hook, step, number), seen)
    assert end.value.code == 128 + number
    assert saved(tmp_path)["global_step"] == saved_at
    assert seen.names == events  # a validation that is due or under way is ended, and not repeated
    assert signal.getsignal(number) == before
    resumed = fit(tmp_path, seen, resume=True)
    assert seen.names == [*4 * ["batch"], "validation"] * 2
    assert resumed.global_step == BATCHES * EPOCHS


def test_a_signal_at_the_very_end_changes_nothing(tmp_path: Path) -> None:
    stage = fit(tmp_path, Send("on_validation_batch_start", BATCHES * EPOCHS))
    assert stage.global_step == BATCHES * EPOCHS


@pytest.mark.parametrize(("accumulate", "steps"), [(1, [2, 4, 6, 8]), (2, [2, 4])])
def test_it_writes_every_so_many_optimiser_steps(accumulate: int, steps: list[int], tmp_path: Path) -> None:
    class Written(L.Callback):
        steps: list[tuple[int, int]]

        def on_save_checkpoint(self, trainer: L.Trainer, *_: object) -> None:
            self.steps.append((trainer.global_step, trainer.fit_loop.total_batch_idx + 1))

    written = Written()
    written.steps = []
    fit(tmp_path, written, every=2, accumulate_grad_batches=accumulate)
    assert written.steps == [(step, step * accumulate) for step in steps]


def test_a_stop_waits_for_the_end_of_an_optimiser_step(tmp_path: Path) -> None:
    seen = Events()
    with pytest.raises(SystemExit):
        fit(tmp_path, Send("on_train_batch_start", 0), seen, accumulate_grad_batches=2)
    assert (saved(tmp_path)["global_step"], seen.names) == (1, ["batch", "batch"])


def test_frozen_parts_unfreeze_after_a_stop(tmp_path: Path) -> None:
    straight = fit(tmp_path / "straight", StageFreeze({"trunk": 1}))
    with pytest.raises(SystemExit):
        fit(tmp_path, Send("on_train_batch_start", 3), StageFreeze({"trunk": 1}))
    resumed = fit(tmp_path, StageFreeze({"trunk": 1}), resume=True)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"SLURM_JOB_ID": "7"}, "requeue 7"),
        ({"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 7_3"),
        ({}, ""),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_slurm_is_asked_to_requeue(
    number: int, environment: dict[str, str], asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, answer = tmp_path / "scontrol", tmp_path / "asked"
    command.write_text(f'#!/bin/sh\necho "$@" > {answer}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    keep = LastCheckpoint()
    keep._note(number, None)
    keep._agree(one_process())
    with pytest.raises(SystemExit):
        keep._end(one_process())
    said = answer.read_text().strip() if answer.exists() else ""
    assert said == (asked if number == signal.SIGUSR1 else "")


def test_slurm_that_does_not_requeue_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    keep = LastCheckpoint()
    keep._note(signal.SIGTERM, None)
    keep._note(signal.SIGUSR1, None)
    keep._note(signal.SIGTERM, None)  # comes after the warning, and does not take it back
    keep._agree(one_process())
    with pytest.warns(UserWarning, match="the job 7 is not requeued"), pytest.raises(SystemExit) as end:
        keep._end(one_process())
    assert end.value.code == 128 + signal.SIGUSR1


def one_process() -> Any:
    """As much of a trainer as the two calls need."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda value, reduce_op: value)
    return SimpleNamespace(strategy=strategy, is_global_zero=True)


def test_bad_interval() -> None:
    with pytest.raises(UserError, match="every_n_steps is 0"):
        LastCheckpoint(every_n_steps=0)


def killed_within_a_write(file: Path) -> None:
    """In a child: half of a checkpoint, then the machine goes down."""

    def half(checkpoint: object, target: Any) -> None:
        target.write(b"half")
        target.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    AtomicCheckpointIO().save_checkpoint({"step": 2}, file)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_kill_within_a_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, file)
    child = os.fork()
    if child == 0:
        killed_within_a_write(file)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (file.parent / "last.ckpt.partial").read_bytes() == b"half"
    assert AtomicCheckpointIO().load_checkpoint(file) == {"step": 1}
    AtomicCheckpointIO().save_checkpoint({"step": 3}, file)
    assert AtomicCheckpointIO().load_checkpoint(file) == {"step": 3}
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, file)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"last\.ckpt: the checkpoint cannot be written \(.*File too large"):
            AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(1_000_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert AtomicCheckpointIO().load_checkpoint(file) == {"step": 1}


def test_a_place_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the checkpoint cannot be written"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")


def test_an_object_store_is_left_to_lightning() -> None:
    AtomicCheckpointIO().save_checkpoint({"step": 1}, "memory://bucket/last.ckpt")
    assert AtomicCheckpointIO().load_checkpoint("memory://bucket/last.ckpt") == {"step": 1}
