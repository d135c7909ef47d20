"""The cases of the oracle of concept losses, as the project's own types."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phd.contract import Detections
from phd.losses.matching import Matches
from phd.outputs import PhraseTargets

SHARED = Path(os.environ.get("PHD_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FOLDER = SHARED / "oracles" / "pcs_loss"
ABSENT = pytest.mark.skipif(not FOLDER.exists(), reason=f"no oracle of concept losses at {FOLDER}")


def case_names() -> list[str]:
    """All cases of the oracle; none where it is absent."""
    path = FOLDER / "pcs_loss_expected.json"
    return sorted(json.loads(path.read_text())) if path.exists() else []


@dataclass
class Case:
    """Predictions, targets, and what the reference makes of them."""

    outputs: Detections
    targets: PhraseTargets
    one_to_one: Matches
    one_to_many: Matches
    expected: dict[str, dict[str, float]]


def load_case(name: str) -> Case:
    """A case by name; the indices of the reference without targets are in the targets' order."""
    with np.load(FOLDER / "pcs_loss_cases.npz") as archive:
        arrays: dict[str, Any] = {
            key.split("/")[1]: torch.from_numpy(archive[key]) for key in archive if key.startswith(f"{name}/")
        }
    outputs = Detections(
        logits=arrays["pred_logits"][..., 0],
        boxes=arrays["pred_boxes"],
        presence=arrays["presence_logit"][:, 0],
        masks=arrays["pred_masks"],
        semantic=arrays["semantic_logits"],
    )
    counts = arrays["num_boxes"]
    targets = PhraseTargets(
        counts=counts,
        exhaustive=torch.ones(len(counts), dtype=torch.bool),
        boxes=arrays["target_boxes"],
        masks=arrays["target_masks"],
        mask_valid=arrays["target_mask_valid"],
    )
    expected = json.loads((FOLDER / "pcs_loss_expected.json").read_text())[name]
    return Case(outputs, targets, _matches(arrays, "o2o"), _matches(arrays, "o2m"), expected)


def _matches(arrays: dict[str, Tensor], branch: str) -> Matches:
    pair = arrays[f"{branch}_batch"]
    target = arrays.get(f"{branch}_target", torch.arange(len(pair)))
    return Matches(pair, arrays[f"{branch}_query"], target)


def rows(matches: Matches) -> list[tuple[int, ...]]:
    """The matches as sorted tuples."""
    return sorted(zip(*(part.tolist() for part in matches), strict=True))
