"""Sum states add up over processes; one spawn for all metrics, since importing takes most of the time."""

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torchmetrics import Metric

from phd.metrics import FeatureMSE, MaskIoU

Inputs = tuple[Tensor, ...]
RANKS = (slice(0, 1), slice(1, None))


def _cases() -> list[tuple[Metric, Inputs]]:
    """Each metric with the inputs of all ranks together; the ranks' shares differ in size."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 5, 4, 4, generator=generator) - 0.5
    student, teacher = torch.randn(2, 3, 4, 5, 6, generator=generator)
    mask = torch.rand(3, 5, 6, generator=generator) < torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1)
    return [(MaskIoU(), (prediction, target)), (FeatureMSE(), (student, teacher, mask))]


def _compute(share: slice) -> list[float]:
    values = []
    for metric, inputs in _cases():
        metric.update(*(tensor[share] for tensor in inputs))
        values.append(float(metric.compute()))
    return values


def _rank(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(_compute(RANKS[rank]), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    multiprocessing.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    together = _compute(slice(None))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(together)
    # A mean of the ranks' own values is another number, so the test can fail.
    alone = [_compute(share) for share in RANKS]
    for first, second, value in zip(*alone, together, strict=True):
        assert (first + second) / 2 != pytest.approx(value, rel=1e-3)
