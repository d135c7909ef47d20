"""How far the image features of stage 3 are from the teacher's, which keeps points and video where they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phd.contract import Branch, Contract, ImageFeatures
from phd.losses.feature import feature_mse, relative_feature_mse
from phd.stages.concept_losses import ConceptLosses
from phd.stages.joint import feature_shares

FEATURE_TERMS = {"feature_mse": feature_mse, "feature_relative_mse": relative_feature_mse}


def feature_weight(losses: ConceptLosses) -> float:
    """The largest weight of a term of the features."""
    return max(getattr(losses, name) for name in FEATURE_TERMS)


def feature_terms(
    mine: ImageFeatures,
    theirs: ImageFeatures,
    branches: Sequence[Branch],
    content: Tensor,
    contract: Contract,
    losses: ConceptLosses,
) -> dict[str, Tensor]:
    """The distances that have a weight, means over the levels of all branches and the joint batch of all processes.

    Args:
        mine: Of the trained model.
        theirs: Of the teacher.
        branches: Whose levels are compared.
        content: (B, 2) filled part of the canvas in contract pixels.
        contract: Of both.
        losses: The weights.
    """
    pairs = [pair for name in branches for pair in zip(mine.branches[name], theirs.branches[name], strict=True)]
    valid = [contract.content_mask(content, ours.shape[-1]) for ours, _ in pairs]
    shares = feature_shares([(reference, cells) for (_, reference), cells in zip(pairs, valid, strict=True)])
    terms: dict[str, Tensor] = {}
    for place, (name, distance) in enumerate(FEATURE_TERMS.items()):
        if getattr(losses, name) > 0:
            levels = zip(pairs, valid, shares[:, place], strict=True)
            terms[name] = torch.stack([share * distance(*pair, cells) for pair, cells, share in levels]).mean()
    return terms
