"""A real `phd fit` that is stopped from outside, alone and under torchrun, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import ROOT, small
from test_processes import keys_by_step
from test_resume import assert_same_end, state_of

from phd.cli import run

pytestmark = pytest.mark.slow
STEPS = 40
ALONE = [sys.executable, "-m", "phd"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "phd"]


def arguments(shards: Path, teacher: Path, folder: Path, *more: str) -> list[str]:
    record = ["--trainer.callbacks+=test_processes.Keys", f"--trainer.callbacks.folder={folder / 'keys'}"]
    limits = ["--trainer.limit_train_batches=10", "--trainer.limit_val_batches=0", "--trainer.max_epochs=4"]
    return ["fit", *small(shards, folder, teacher, *limits, *record, *more, steps=-1)]


def stopped(command: list[str], folder: Path, whole_group: bool) -> int:
    """Start, wait for two steps, send SIGTERM; the exit code."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    while len(keys_by_step(folder / "keys")) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    if whole_group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.send_signal(signal.SIGTERM)
    return process.wait(timeout=300)


def test_sigterm_then_resume(tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    words = arguments(toy_shards, toy_folder, tmp_path / "run", "--data.num_workers=1")
    # As a batch system does: every process of the job gets the signal, the data worker too.
    assert stopped([*ALONE, *words], tmp_path / "run", whole_group=True) == 128 + signal.SIGTERM
    seen = keys_by_step(tmp_path / "run" / "keys")
    assert state_of(tmp_path / "run")["global_step"] == max(seen) < STEPS
    run([*words, "--ckpt_path=last"])
    run(arguments(toy_shards, toy_folder, tmp_path / "straight"))
    assert keys_by_step(tmp_path / "run" / "keys") == keys_by_step(tmp_path / "straight" / "keys")
    assert_same_end(state_of(tmp_path / "run"), state_of(tmp_path / "straight"))


def test_torchrun_is_stopped_and_one_process_goes_on(tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=1"]
    words = arguments(toy_shards, toy_folder, tmp_path, *two)
    assert stopped([*TORCHRUN, *words], tmp_path, whole_group=False) != 0
    before = keys_by_step(tmp_path / "keys")
    assert state_of(tmp_path)["global_step"] == max(before) < STEPS
    run([*arguments(toy_shards, toy_folder, tmp_path), "--ckpt_path=last"])
    seen = keys_by_step(tmp_path / "keys")
    assert sorted(seen) == list(range(1, STEPS + 1))
    assert all(len(keys) == 2 for keys in seen.values())
    for epoch in range(4):  # ten batches of two are all there is to train on, each sample once an epoch
        keys = [key for step in range(10 * epoch + 1, 10 * epoch + 11) for key in seen[step]]
        assert len(set(keys)) == 20
