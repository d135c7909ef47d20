"""Throughput counts images and time as they pass."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
import torch
from tiny_stage import TinyBatches, TinyStage, loader, trainer
from torch.utils.data import DataLoader

from callbacks import Throughput
from callbacks.throughput import peak_memory
from phd.contract import ImageBatch


class SlowBatches(TinyBatches):
    def __getitem__(self, index: int) -> ImageBatch:
        time.sleep(0.03)
        return super().__getitem__(index)


class SlowStage(TinyStage):
    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        time.sleep(0.03)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        time.sleep(0.5)
        return super().validation_step(batch, batch_idx)


def logged(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("perf/images_per_s")]
    return [{name: float(row[name]) for name in row if name.startswith("perf/") or name == "step"} for row in rows]


def test_logs_each_window_and_the_rest(tmp_path: Path) -> None:
    slow = DataLoader(SlowBatches(5), batch_size=None)
    trainer(tmp_path, Throughput(window=2), max_epochs=1, log_every_n_steps=3).fit(SlowStage(), slow)
    rows = logged(tmp_path)
    assert [row["step"] for row in rows] == [2, 4, 5]
    for row in rows:  # a batch has 2 images and takes 0.06 s and a little
        assert 8 < row["perf/images_per_s"] < 2 / 0.06
        assert 0.2 < row["perf/data_wait_share"] < 0.8


def test_validation_within_an_epoch_does_not_count(tmp_path: Path) -> None:
    run = trainer(tmp_path, Throughput(window=4), max_epochs=1, val_check_interval=2)
    run.fit(SlowStage(), DataLoader(SlowBatches(4), batch_size=None), loader(1))
    (row,) = logged(tmp_path)
    # Four batches of 0.06 s; the validation after the second takes 0.5 s.
    assert row["perf/images_per_s"] > 8 / 0.5
    assert row["perf/data_wait_share"] < 0.8


def test_peak_memory_of_the_process_grows() -> None:
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(200_000_000, dtype=torch.uint8)
    after = peak_memory(torch.device("cpu"))
    assert before is not None
    assert after is not None
    assert before > 50e6  # torch alone
    assert after >= len(held)


def test_peak_memory_is_logged_in_gb(tmp_path: Path) -> None:
    trainer(tmp_path, Throughput(), max_epochs=1).fit(TinyStage(), loader(1))
    (row,) = logged(tmp_path)
    assert row["perf/peak_memory_gb"] == pytest.approx(peak_memory(torch.device("cpu")) / 1e9, rel=0.2)
