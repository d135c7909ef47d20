"""Throughput counts images and time as they pass, on a clock that the tests move."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tiny_stage import TinyBatches, TinyStage, loader, trainer
from torch.utils.data import DataLoader

from callbacks import Throughput, throughput
from phd.batches import ImageBatch


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


class SlowBatches(TinyBatches):
    """A batch of two images takes 3 seconds to load."""

    def __init__(self, count: int, clock: Clock) -> None:
        super().__init__(count)
        self.clock = clock

    def __getitem__(self, index: int) -> ImageBatch:
        self.clock.now += 3
        return super().__getitem__(index)


class SlowStage(TinyStage):
    """A training step takes 1 second, a validation step 100."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        self.clock.now += 1
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        self.clock.now += 100
        return super().validation_step(batch, batch_idx)


def logged(folder: Path) -> list[tuple[float, float, float]]:
    """Step, images per second and share of waiting."""
    with (folder / "metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("perf/images_per_s")]
    return [tuple(float(row[name]) for name in ("step", "perf/images_per_s", "perf/data_wait_share")) for row in rows]


def test_logs_each_window_and_the_rest(tmp_path: Path, clock: Clock) -> None:
    slow = DataLoader(SlowBatches(5, clock), batch_size=None)
    trainer(tmp_path, Throughput(window=2), max_epochs=1, log_every_n_steps=3).fit(SlowStage(clock), slow)
    assert logged(tmp_path) == [(2, 2 / 4, 3 / 4), (4, 2 / 4, 3 / 4), (5, 2 / 4, 3 / 4)]


def test_validation_does_not_count(tmp_path: Path, clock: Clock) -> None:
    slow = DataLoader(SlowBatches(4, clock), batch_size=None)
    run = trainer(tmp_path, Throughput(window=4), max_epochs=2, val_check_interval=2, num_sanity_val_steps=1)
    run.fit(SlowStage(clock), slow, loader(1))
    assert logged(tmp_path) == [(4, 2 / 4, 3 / 4), (8, 2 / 4, 3 / 4)]


def test_peak_memory_is_that_of_the_kernel(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the kernel tells the peak in /proc on Linux only")
    trainer(tmp_path, Throughput(), max_epochs=1).fit(TinyStage(), loader(1))
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        (value,) = [float(row["perf/peak_memory_gb"]) for row in csv.DictReader(stream) if row["perf/peak_memory_gb"]]
    kilobytes = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    assert value == pytest.approx(kilobytes * 1024 / 1e9, rel=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_of_a_gpu() -> None:
    torch.ones(10_000_000, dtype=torch.uint8, device="cuda")
    assert throughput.peak_memory(torch.device("cuda")) >= 10_000_000
