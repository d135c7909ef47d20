"""Small teachers of every family, with prompts of every kind."""

from __future__ import annotations

import functools

import torch
from tiny import tiny_sam, tiny_sam2
from torch import Tensor

from phd.contract import Prompts
from phd.teachers import Teacher, new_toy

MAKERS = {"sam": tiny_sam, "sam2": tiny_sam2, "sam3": new_toy}
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)


def stirred(teacher: Teacher) -> Teacher:
    """The teacher with no parameter left at its constant start, where a missing or a swapped one would not show."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in teacher.parameters():
            if parameter.numel() == 1 or parameter.std() == 0:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return teacher.eval()


def pixels(count: int = 1, side: int = 128, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def prompt_kinds(mask_size: int) -> dict[str, Prompts]:
    """One prompt of each kind, x and y apart."""
    one = torch.tensor([0])
    box = torch.tensor([[10.0, 31.0, 97.0, 64.0]])
    point, label = torch.tensor([[[40.5, 71.0]]]), torch.tensor([[1]])
    more = torch.tensor([[[40.5, 71.0], [90.0, 12.5], [3.0, 100.0], [64.0, 64.0]]]), torch.tensor([[1, 0, 1, -1]])
    mask = 4 * torch.randn(1, 1, mask_size, mask_size, generator=torch.Generator().manual_seed(3))
    return {
        "box": Prompts(one, boxes=box),
        "point": Prompts(one, points=point, labels=label),
        "points": Prompts(one, points=more[0], labels=more[1]),
        "mask": Prompts(one, masks=mask),
        "box and points": Prompts(one, boxes=box, points=more[0], labels=more[1]),
        "box, points and mask": Prompts(one, boxes=box, points=more[0], labels=more[1], masks=mask),
        "point and mask": Prompts(one, points=point, labels=label, masks=mask),
    }
