"""Segmenters whose answers are known by hand; their features are the normalised image itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phd.contract import Contract, ImageFeatures, Level, Masks, Prompts
from phd.segmenter import Segmenter

# From the canvas (3, S, S) and the prompt's number to logits (m, m).
Answer = Callable[[Tensor, Prompts, int], Tensor]
LOGIT = 10.0


def make_contract(image_size: int = 32, mask_size: int = 32, resize: str = "squash") -> Contract:
    level = (Level(3, image_size),)
    return Contract("sam2", image_size, resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), level, (), level, mask_size)  # type: ignore[arg-type]


class FakeSegmenter(Segmenter):
    """Answers each prompt by a function; keeps the prompts it was asked.

    With `decoys`, a request for several masks gets two wrong candidates with lower scores around the right one.
    """

    def __init__(self, contract: Contract, answer: Answer, decoys: bool = False) -> None:
        super().__init__()
        self.contract, self.answer, self.decoys = contract, answer, decoys
        self.name = "fake"
        self.asked: list[tuple[Prompts, bool | None]] = []
        self.encoded = 0

    def encode(self, images, branches=None):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.encoded += 1
        return ImageFeatures({"tracker": (images,)})

    def segment(self, features, prompts, multimask=None):
        assert len(prompts.image_index) == len(prompts)
        self.asked.append((prompts, multimask))
        image = features.tracker[0][0]
        logits = torch.stack([self.answer(image, prompts, number) for number in range(len(prompts))])
        if not (self.decoys and multimask):
            return Masks(logits.unsqueeze(1), torch.full((len(prompts), 1), 0.9))
        candidates = torch.stack([-logits, logits, torch.full_like(logits, LOGIT)], dim=1)
        return Masks(candidates, torch.tensor([[0.2, 0.9, 0.5]]).repeat(len(prompts), 1))


def cell_centres(contract: Contract) -> tuple[Tensor, Tensor]:
    """Columns x (1, m) and rows y (m, 1) of the cell centres, in continuous canvas coordinates."""
    centres = (torch.arange(contract.mask_size) + 0.5) * (contract.image_size / contract.mask_size)
    return centres[None, :], centres[:, None]


def as_logits(mask: Tensor) -> Tensor:
    return torch.where(mask, LOGIT, -LOGIT)


def fill_box(contract: Contract) -> Answer:
    """The mask is the box."""

    def answer(image: Tensor, prompts: Prompts, number: int) -> Tensor:
        if prompts.boxes is None:
            return as_logits(torch.zeros(contract.mask_size, contract.mask_size, dtype=torch.bool))
        x0, y0, x1, y1 = prompts.boxes[number]
        x, y = cell_centres(contract)
        return as_logits((x >= x0) & (x < x1) & (y >= y0) & (y < y1))

    return answer


def mark_point(contract: Contract) -> Answer:
    """The mask is the one cell under each positive point."""

    def answer(image: Tensor, prompts: Prompts, number: int) -> Tensor:
        mask = torch.zeros(contract.mask_size, contract.mask_size, dtype=torch.bool)
        if prompts.points is not None and prompts.labels is not None:
            cells = ((prompts.points[number] + 0.5) * contract.mask_size / contract.image_size).floor().long()
            for (column, row), label in zip(cells.tolist(), prompts.labels[number].tolist(), strict=True):
                mask[row, column] |= label == 1
        return as_logits(mask)

    return answer


def same_colour(contract: Contract, greedy: bool = False) -> Answer:
    """All cells with the colour of a positive point, without those with the colour of a negative one.

    Only where canvas and mask grid have the same size. With `greedy`, one point takes all that is not black.
    """
    assert contract.image_size == contract.mask_size

    def answer(image: Tensor, prompts: Prompts, number: int) -> Tensor:
        taken = torch.zeros(image.shape[1:], dtype=torch.bool)
        if prompts.points is None or prompts.labels is None:
            return as_logits(taken)
        for (x, y), label in zip(prompts.points[number].round().long(), prompts.labels[number], strict=True):
            same = (image == image[:, y, x][:, None, None]).all(dim=0)
            if greedy and label == 1:
                same = image.sum(dim=0) > 0
            taken = taken | same if label == 1 else taken & ~same
        return as_logits(taken)

    return answer
