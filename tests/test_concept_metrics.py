"""cgF1 and its parts: by hand, against a search through all pairings, and the quirks that are reproduced."""

from __future__ import annotations

from itertools import permutations
from math import sqrt

import numpy as np
import pytest
import torch

from phd.metrics import ConceptF1
from phd.metrics.concept_matching import EPSILON, THRESHOLDS, best_annotator, match_datapoint
from phd.metrics.concept_overlap import box_overlaps, mask_overlaps


def f1(tp: float, fp: float, fn: float) -> float:
    precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
    return 2 * precision * recall / (precision + recall + EPSILON)


def values(*datapoints: tuple[list[float], object]) -> dict[str, float]:
    metric = ConceptF1()
    for scores, ious in datapoints:
        metric.update(torch.tensor(scores), ious)
    return {name: float(value) for name, value in metric.compute().items()}


def empty(predictions: int, targets: int) -> torch.Tensor:
    return torch.zeros(predictions, targets)


def test_numbers_by_hand() -> None:
    found = values(
        ([0.9, 0.8], torch.tensor([[0.8, 0.0], [0.0, 0.3]])),  # one of two found, up to IoU 0.8
        ([0.7], torch.tensor([[0.6]])),  # found up to IoU 0.6
        ([], empty(0, 3)),  # three missed
        ([0.6], empty(1, 0)),  # a false phrase answered
        ([0.4], empty(1, 0)),  # a false phrase, and what was predicted does not count
        ([], empty(0, 0)),
    )
    # At 0.5 both are found: 2 of 6 instances; one false positive on true phrases and one on a false one.
    assert found["pmf1_50"] == pytest.approx(f1(2, 1, 4), abs=1e-12)
    assert found["f1_50"] == pytest.approx(f1(2, 2, 4), abs=1e-12)
    assert found["pmf1_75"] == pytest.approx(f1(1, 2, 5), abs=1e-12)
    # 0.8 is reached by 7 of the 10 thresholds and 0.6 by 3.
    by_threshold = [f1(2, 1, 4)] * 3 + [f1(1, 2, 5)] * 4 + [0.0] * 3
    assert found["pmf1"] == pytest.approx(np.mean(by_threshold), abs=1e-12)
    # Of six datapoints: 2 true and 1 false positive, 1 false and 2 true negatives.
    mcc = (2 * 2 - 1 * 1) / (sqrt(3 * 3 * 3 * 3) + 1e-6)
    assert found["il_mcc"] == pytest.approx(mcc, abs=1e-12)
    assert found["cgf1"] == pytest.approx(np.mean(by_threshold) * mcc, abs=1e-12)
    assert (found["il_precision"], found["il_fpr"]) == pytest.approx((2 / 3, 1 / 3), abs=1e-6)
    # The quirk: the phrase without prediction is no part of the count.
    local = f1(1, 1, 1) + f1(1, 0, 0)
    assert found["positive_macro_f1_50"] == pytest.approx(local / 2, abs=1e-12)
    assert found["positive_macro_f1_all_50"] == pytest.approx(local / 3, abs=1e-12)
    assert found["cgf1_macro_50"] == pytest.approx(local / 2 * mcc, abs=1e-12)


def test_perfection_needs_false_phrases() -> None:
    perfect = ([0.9], torch.ones(1, 1))
    alone, with_negative = values(perfect), values(perfect, ([], empty(0, 0)))
    assert (alone["il_mcc"], alone["cgf1"]) == (0, 0)
    assert with_negative["cgf1"] == pytest.approx(0.9998, abs=1e-4)
    assert with_negative["cgf1"] < 0.99999


def test_wrong_about_presence_is_negative() -> None:
    found = values(([0.9], empty(1, 0)), ([], empty(0, 1)), ([0.9], torch.ones(1, 1)))
    assert found["il_mcc"] < 0
    assert found["cgf1"] < 0


def test_nothing_found_is_not_defined() -> None:
    found = values(([], empty(0, 2)))
    assert np.isnan(found["positive_macro_f1"])
    assert found["positive_macro_f1_all"] == found["pmf1"] == found["cgf1"] == 0


def test_the_thresholds_are_reached_exactly() -> None:
    score = match_datapoint([0.5, 0.4999], np.array([[0.5], [1.0]]))
    assert (score.num_predictions, score.num_targets) == (1, 1)
    assert score.true_positives.tolist() == [1] + [0] * 9
    # 3 / 5 and the like are the thresholds themselves.
    for place, threshold in enumerate(THRESHOLDS):
        numerator = round(float(threshold) * 20)
        assert match_datapoint([1.0], np.array([[numerator / 20]])).true_positives.sum() == place + 1


def test_the_sum_of_iou_decides_and_not_the_score() -> None:
    # Greedy, the surer prediction takes the first target and leaves 0.1 to the other.
    ious = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert match_datapoint([0.99, 0.6], ious).true_positives.tolist() == [2] * 7 + [1] + [0] * 2


@pytest.mark.parametrize("seed", range(20))
def test_matching_against_all_pairings(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predictions, targets = generator.integers(1, 5, 2)
    scores, ious = generator.random(predictions), generator.random((predictions, targets))
    kept = ious[scores >= 0.5]
    score = match_datapoint(scores, ious)
    wide = kept if kept.shape[0] <= targets else kept.T
    orders = permutations(range(wide.shape[1]), len(wide))
    pairings = [[row[column] for row, column in zip(wide, order, strict=True)] for order in orders]
    best = max(pairings, key=sum)
    assert score.true_positives.tolist() == [sum(value >= threshold for value in best) for threshold in THRESHOLDS]
    assert (score.false_positives + score.true_positives == len(kept)).all()
    assert (score.false_negatives + score.true_positives == targets).all()


def test_oracle_takes_the_best_annotator() -> None:
    poor, good = torch.tensor([[0.55]]), torch.tensor([[0.95]])
    found = values(([0.9], [poor, good]), ([], [empty(0, 0)] * 2))
    assert found == pytest.approx(values(([0.9], good), ([], empty(0, 0))))
    assert found["pmf1"] > values(([0.9], poor))["pmf1"]


def test_oracle_keeps_the_first_of_equals() -> None:
    # Wrong about both annotators, who see one and three instances: equally bad, but not for the counts.
    one, three = match_datapoint([0.9], np.zeros((1, 1))), match_datapoint([0.9], np.zeros((1, 3)))
    assert best_annotator([one, three]) == best_annotator([three, one]) == 0
    nothing = match_datapoint([], np.zeros((0, 0)))
    assert best_annotator([match_datapoint([], np.zeros((0, 2))), nothing]) == 1
    assert best_annotator([nothing, match_datapoint([], np.zeros((0, 2)))]) == 0
    false_negatives = [ConceptF1(), ConceptF1()]
    for metric, answers in zip(false_negatives, ([empty(1, 1), empty(1, 3)], [empty(1, 3), empty(1, 1)]), strict=True):
        metric.update(torch.tensor([0.9]), answers)
    assert [int(metric.false_negatives[0]) for metric in false_negatives] == [1, 3]


def test_a_false_positive_on_a_false_phrase_costs_presence_alone() -> None:
    right = [([0.9], torch.ones(1, 1)), ([], empty(0, 0)), ([], empty(0, 0))]
    before, after = values(*right), values(*right[:2], ([0.9], empty(1, 0)))
    assert after["pmf1"] == before["pmf1"]
    assert after["il_mcc"] < before["il_mcc"]
    assert after["f1"] < before["f1"]


def test_halves_add_up() -> None:
    generator = np.random.default_rng(3)
    shapes = generator.integers(0, 4, (40, 2))
    datapoints = [(generator.random(n).tolist(), torch.from_numpy(generator.random((n, m)))) for n, m in shapes]
    whole, halves = ConceptF1(), [ConceptF1(), ConceptF1()]
    for place, (scores, ious) in enumerate(datapoints):
        for metric in (whole, halves[place % 2]):
            metric.update(torch.tensor(scores), ious)
    names = ("true_positives", "positive_false_positives", "local_f1", "images")
    for name in names:
        assert torch.allclose(getattr(whole, name), getattr(halves[0], name) + getattr(halves[1], name))
    whole.reset()
    assert not whole.images.any()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"need \(N,\) and \(N, M\)"):
        match_datapoint([0.5], np.zeros((2, 1)))


def test_overlaps() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2] = True  # 8 pixels
    masks[1, 1:3] = True  # 8, of which 4 shared; the third is empty
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]
    assert mask_overlaps(masks, masks).tolist() == pytest.approx(np.array(expected))
    logits = masks.float() * 4 - 2
    assert torch.equal(mask_overlaps(logits, masks), mask_overlaps(masks, masks))
    assert mask_overlaps(masks[:0], masks).shape == (0, 3)
    boxes = torch.tensor([[0.0, 0.0, 2.0, 4.0], [1.0, 0.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
    assert box_overlaps(boxes, boxes).tolist() == pytest.approx(np.array(expected))
    with pytest.raises(ValueError, match="masks of shape"):
        mask_overlaps(masks, masks[:, :2])
    with pytest.raises(ValueError, match="boxes of shape"):
        box_overlaps(boxes, boxes[:, :2])
