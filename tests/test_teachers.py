"""Every family behind the one interface: contract, shapes, modes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from teacher_cases import assert_close, pixels, prompt_kinds
from torch import nn

from phd.contract import ImageFeatures, Level, Prompts
from phd.preprocess import to_canvas
from phd.teachers import FrozenTeacher, Teacher, new_toy

pytestmark = pytest.mark.usefixtures("no_grad")


# The contract


def test_the_contract_is_the_processors(any_teacher: Teacher) -> None:
    contract, processor = any_teacher.contract, any_teacher.processor
    assert contract.mean == tuple(processor.image_mean)
    assert contract.std == tuple(processor.image_std)
    if contract.family == "sam":
        assert contract.resize == "pad"
        assert processor.do_pad
        assert contract.image_size == processor.size["longest_edge"] == processor.pad_size["height"]
        assert contract.mask_size == processor.mask_size["longest_edge"]
    else:
        assert contract.resize == "squash"
        assert not processor.do_pad
        assert contract.image_size == processor.size["height"] == processor.size["width"]
        assert contract.mask_size == processor.mask_size["height"]
    # The families differ here: ImageNet's statistics, and plain 0.5 for SAM 3.
    assert (contract.mean == (0.5, 0.5, 0.5)) == (contract.family == "sam3")


def test_the_contract_by_hand(any_teacher: Teacher) -> None:
    levels = {
        "sam": (Level(32, 8),),
        "sam2": (Level(32, 32), Level(32, 16), Level(32, 8)),
        "sam3": (Level(128, 64), Level(128, 32), Level(128, 16)),
    }[any_teacher.contract.family]
    trunk = {
        "sam": (Level(32, 8),),
        "sam2": (Level(16, 32), Level(32, 16), Level(48, 8), Level(64, 4)),
        "sam3": (Level(128, 16),),
    }[any_teacher.contract.family]
    assert any_teacher.contract.image_size == 128
    assert any_teacher.contract.tracker == levels
    assert any_teacher.contract.detector == (levels if any_teacher.contract.family == "sam3" else ())
    assert any_teacher.contract.trunk == trunk


def test_what_comes_out_has_the_contracts_shapes(any_teacher: Teacher) -> None:
    contract = any_teacher.contract
    trunk = any_teacher.trunk(pixels(2))
    assert [tuple(x.shape) for x in trunk] == [(2, lv.channels, lv.size, lv.size) for lv in contract.trunk]
    features = any_teacher.encode(pixels(2))
    assert list(features.branches) == list(contract.branches)
    for branch, levels in contract.branches.items():
        found = [tuple(x.shape) for x in features.branches[branch]]
        assert found == [(2, lv.channels, lv.size, lv.size) for lv in levels]
    found = any_teacher.segment(features, prompt_kinds(contract.mask_size)["point"])
    assert found.logits.shape == (1, 3, contract.mask_size, contract.mask_size)


@pytest.mark.parametrize("shape", [(37, 53), (211, 160), (128, 128)])
def test_images_are_prepared_as_the_processor_does(any_teacher: Teacher, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = any_teacher.processor(images=image, return_tensors="pt")["pixel_values"]
    canvas, content = to_canvas(image, any_teacher.contract)
    found = any_teacher.contract.normalise(canvas.unsqueeze(0), torch.tensor([content]))
    # One grey level: where the processor resizes after scaling to [0, 1], ours rounds to uint8 before.
    assert (found - expected).abs().max() <= 1.01 / 255 / min(any_teacher.contract.std)


# The answers


def test_only_a_lone_point_gets_candidates(any_teacher: Teacher) -> None:
    features, kinds = any_teacher.encode(pixels()), prompt_kinds(any_teacher.contract.mask_size)
    counts = {kind: any_teacher.segment(features, prompts).logits.shape[1] for kind, prompts in kinds.items()}
    assert counts == {kind: 3 if kind == "point" else 1 for kind in kinds}


def test_prompts_may_spread_unevenly(any_teacher: Teacher) -> None:
    features = any_teacher.encode(pixels(3))
    index, boxes = torch.tensor([2, 0, 2, 2, 1]), 64 * torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    boxes[:, 2:] += 64
    together = any_teacher.segment(features, Prompts(index, boxes=boxes))
    for number, image in enumerate(index.tolist()):
        alone = ImageFeatures({"tracker": tuple(level[image : image + 1] for level in features.tracker)})
        one = any_teacher.segment(alone, Prompts(torch.tensor([0]), boxes=boxes[number : number + 1]))
        assert_close(together.logits[number], one.logits[0])
        assert_close(together.scores[number], one.scores[0])
    # The same box on two images is not the same question.
    twice = any_teacher.segment(features, Prompts(torch.tensor([0, 1]), boxes=boxes[:1].expand(2, -1)))
    assert (twice.logits[0] - twice.logits[1]).abs().max() > 0.01


def test_images_of_a_batch_do_not_mix(any_teacher: Teacher) -> None:
    both = any_teacher.encode(pixels(2))
    for image in range(2):
        alone = any_teacher.encode(pixels(2)[image : image + 1])
        for branch, levels in both.branches.items():
            for level, expected in zip(levels, alone.branches[branch], strict=True):
                assert_close(level[image : image + 1], expected)


def test_one_branch_can_be_asked_for() -> None:
    teacher = new_toy().eval()
    both, one = teacher.encode(pixels()), teacher.encode(pixels(), ["tracker"])
    assert list(one.branches) == ["tracker"]
    assert all(torch.equal(a, b) for a, b in zip(one.tracker, both.tracker, strict=True))
    # Two necks with weights of their own.
    assert not torch.equal(both.tracker[0], both.branches["detector"][0])


def test_a_label_of_minus_one_is_only_a_place(any_teacher: Teacher) -> None:
    """Where the point lies does not matter, so a round without an error can carry one."""
    features = any_teacher.encode(pixels())
    one, labels = torch.tensor([0]), torch.tensor([[1, -1]])
    near, far = (torch.tensor([[[40.0, 70.0], place]]) for place in ([0.0, 0.0], [100.0, 20.0]))
    first, second = (any_teacher.segment(features, Prompts(one, points=p, labels=labels)) for p in (near, far))
    assert_close(first.logits, second.logits)


def test_logits_that_are_fed_back_are_limited(any_teacher: Teacher) -> None:
    features, kinds = any_teacher.encode(pixels()), prompt_kinds(any_teacher.contract.mask_size)
    mask = kinds["point and mask"].masks
    assert mask is not None
    loud, limit, soft = (replace(kinds["point and mask"], masks=m) for m in (1e4 * mask.sign(), 32 * mask.sign(), mask))
    answers = [any_teacher.segment(features, prompts).logits for prompts in (loud, limit, soft)]
    assert_close(answers[0], answers[1])
    assert (answers[0] - answers[2]).abs().max() > 0.01


def test_gradients_reach_every_level_and_the_pixels(any_teacher: Teacher) -> None:
    images = pixels().requires_grad_()
    with torch.enable_grad():
        features = any_teacher.encode(images, ["tracker"])
        for level in features.tracker:
            level.retain_grad()
        any_teacher.segment(
            features, prompt_kinds(any_teacher.contract.mask_size)["box"]
        ).logits.square().mean().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in features.tracker)
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    any_teacher.zero_grad(set_to_none=True)


# Frozen


class Holder(nn.Module):
    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.learner, self.teacher = nn.Linear(1, 1), teacher


def test_a_frozen_teacher_is_out_of_reach(any_teacher: Teacher) -> None:
    module = Holder(FrozenTeacher(copy.deepcopy(any_teacher).train()))
    frozen = module.teacher.model
    parts = [*frozen.modules(), *frozen.trunk.modules(), *frozen.neck.modules(), *frozen.heads.modules()]
    assert list(module.state_dict()) == ["learner.weight", "learner.bias"]
    assert len(list(module.parameters())) == 2
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    module.train()
    assert module.learner.training
    assert not any(part.training for part in parts)
    assert copy.deepcopy(module).teacher is module.teacher
    with torch.enable_grad():
        features = frozen.encode(pixels())
        answer = frozen.segment(features, prompt_kinds(any_teacher.contract.mask_size)["box"])
    assert not answer.logits.requires_grad


def test_modes_reach_the_views(any_teacher: Teacher) -> None:
    other = copy.deepcopy(any_teacher)
    for mode in (True, False):
        other.train(mode)
        views = (other.trunk, other.neck, other.heads)
        assert {part.training for view in views for part in view.modules()} == {mode}
    assert not any_teacher.training


def test_no_parameter_is_counted_twice(any_teacher: Teacher) -> None:
    assert {name.split(".")[0] for name, _ in any_teacher.named_parameters()} == {"model"}
    own = {id(parameter) for parameter in any_teacher.parameters()}
    for view in (any_teacher.trunk, any_teacher.neck, any_teacher.heads):
        assert {id(parameter) for parameter in view.parameters()} <= own
