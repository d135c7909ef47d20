"""From trunk maps to the heads' levels."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_sam, tiny_sam2
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam3ImageProcessor, Sam3VideoConfig

from phd.contract import Contract, Level
from phd.student import PAPER_TRUNKS, build_trunk, inherit
from phd.student.neck import ConvNorm, InheritedNeck, LightNeck, double_to, nearest, new_neck
from phd.teachers import Teacher, new_toy
from phd.teachers.sam3 import sam3_contract

CHANNELS = (16, 32, 64, 128)


def trunk_maps(image_size: int, batch: int = 2) -> list[torch.Tensor]:
    sizes = [-(-image_size // stride) for stride in (4, 8, 16, 32)]
    return [torch.randn(batch, channels, size, size) for channels, size in zip(CHANNELS, sizes, strict=True)]


@pytest.fixture(scope="module")
def toy_contract() -> Contract:
    return new_toy().contract


@pytest.mark.parametrize("name", PAPER_TRUNKS)
def test_every_trunk_learns_through_the_neck(name: str, toy_contract: Contract) -> None:
    trunk = build_trunk(name, pretrained=False)
    neck = LightNeck(trunk.channels, toy_contract.branches, toy_contract.image_size)
    branches = neck(trunk(torch.randn(1, 3, 128, 128)))
    shapes = [(1, 128, 64, 64), (1, 128, 32, 32), (1, 128, 16, 16)]
    assert {branch: [tuple(x.shape) for x in levels] for branch, levels in branches.items()} == {
        "tracker": shapes,
        "detector": shapes,
    }
    levels = [x for levels in branches.values() for x in levels]
    assert all(x.isfinite().all() for x in levels)
    sum(x.square().mean() for x in levels).backward()
    first = next(trunk.parameters()).grad
    assert first is not None
    assert first.abs().sum() > 0
    # A parameter without gradient would stop distributed training.
    assert [name for name, p in neck.named_parameters() if p.grad is None] == []


def test_one_branch_is_the_same_as_both(toy_contract: Contract) -> None:
    neck = LightNeck(CHANNELS, toy_contract.branches, 128).eval()
    maps = trunk_maps(128)
    both, one = neck(maps), neck(maps, ["tracker"])
    assert list(one) == ["tracker"]
    assert all(torch.equal(a, b) for a, b in zip(one["tracker"], both["tracker"], strict=True))


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2, new_toy])
@pytest.mark.parametrize("kind", ["light", "teacher"])
def test_levels_of_each_family(make: type[Teacher], kind: str) -> None:
    teacher = make()
    contract = teacher.contract
    neck = new_neck(kind, CHANNELS, contract, teacher.config)  # type: ignore[arg-type]
    branches = neck(trunk_maps(contract.image_size, batch=1))
    for branch, levels in contract.branches.items():
        assert [tuple(x.shape) for x in branches[branch]] == [(1, lv.channels, lv.size, lv.size) for lv in levels]
    sum(x.square().mean() for levels in branches.values() for x in levels).backward()
    own = neck.adapter if isinstance(neck, InheritedNeck) else neck
    assert [name for name, p in own.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2, new_toy])
def test_inherited_neck_is_the_teachers(make: type[Teacher]) -> None:
    teacher = make().eval()
    neck = InheritedNeck(CHANNELS, teacher.contract, teacher.config).eval()
    account = inherit(neck.teacher, teacher.neck)
    assert (account.new, account.missing) == ([], [])
    with torch.no_grad():
        maps = teacher.trunk(torch.randn(1, 3, 128, 128))
        mine, theirs = neck.teacher(maps), teacher.neck(maps)
    for branch, levels in theirs.items():
        assert all(torch.equal(a, b) for a, b in zip(mine[branch], levels, strict=True))


# The widest trunk of each family.
@pytest.mark.parametrize("channels", [(80, 160, 320, 640), (96, 192, 384, 576), (48, 96, 192, 384)])
def test_costs_at_most_15_gmacs_at_full_size(channels: tuple[int, ...]) -> None:
    contract = sam3_contract(Sam3VideoConfig(), Sam3ImageProcessor())
    with torch.device("meta"):
        neck = LightNeck(channels, contract.branches, contract.image_size).eval()
        maps = [torch.empty(1, c, size, size) for c, size in zip(channels, (252, 126, 63, 32), strict=True)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        branches = neck(maps)
    assert [x.shape[-1] for x in branches["detector"]] == [288, 144, 72]
    assert 5e9 < counter.get_total_flops() / 2 <= 15e9


def test_nearest_grid() -> None:
    at_1008 = [252.0, 126.0, 63.0, 31.5]
    assert [nearest(at_1008, size) for size in (288, 144, 72, 36)] == [0, 1, 2, 3]
    at_128 = [32.0, 16.0, 8.0, 4.0]
    assert [nearest(at_128, size) for size in (64, 32, 16)] == [0, 0, 1]


def test_finer_than_the_trunk_takes_detail_from_channels() -> None:
    neck = LightNeck(CHANNELS, {"tracker": (Level(8, 64),)}, 128).eval()
    (level,) = neck(trunk_maps(128, batch=1))["tracker"]
    # Neighbours that bilinear interpolation would place between the same cells differ freely.
    interpolated = torch.nn.functional.avg_pool2d(level, 2)
    assert (level - torch.nn.functional.interpolate(interpolated, scale_factor=2)).abs().max() > 1e-3
    assert any(name.startswith("branches.tracker.0.unfold") for name, _ in neck.named_parameters())


def test_doubling_keeps_objects_in_place() -> None:
    coarse = torch.zeros(1, 1, 32, 32)
    coarse[..., 10, 28] = 1.0
    doubled = double_to(coarse, torch.Size([63, 63]))[0, 0]
    rows, columns = doubled.sum(1), doubled.sum(0)
    grid = torch.arange(63)
    # Cell i covers cells 2i and 2i + 1, so its centre lies at 2i + 0.5, at the right border as on the left.
    assert (rows * grid).sum() / rows.sum() == pytest.approx(20.5)
    assert (columns * grid).sum() / columns.sum() == pytest.approx(56.5)


def test_doubling_repeats_the_border_of_a_floored_map() -> None:
    coarse = torch.arange(4.0).view(1, 1, 2, 2)
    doubled = double_to(coarse, torch.Size([5, 4]))[0, 0]
    assert doubled.shape == (5, 4)
    assert torch.equal(doubled[4], doubled[3])


def test_conv_norm_folds() -> None:
    layer = ConvNorm(4, 6, 3, stride=2).train()
    for _ in range(3):
        layer(torch.randn(8, 4, 9, 9) * 3 + 1)
    layer.eval()
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(layer.fuse()(x), layer(x), atol=1e-5, rtol=1e-5)
