"""Expected calibration error by hand, and which predictions are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phd.metrics import CalibrationError
from phd.metrics.calibration import correct_predictions


def test_error_and_diagram_by_hand() -> None:
    metric = CalibrationError(num_bins=4)
    metric.update(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([False, True, True]))
    metric.update(torch.tensor([1.0, 0.75]), torch.tensor([True, False]))
    values = metric.compute()
    assert values["count"].tolist() == [2, 1, 0, 2]
    assert values["confidence"].tolist() == pytest.approx([0.15, 0.3, np.nan, 0.875], nan_ok=True)
    assert values["accuracy"].tolist() == pytest.approx([0.5, 1, np.nan, 0.5], nan_ok=True)
    assert float(values["error"]) == pytest.approx((2 * 0.35 + 0.7 + 2 * 0.375) / 5)
    assert float(values["bias"]) == pytest.approx((0.1 + 0.2 + 0.3 + 1.0 + 0.75 - 3) / 5)


def test_what_is_right_as_often_as_it_says_has_no_error() -> None:
    metric = CalibrationError(10)
    metric.update(torch.full((4,), 0.25), torch.tensor([True, False, False, False]))
    assert float(metric.compute()["error"]) == pytest.approx(0)
    # Shifted by 0.5, as scores that are too low for what they find.
    metric.update(torch.full((4,), 0.25), torch.tensor([True, True, True, False]))
    assert float(metric.compute()["bias"]) == pytest.approx(0.25 - 0.5)


def test_nothing_yet_and_bad_input() -> None:
    metric = CalibrationError()
    metric.update(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert torch.isnan(metric.compute()["error"])
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="outside"):
            metric.update(torch.tensor([wrong]), torch.tensor([True]))
    with pytest.raises(ValueError, match="against"):
        metric.update(torch.zeros(2), torch.tensor([True]))
    with pytest.raises(ValueError, match="num_bins"):
        CalibrationError(0)


def test_right_in_the_order_of_the_scores() -> None:
    # The surer one takes the target; the other, which fits better, is a second answer to the same question.
    ious = np.array([[0.9], [0.6], [0.4]])
    assert correct_predictions([0.5, 0.8, 0.9], ious).tolist() == [False, True, False]
    assert correct_predictions([0.8, 0.5, 0.9], ious).tolist() == [True, False, False]
    # A taken target leaves the next best one.
    both = np.array([[0.9, 0.55], [0.9, 0.55]])
    assert correct_predictions([0.8, 0.9], both).tolist() == [True, True]
    assert correct_predictions([0.8, 0.9], np.zeros((2, 0))).tolist() == [False, False]
    assert correct_predictions([], np.zeros((0, 2))).tolist() == []
    assert correct_predictions([0.5], np.array([[0.5]])).tolist() == [True]
