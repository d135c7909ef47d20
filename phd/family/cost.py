"""What a model costs: parameters, multiply-accumulates and CPU time of one image and one box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from phd.bench.timing import by_turns, one_core
from phd.contract import Masks, Prompts
from phd.segmenter import Segmenter
from phd.student import Student
from phd.student.account import count_parameters, gmacs

ROUNDS = 15


def family_costs(models: dict[str, Segmenter], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Cost of one image, encoded for all that the model can do, and the answer to one box.

    Students are folded first, as they are for inference. The weights do not matter.

    Args:
        models: By name; their gradients are switched off.
        rounds: How often each is timed; the models take turns on one core.

    Returns:
        By name: `parameters` as saved, text encoder included; `gmacs`, counted; `cpu_ms`, the median CPU time of one
        core; `image_size` in pixels.
    """
    calls: dict[str, Callable[[int], Masks]] = {}
    found: dict[str, dict[str, float]] = {}
    for name, model in models.items():
        parameters = count_parameters(model)
        folded = model.fold() if isinstance(model, Student) else model
        # The counter looks for gradients of whatever still asks for them, `no_grad` or not.
        calls[name] = one_box(folded.eval().requires_grad_(False))
        found[name] = {"parameters": parameters, "image_size": model.contract.image_size}
        found[name]["gmacs"] = gmacs(lambda: calls[name](0))[1]  # noqa: B023 - called at once
    with torch.inference_mode(), one_core():
        times = by_turns(dict[str, Any](calls), 1, rounds)
    return {name: {**cost, "cpu_ms": times[name].median_cpu} for name, cost in found.items()}


def one_box(model: Segmenter) -> Callable[[int], Masks]:
    """The work that is counted and timed: a batch of one image of noise, and a box around its middle."""
    side = model.contract.image_size
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * side
    prompts = Prompts(torch.zeros(1, dtype=torch.long), boxes=box)
    return lambda item: model.segment(model.encode(image), prompts, multimask=False)
