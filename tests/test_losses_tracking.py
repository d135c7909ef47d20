"""Tracking losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from phd.losses.tracking import memory_feature_mse, object_score_loss, tracking_loss

WEIGHTS = {"dice": 1.0, "iou": 1.0, "object_score": 1.0}


def test_object_score() -> None:
    loss = object_score_loss(torch.tensor([0.0, math.log(3)]), torch.tensor([True, False]))
    # -log(1/2), and -log(1 - 3/4)
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)


def rows() -> dict[str, torch.Tensor]:
    """A row with an object, drawn rightly but for one cell of four, and a row without one."""
    logits = torch.full((2, 1, 2, 2), -100.0)
    logits[0, 0, 0] = 100.0
    target = torch.zeros(2, 2, 2)
    target[0, 0, 0] = 1
    return {
        "logits": logits,
        "scores": torch.tensor([[0.9], [0.3]]),
        "object_logits": torch.tensor([0.0, 0.0]),
        "target": target,
        "void": torch.zeros(2, 2, 2, dtype=torch.bool),
    }


def test_masks_count_where_there_is_an_object() -> None:
    terms = tracking_loss(**rows(), weights=WEIGHTS)
    assert float(terms["dice"]) == pytest.approx(1 - (2 * 1 + 1) / (3 + 1))
    assert float(terms["iou"]) == pytest.approx(0.9 - 0.5)  # the row without an object does not count
    assert float(terms["object_score"]) == pytest.approx(math.log(2))
    assert "focal" not in terms


def test_void_cells_count_neither_way() -> None:
    case = rows()
    case["void"][0, 0, 1] = True  # the cell that was wrong
    terms = tracking_loss(**case, weights=WEIGHTS)
    assert float(terms["dice"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["iou"]) == pytest.approx(0.1)
    case["void"][0, 0, 0] = True  # and the whole object: nothing is known of the mask, and no object is to be seen
    terms = tracking_loss(**case, weights=WEIGHTS)
    assert float(terms["dice"]) == float(terms["iou"]) == 0


def test_without_any_object_masks_cost_nothing_but_keep_their_gradient() -> None:
    case = rows()
    case["target"].zero_()
    case["logits"].requires_grad_(True)
    terms = tracking_loss(**case, weights=WEIGHTS | {"focal": 20.0})
    assert terms["focal"].item() == terms["dice"].item() == 0
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert case["logits"].grad is not None
    assert case["logits"].grad.abs().sum() == 0


def test_the_best_candidate_is_taught_its_mask_and_all_their_scores() -> None:
    case = {name: value[:1] for name, value in rows().items()}
    right = torch.full((1, 1, 2, 2), -100.0)
    right[0, 0, 0, 0] = 100.0
    case["logits"] = torch.cat([case["logits"], right], dim=1)
    case["scores"] = torch.tensor([[0.9, 0.8]])
    terms = tracking_loss(**case, weights=WEIGHTS)
    assert float(terms["dice"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["iou"]) == pytest.approx((0.4 + 0.2) / 2)


def test_memory_features() -> None:
    student, teacher = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0]]], [[[0.0, 2.0]]]])
    assert float(memory_feature_mse(student, teacher)) == 2.0
