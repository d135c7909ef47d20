"""Models whose answers are written down, for the prompt loop."""

from __future__ import annotations

import torch
from fake_segmenter import make_contract
from torch import Tensor, nn

from phd.contract import ImageFeatures, Masks, Prompts
from phd.segmenter import Segmenter
from phd.stages.prompt_loop import MaskWeights, Rounds, Side, Supervision, run_rounds

GRID, SIDE = 8, 32  # one cell covers four pixels
COUNT = 3
ALL_WEIGHTS = MaskWeights(focal=20.0, cross_entropy=1.0, dice=1.0, iou=1.0)
INDEX = torch.tensor([1, 0, 1])
BOXES = Prompts(INDEX, boxes=torch.tensor([[4.0, 4.0, 20.0, 12.0]]).repeat(COUNT, 1))
POINTS = Prompts(INDEX, points=torch.tensor([[[9.5, 5.5]]]).repeat(COUNT, 1, 1), labels=torch.ones(COUNT, 1).long())
EVERYWHERE = torch.ones(COUNT, GRID, GRID, dtype=torch.bool)


class Scripted(Segmenter):
    """Gives its answers in order, the last one again and again; keeps what it was asked."""

    def __init__(self, *answers: Tensor, scores: Tensor | None = None) -> None:
        super().__init__()
        self.contract = make_contract(SIDE, GRID)
        self.answers = nn.ParameterList(nn.Parameter(answer.clone()) for answer in answers)
        self.scores = nn.Parameter(torch.full((COUNT, answers[0].shape[1]), 0.5) if scores is None else scores)
        self.asked: list[Prompts] = []
        self.graph: list[bool] = []

    def segment(self, features: ImageFeatures, prompts: Prompts, multimask: bool | None = None) -> Masks:
        number = min(len(self.asked), len(self.answers) - 1)
        self.asked.append(prompts)
        self.graph.append(torch.is_grad_enabled())
        return Masks(1 * self.answers[number], 1 * self.scores)


def side(model: Segmenter) -> Side:
    return Side(model, ImageFeatures({"tracker": (torch.zeros(2, 1, 1, 1),)}))


def logits(seed: int, candidates: int = 1) -> Tensor:
    return 3 * torch.randn(COUNT, candidates, GRID, GRID, generator=torch.Generator().manual_seed(seed))


def half(rows: slice, columns: slice, inside: float = 5.0) -> Tensor:
    """Logits (COUNT, 1, GRID, GRID): `inside` in the region, -5 elsewhere."""
    found = torch.full((COUNT, 1, GRID, GRID), -5.0)
    found[:, :, rows, columns] = inside
    return found


NOTHING = half(slice(0), slice(0))
UPPER, LEFT = half(slice(4), slice(None)), half(slice(None), slice(4))
TARGET = (logits(9)[:, 0] > 0).float()


def run(
    student: Segmenter,
    teacher: Segmenter | None,
    prompts: Prompts = BOXES,
    *,
    target: Tensor = TARGET,
    valid: Tensor = EVERYWHERE,
    supervision: Supervision = "teacher",
    weights: MaskWeights = ALL_WEIGHTS,
    rounds: int = 0,
    seed: int = 0,
) -> Rounds:
    return run_rounds(
        side(student),
        None if teacher is None else side(teacher),
        prompts,
        target,
        valid=valid,
        supervision=supervision,
        weights=weights,
        rounds=rounds,
        generator=torch.Generator().manual_seed(seed),
    )


def some(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def added_cells(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Rows and columns of the grid under the last point of each prompt."""
    x, y = ((some(prompts.points)[:, -1] + 0.5) * GRID / SIDE).unbind(-1)
    return y.floor().long(), x.floor().long()
