"""HOTA and TETA by hand."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from phd.metrics import HOTA
from phd.metrics.concept_teta import Tracks, teta


def hota(similarity: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    metric = HOTA()
    metric.update(similarity, targets.astype(bool), predictions.astype(bool))
    return {name: float(value) for name, value in metric.compute().items()}


def test_a_track_in_two_halves() -> None:
    similarity = np.zeros((4, 1, 2))
    similarity[:2, 0, 0] = similarity[2:, 0, 1] = 1
    found = hota(similarity, np.ones((4, 1)), similarity[:, 0] > 0)
    # Every frame is found; each half is 2 of the 4 frames that the track has.
    assert found == pytest.approx(
        {"HOTA": sqrt(0.5), "DetA": 1, "AssA": 0.5, "DetRe": 1, "DetPr": 1, "AssRe": 0.5, "AssPr": 1, "LocA": 1}
        | {"OWTA": sqrt(0.5)}
    )


def test_localisation_counts_by_threshold() -> None:
    found = hota(np.full((3, 1, 1), 0.5), np.ones((3, 1)), np.ones((3, 1)))
    # Ten of nineteen thresholds are reached; above them nothing is matched, and LocA is 1 by definition.
    assert found["DetA"] == pytest.approx(10 / 19)
    assert found["LocA"] == pytest.approx((10 * 0.5 + 9) / 19)


def test_misses_and_false_alarms() -> None:
    present, shown = np.array([[1], [1], [0], [0]]), np.array([[0], [1], [1], [1]])
    found = hota(np.array([0.0, 1.0, 0.0, 0.0]).reshape(4, 1, 1), present, shown)
    assert (found["DetRe"], found["DetPr"], found["DetA"]) == pytest.approx((1 / 2, 1 / 3, 1 / 4))
    assert (found["AssRe"], found["AssPr"], found["AssA"]) == pytest.approx((1 / 2, 1 / 3, 1 / 4))
    assert found["OWTA"] == pytest.approx(sqrt(1 / 8))


def test_the_whole_sequence_decides_who_is_matched() -> None:
    # In the last frame the stranger fits a little better, but the first track followed the target all along.
    similarity = np.zeros((5, 1, 2))
    similarity[:, 0, 0], similarity[4, 0] = 0.9, (0.85, 0.9)
    found = hota(similarity, np.ones((5, 1)), np.array([[1, 0]] * 4 + [[1, 1]]))
    # Up to 0.85 one track all the way; at 0.9 it lacks the last frame.
    assert found["AssRe"] == pytest.approx((17 + 4 / 5) / 19)
    nothing = hota(np.zeros((2, 1, 0)), np.ones((2, 1)), np.zeros((2, 0)))
    assert (nothing["HOTA"], nothing["LocA"]) == (0, 1)
    with pytest.raises(ValueError, match="presence"):
        hota(np.zeros((2, 1, 1)), np.ones((3, 1)), np.ones((2, 1)))


def test_sequences_are_summed_before_they_are_divided() -> None:
    metric = HOTA()
    metric.update(np.ones((9, 1, 1)), np.ones((9, 1), bool), np.ones((9, 1), bool))
    metric.update(np.zeros((1, 1, 0)), np.ones((1, 1), bool), np.zeros((1, 0), bool))
    assert float(metric.compute()["DetA"]) == pytest.approx(0.9)


def tracks(similarity: np.ndarray, targets: list[int], predictions: list[int], **present: np.ndarray) -> Tracks:
    frames = len(similarity)
    return Tracks(
        similarity,
        present.get("target_present", np.ones((frames, len(targets)), dtype=bool)),
        present.get("prediction_present", np.ones((frames, len(predictions)), dtype=bool)),
        np.array(targets, dtype=object),
        np.array(predictions, dtype=object),
    )


def test_teta_separates_where_from_what() -> None:
    both = np.tile(np.eye(2), (3, 1, 1))
    assert teta([tracks(both, [1, 2], [1, 2])], [1, 2])["teta"] == pytest.approx(1)
    assert teta([tracks(both, [1, 1], [1, 1])], [1])["teta"] == pytest.approx(1)
    swapped = teta([tracks(both, [1, 2], [2, 1])], [1, 2])
    assert (swapped["loc_a"], swapped["assoc_a"], swapped["cls_a"]) == pytest.approx((1, 1, 0))
    assert swapped["teta"] == pytest.approx(2 / 3)


def test_teta_of_what_is_not_there() -> None:
    # A second prediction of the class, far from everything: no place is wrong, its class is.
    found = teta([tracks(np.tile([[1.0, 0.0]], (3, 1, 1)), [1], [1, 1])], [1])
    assert (found["loc_pr"], found["cls_pr"], found["cls_re"]) == pytest.approx((1, 0.5, 1))
    # On top of the first one it is a false place, and not a false class.
    found = teta([tracks(np.tile([[1.0, 0.6]], (3, 1, 1)), [1], [1, 1])], [1])
    assert (found["loc_pr"], found["cls_pr"]) == pytest.approx((0.5, 1))
    # Two of them are two.
    found = teta([tracks(np.tile([[1.0, 0.6, 0.6]], (3, 1, 1)), [1], [1, 1, 1])], [1])
    assert found["loc_pr"] == pytest.approx(1 / 3)


def test_teta_leaves_frames_without_target_out() -> None:
    seen = np.array([[True], [False]])
    found = teta([tracks(np.array([[[1.0]], [[0.0]]]), [1], [1], target_present=seen)], [1])
    assert found["cls_pr"] == pytest.approx(1)
    assert found["assoc_pr"] == pytest.approx(1)
    # With another object in that frame the prediction is a false one.
    both = np.array([[[1.0], [0.0]], [[0.0], [0.0]]])
    seen = np.array([[True, False], [False, True]])
    found = teta([tracks(both, [1, 2], [1], target_present=seen)], [1, 2])
    assert found["cls_pr"] == pytest.approx((1 / 2 + 0) / 2)


def test_teta_without_predictions() -> None:
    found = teta([tracks(np.zeros((3, 1, 0)), [1], [])], [1])
    assert set(found.values()) == {0.0}


def test_teta_replaces_the_false_classes_of_a_class_that_nothing_overlaps() -> None:
    right = tracks(np.ones((3, 1, 1)), [2], [2])
    # The prediction of class 2 lies on the target of class 1; the target of class 2 lies elsewhere.
    confused = tracks(np.tile([[1.0], [0.0]], (3, 1, 1)), [1, 2], [2])
    # Three frames are right. Three are wrong if class 2 is counted last, which forgets what class 1 found out.
    last, first = teta([right, confused], [1, 2]), teta([right, confused], [2, 1])
    assert last["cls_pr"] == pytest.approx((0 + 3 / 6) / 2)
    assert first["cls_pr"] == pytest.approx((0 + 3 / 9) / 2)
