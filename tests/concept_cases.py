"""Small detections with targets, for tests of what a detector is taught."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from phd.contract import Detections, QueryMasks
from phd.outputs import PhraseTargets
from phd.stages.concept_losses import ConceptLosses, ConceptNormalisers, concept_counts
from phd.stages.concept_terms import concept_loss, concept_terms

QUERIES, GRID = 6, 8


def detections(seed: int = 0, pairs: int = 4, layers: int = 2, branch: bool = True, grad: bool = False) -> Detections:
    """Random answers of a last layer, of earlier ones, and of a one-to-many branch."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).requires_grad_(grad)

    def layer(presence: bool) -> Detections:
        boxes = (torch.rand(pairs, QUERIES, 4, generator=generator) * 0.4 + 0.2).requires_grad_(grad)
        return Detections(draw(pairs, QUERIES), boxes, draw(pairs) if presence else None)

    def side(presence: bool) -> Detections:
        found = layer(presence)
        found.masks = draw(pairs, QUERIES, GRID, GRID, scale=3.0)
        found.auxiliary = [layer(presence) for _ in range(layers)]
        return found

    found = side(True)
    found.semantic = draw(pairs, 1, GRID, GRID)
    found.one_to_many = side(False) if branch else None
    return found


def targets(counts: list[int], exhaustive: list[bool] | None = None, seed: int = 1) -> PhraseTargets:
    """Random instances, each a rectangle of the grid and its box."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, GRID // 2, (sum(counts), 2), generator=generator)
    high = low + torch.randint(2, GRID // 2 + 1, (sum(counts), 2), generator=generator)
    cells = torch.arange(GRID)
    inside = (cells >= low[..., None]) & (cells < high[..., None])
    return PhraseTargets(
        counts=torch.tensor(counts, dtype=torch.long),
        exhaustive=torch.tensor([True] * len(counts) if exhaustive is None else exhaustive, dtype=torch.bool),
        boxes=torch.cat([(low + high) / 2, high - low], dim=1) / GRID,
        masks=(inside[:, 1, :, None] & inside[:, 0, None, :]).to(torch.uint8),
    )


def parameters(found: Detections) -> dict[str, Tensor]:
    """All tensors of an answer by name, its layers and its branch included."""
    named = {name: getattr(found, name) for name in ("logits", "boxes", "presence", "masks", "semantic")}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    for index, layer in enumerate(found.auxiliary):
        tensors |= {f"auxiliary.{index}.{name}": value for name, value in parameters(layer).items()}
    if found.one_to_many is not None:
        tensors |= {f"one_to_many.{name}": value for name, value in parameters(found.one_to_many).items()}
    return tensors


def normalisers(truth: PhraseTargets, teacher: Detections | None = None) -> ConceptNormalisers:
    """Those of a single process."""
    counts = concept_counts(truth, teacher)
    return ConceptNormalisers.of(counts, torch.ones_like(counts))


def terms_of(
    found: Detections, truth: PhraseTargets, teacher: Detections | None = None, /, **weights: Any
) -> tuple[dict[str, Tensor], Tensor]:
    """The terms and their weighted sum."""
    losses, divisors = ConceptLosses(**weights), normalisers(truth, teacher)
    terms = concept_terms(found, truth, losses, divisors, teacher)
    return terms, concept_loss(terms, losses, divisors)


def factors(pairs: int, seed: int = 3) -> QueryMasks:
    """Masks as a product."""
    generator = torch.Generator().manual_seed(seed)
    return QueryMasks(
        torch.randn(pairs, QUERIES, 5, generator=generator).requires_grad_(True),
        torch.randn(pairs, 5, GRID, GRID, generator=generator).requires_grad_(True),
    )
