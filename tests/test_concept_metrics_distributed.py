"""Two processes that share the datapoints find what one finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics import Metric

from phd.metrics import HOTA, CalibrationError, ConceptF1

# The shares differ in size.
RANKS = (slice(0, 3), slice(3, None))
COUNT = 11


def inputs() -> list[tuple[Metric, list[tuple[Any, ...]]]]:
    """Each metric with the inputs of all its updates."""
    generator = np.random.default_rng(1)
    shapes = [(2, 1), (1, 0), (0, 0), (1, 1), (0, 2), *generator.integers(0, 3, (COUNT - 5, 2))]
    datapoints = [
        (torch.from_numpy(generator.random(n)), torch.from_numpy(generator.random((n, m)))) for n, m in shapes
    ]
    samples = [(torch.from_numpy(generator.random(4)), torch.from_numpy(generator.random(4) < 0.7)) for _ in shapes]
    sequences = [
        (generator.random((3, 2, 2)), generator.random((3, 2)) < 0.8, generator.random((3, 2)) < 0.8) for _ in shapes
    ]
    return [(ConceptF1(), datapoints), (CalibrationError(5), samples), (HOTA(), sequences)]


def compute(share: slice) -> list[dict[str, torch.Tensor]]:
    found = []
    for metric, updates in inputs():
        for update in updates[share]:
            metric.update(*update)
        found.append(metric.compute())
    return found


def _rank(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(compute(RANKS[rank]), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    multiprocessing.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    together = compute(slice(None))
    for rank in range(2):
        for mine, expected in zip(torch.load(tmp_path / f"{rank}.pt"), together, strict=True):
            assert mine.keys() == expected.keys()
            for name, value in mine.items():
                assert torch.allclose(value.double(), expected[name].double(), equal_nan=True), name
    # A mean of the ranks' own values is another number, so the test can fail.
    first, second = (compute(share) for share in RANKS)
    for mine, theirs, expected, name in zip(first, second, together, ("cgf1", "error", "HOTA"), strict=True):
        assert float((mine[name] + theirs[name]) / 2) != pytest.approx(float(expected[name]), rel=1e-3)
