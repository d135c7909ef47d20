"""Two gloo processes: gradients are those of one process with the joint batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from phd.batches import ImageBatch
from phd.stages import EncoderDistill, Phase, PromptMix
from phd.stages.encoder_distill import Losses
from phd.stages.joint import joint_shares

BOXES = PromptMix(box=1.0, point=0.0, mask=0.0, box_jitter=0.0)  # draws nothing, so that both sides ask the same
FEATURES = {"feature_mse": 1.0, "feature_relative_mse": 1.0, "feature_cosine": 1.0}
MASKS = {"focal": 20.0, "dice": 1.0, "iou": 0.5}
# Instances of four images; the first two are the first process's.
SHARES = {"uneven": (3, 1, 1, 0), "none on one": (2, 1, 0, 0), "none at all": (0, 0, 0, 0)}


class Loss(nn.Module):
    """What DDP wraps: the loss of a step."""

    def __init__(self, stage: EncoderDistill) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, batch: ImageBatch) -> Tensor:
        return self.stage.step(batch, train=True).loss


def make(teacher: Path, phase: Phase, **settings: Any) -> EncoderDistill:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stage = EncoderDistill(
            teacher=str(teacher), pretrained=False, losses=Losses([phase]), prompts=BOXES, **settings
        )
    loop = SimpleNamespace(total_batch_idx=-1)
    stage.trainer = SimpleNamespace(global_step=0, estimated_stepping_batches=1, global_rank=0, fit_loop=loop)
    return stage.eval()  # batch norms with the batch's statistics are one process's own


def images(instances: tuple[int, ...], stage: EncoderDistill) -> ImageBatch:
    """Noise with squares; every image is filled to another height, and darker than the one before."""
    side, cells = stage.contract.image_size, stage.contract.mask_size
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (len(instances), 3, side, side), generator=generator)
    pixels = (pixels // torch.arange(1, len(instances) + 1).view(-1, 1, 1, 1)).to(torch.uint8)
    masks = torch.zeros(len(instances), 3, cells, cells, dtype=torch.uint8)
    for image, count in enumerate(instances):
        for place in range(count):
            masks[image, place, 1 + place : 4 + 2 * place, 2 : 6 + 2 * image] = 1
    content = torch.tensor([[side * (4 - image) // 4, side] for image in range(len(instances))])
    return ImageBatch(pixels, content, masks, masks.flatten(2).any(2), [str(i) for i in range(len(instances))])


def half(batch: ImageBatch, rank: int) -> ImageBatch:
    part = slice(2 * rank, 2 * rank + 2)
    return ImageBatch(batch.images[part], batch.content[part], batch.masks[part], batch.valid[part], batch.keys[part])


def gradients(stage: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in stage.named_parameters()}


def one_rank(rank: int, work: Any, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(work(rank), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def in_two_processes(work: Any, folder: Path) -> list[Any]:
    """What `work(rank)` returns; forked, so that nothing is imported again."""
    multiprocessing.start_processes(one_rank, args=(work, str(folder)), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_equal_gradients(mine: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> None:
    assert {name for name, value in mine.items() if value is None} == {n for n, v in theirs.items() if v is None}
    for name, value in theirs.items():
        if value is not None:
            assert torch.allclose(mine[name], value, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize(
    ("instances", "weights", "settings"),
    [
        ("uneven", FEATURES | MASKS, {"train_heads": True}),
        ("none on one", FEATURES | MASKS, {}),
        pytest.param("none on one", MASKS, {"train_heads": True, "branches": ["tracker"]}, marks=pytest.mark.slow),
        pytest.param("none at all", FEATURES | MASKS, {"train_heads": True}, marks=pytest.mark.slow),
        pytest.param("uneven", FEATURES, {"train_heads": True}, marks=pytest.mark.slow),
        pytest.param("uneven", MASKS, {"branches": ["tracker"]}, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_joint_batch(
    instances: str, weights: dict[str, float], settings: dict[str, Any], tmp_path: Path, toy_folder: Path
) -> None:
    stage = make(toy_folder, Phase(**weights), **settings)
    batch = images(SHARES[instances], stage)

    def work(rank: int) -> dict[str, Tensor | None]:
        wrapped = DistributedDataParallel(Loss(stage), find_unused_parameters=True)
        for _ in range(2):  # a gradient that DDP waits for in vain is missed in the next step
            stage.zero_grad(set_to_none=True)
            wrapped(half(batch, rank)).backward()
        return gradients(stage)

    first, second = in_two_processes(work, tmp_path)
    Loss(stage)(batch).backward()
    joint = gradients(stage)
    assert_equal_gradients(first, joint)
    assert all(value is None or torch.equal(value, second[name]) for name, value in first.items())
    if instances == "uneven":  # or the test could not fail
        stage.zero_grad(set_to_none=True)
        for rank in range(2):
            (Loss(stage)(half(batch, rank)) / 2).backward()
        name = next(name for name, value in joint.items() if value is not None)
        assert not torch.allclose(gradients(stage)[name], joint[name], rtol=1e-2)


def test_shares_by_hand(tmp_path: Path) -> None:
    counts = [torch.tensor([6.0, 1.0, 0.0]), torch.tensor([2.0, 0.0, 0.0])]
    first, second = in_two_processes(lambda rank: joint_shares(counts[rank]), tmp_path)
    assert first.tolist() == [1.5, 2, 0]
    assert second.tolist() == [0.5, 0, 0]
    assert joint_shares(counts[0]).tolist() == [1, 1, 1]
