"""Every number of the oracle of concept losses, and that the oracle would notice another formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pcs_cases import ABSENT, FOLDER, Case, case_names, load_case
from torch import Tensor

from phd.losses.concept_boxes import box_giou_loss, box_l1_loss, box_overlap
from phd.losses.concept_masks import (
    mask_dice_loss,
    mask_focal_loss,
    phrase_masks,
    resized,
    semantic_dice_loss,
    semantic_focal_loss,
)
from phd.losses.concept_scores import presence_loss, score_loss
from phd.losses.matching import Matches

pytestmark = ABSENT
TOLERANCE = 1e-4


def instances(case: Case) -> Tensor:
    return case.targets.counts.sum().clamp(min=1).float()


def boxes(case: Case, matches: Matches) -> tuple[Tensor, Tensor]:
    return case.outputs.boxes[matches.pair, matches.query], case.targets.boxes[matches.target]


def masks(case: Case, matches: Matches) -> tuple[Tensor, Tensor]:
    assert case.targets.masks is not None
    assert case.targets.mask_valid is not None
    valid = case.targets.mask_valid[matches.target]
    logits = case.outputs.masks_at(matches.pair[valid], matches.query[valid])
    truth = case.targets.masks[matches.target[valid]]
    return resized(logits, truth), truth


def score(case: Case, matches: Matches, **changes: Any) -> Tensor:
    arguments: dict[str, Any] = {
        "logits": case.outputs.logits,
        "iou": box_overlap(*boxes(case, matches))[0],
        "matches": matches,
        "present": case.targets.present,
        "exhaustive": case.targets.exhaustive,
        "normaliser": torch.tensor(float(len(case.targets))),
    }
    return score_loss(**(arguments | changes))


TERMS: dict[str, Callable[[Case, Matches], Tensor]] = {
    "loss_bbox": lambda case, matches: box_l1_loss(*boxes(case, matches), instances(case)),
    "loss_giou": lambda case, matches: box_giou_loss(*boxes(case, matches), instances(case)),
    "loss_ce": score,
    "loss_mask": lambda case, matches: mask_focal_loss(*masks(case, matches), instances(case)),
    "loss_dice": lambda case, matches: mask_dice_loss(*masks(case, matches), instances(case)),
}
# The weighted sums that the reference descends.
CORES = {
    "Boxes_core": {"loss_bbox": 5.0, "loss_giou": 2.0},
    "IABCEMdetr_core": {"loss_ce": 20.0, "presence_loss": 20.0},
    "Masks_core": {"loss_mask": 200.0, "loss_dice": 10.0},
}


def of_branch(case: Case, branch: str) -> dict[str, float]:
    matches = case.one_to_one if branch == "o2o" else case.one_to_many
    found = {name: float(term(case, matches)) for name, term in TERMS.items()}
    found["presence_loss"] = float(presence(case)) if branch == "o2o" else 0.0
    cores = {name: sum(w * found[part] for part, w in parts.items()) for name, parts in CORES.items()}
    return found | cores


def presence(case: Case) -> Tensor:
    assert case.outputs.presence is not None
    everything = torch.ones(len(case.targets), dtype=torch.bool)
    return presence_loss(case.outputs.presence, case.targets.present, everything, everything.sum())


@pytest.mark.parametrize("branch", ["o2o", "o2m"])
@pytest.mark.parametrize("name", case_names())
def test_losses(name: str, branch: str) -> None:
    case = load_case(name)
    expected = {key: value for key, value in case.expected[branch].items() if not key.endswith("_acc")}
    assert of_branch(case, branch) == pytest.approx(expected, rel=TOLERANCE, abs=1e-7)


@pytest.mark.parametrize("name", case_names())
def test_semantic_masks(name: str) -> None:
    case = load_case(name)
    if "semantic" not in case.expected:
        assert not case.targets.present.any()
        return
    assert case.targets.masks is not None
    assert case.outputs.semantic is not None
    union = phrase_masks(case.targets.masks, case.targets.pair, len(case.targets))
    logits, shown = resized(case.outputs.semantic[:, 0], union), case.targets.present
    focal = semantic_focal_loss(logits, union, shown, shown.sum())
    dice = semantic_dice_loss(logits, union, shown, shown.sum())
    assert float(focal) == pytest.approx(case.expected["semantic"]["loss_semantic_seg"], rel=TOLERANCE)
    assert float(dice) == pytest.approx(case.expected["semantic"]["loss_semantic_dice"], rel=TOLERANCE)


def test_the_oracle_has_cases_with_and_without_instances() -> None:
    present = [bool(load_case(name).targets.present.any()) for name in case_names()]
    assert {True, False} <= set(present), FOLDER


ANOTHER: dict[str, dict[str, Any]] = {
    "weight of positives": {"pos_weight": 5.0},
    "share of the score in the target": {"alpha": 0.75},
    "focus": {"gamma": 1.0},
    "no gate": {"present": torch.ones(4, dtype=torch.bool)},
    "no negatives": {"exhaustive": torch.zeros(4, dtype=torch.bool)},
    "mean over phrases with instances": {"normaliser": torch.tensor(3.0)},
    "hard targets": {"iou": torch.ones(9)},
}


@pytest.mark.parametrize("change", ANOTHER)
def test_another_score_loss_is_noticed(change: str) -> None:
    case = load_case("a_mixed")
    expected = case.expected["o2o"]["loss_ce"]
    assert float(score(case, case.one_to_one)) == pytest.approx(expected, rel=TOLERANCE)
    assert float(score(case, case.one_to_one, **ANOTHER[change])) != pytest.approx(expected, rel=10 * TOLERANCE)


def test_masks_without_a_valid_target_would_be_noticed() -> None:
    case = load_case("a_mixed")
    assert case.targets.mask_valid is not None
    assert not case.targets.mask_valid.all()
    case.targets.mask_valid = torch.ones_like(case.targets.mask_valid)
    with_all = mask_focal_loss(*masks(case, case.one_to_one), instances(case))
    assert float(with_all) != pytest.approx(case.expected["o2o"]["loss_mask"], rel=10 * TOLERANCE)
