"""Matching against the oracle, and against cases small enough to solve by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pcs_cases import ABSENT, case_names, load_case, rows

from phd.losses.matching import hungarian_match, match_queries, one_to_many_match

LEFT, RIGHT, MIDDLE = [0.2, 0.5, 0.2, 0.4], [0.8, 0.5, 0.2, 0.4], [0.5, 0.5, 0.2, 0.4]


@ABSENT
@pytest.mark.parametrize("name", case_names())
def test_one_to_one_is_the_references(name: str) -> None:
    case = load_case(name)
    found = hungarian_match(case.outputs.logits, case.outputs.boxes, case.targets.boxes, case.targets.counts)
    for part, expected in zip(found, case.one_to_one, strict=True):
        assert part.tolist() == expected.tolist()


@ABSENT
@pytest.mark.parametrize("name", case_names())
def test_one_to_many_is_the_references(name: str) -> None:
    case = load_case(name)
    found = one_to_many_match(case.outputs.logits, case.outputs.boxes, case.targets.boxes, case.targets.counts)
    for part, expected in zip(found, case.one_to_many, strict=True):
        assert part.tolist() == expected.tolist()


def match(logits: list[list[float]], boxes: list, targets: list, counts: list[int], repeats: int = 1) -> list:
    arrays = torch.tensor(logits), torch.tensor(boxes), torch.tensor(targets).reshape(-1, 4), torch.tensor(counts)
    return rows(hungarian_match(*arrays, repeats))


def test_the_sum_is_what_is_least_not_each_cost() -> None:
    # Query 0 is the best for both instances; the second instance would pay more for losing it.
    boxes = [[LEFT, MIDDLE]]
    targets = [[0.3, 0.5, 0.2, 0.4], [0.1, 0.5, 0.2, 0.4]]
    assert match([[0.0, 0.0]], boxes, targets, [2]) == [(0, 0, 1), (0, 1, 0)]


def test_the_score_decides_between_equal_boxes() -> None:
    assert match([[0.0, 3.0, -3.0]], [[LEFT, LEFT, LEFT]], [LEFT], [1]) == [(0, 1, 0)]


def test_the_cost_of_a_score_weighs_against_that_of_a_box() -> None:
    # Scores of 0.5 and 0.95 cost 2 * (0.25 * 0.25 - 0.75 * 0.25) * 0.693 = -0.17 and -4.05; a shift by half a width
    # costs 5 * 0.1 in L1 and, with an IoU of 1/3 and no gap in the hull, 2 * (1 - 1/3), so 1.83 together.
    shifted = [0.3, 0.5, 0.2, 0.4]
    assert match([[0.0, 2.95]], [[LEFT, shifted]], [LEFT], [1]) == [(0, 1, 0)]
    # A score of 0.6 costs -0.45, too little for it.
    assert match([[0.0, 0.4]], [[LEFT, shifted]], [LEFT], [1]) == [(0, 0, 0)]
    # A score of 0.05 costs 2 * 0.25 * 0.95^2 * 3.0 = 1.35, which is 1.52 more than one of 0.5: less than the shift.
    assert match([[-2.944, 0.0]], [[LEFT, shifted]], [LEFT], [1]) == [(0, 0, 0)]
    # One of 0.02 costs 1.88, so 2.05 more.
    assert match([[-3.892, 0.0]], [[LEFT, shifted]], [LEFT], [1]) == [(0, 1, 0)]


def test_phrases_without_instances_are_passed_over() -> None:
    boxes = [[LEFT, RIGHT]] * 3
    assert match([[0.0, 0.0]] * 3, boxes, [RIGHT, LEFT, RIGHT], [1, 0, 2]) == [(0, 1, 0), (2, 0, 1), (2, 1, 2)]
    assert match([[0.0, 0.0]] * 3, boxes, [], [0, 0, 0]) == []


def test_no_phrase_at_all() -> None:
    empty = torch.zeros(0, 5), torch.zeros(0, 5, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    assert rows(hungarian_match(*empty)) == rows(one_to_many_match(*empty)) == []
    assert rows(match_queries(torch.zeros(0, 5), torch.zeros(0, 5, 4), torch.zeros(0, 5), torch.zeros(0, 5, 4))) == []


def test_more_instances_than_queries() -> None:
    assert match([[0.0]], [[RIGHT]], [LEFT, RIGHT, MIDDLE], [3]) == [(0, 0, 1)]


def test_repeats_share_the_queries_out() -> None:
    near_left = [0.22, 0.5, 0.2, 0.4]
    found = match([[0.0] * 4], [[LEFT, RIGHT, near_left, RIGHT]], [LEFT, RIGHT], [2], repeats=2)
    assert found == [(0, 0, 0), (0, 1, 1), (0, 2, 0), (0, 3, 1)]
    # Three queries for two instances twice: as many as there are.
    assert len(match([[0.0] * 3], [[LEFT, RIGHT, near_left]], [LEFT, RIGHT], [2], repeats=2)) == 3


def many(probabilities: list[float], boxes: list, targets: list, **settings: Any) -> list:
    logits = torch.logit(torch.tensor([probabilities]), eps=1e-6)
    found = one_to_many_match(
        logits, torch.tensor([boxes]), torch.tensor(targets), torch.tensor([len(targets)]), **settings
    )
    return rows(found)


def test_one_to_many_by_hand() -> None:
    # Quality 0.3 p + 0.7 IoU; a box shifted by half its width has IoU 1/3, and one elsewhere 0.
    half = [0.3, 0.5, 0.2, 0.4]
    boxes = [LEFT, LEFT, half, half, RIGHT, RIGHT, RIGHT, RIGHT]
    #            .7    1.0   .39   .41 (by p .6 + .7/3)   .3   0  0  0
    probabilities = [0.0, 1.0, 0.52, 0.6, 1.0, 0.0, 0.0, 0.0]
    assert many(probabilities, boxes, [LEFT]) == [(0, 0, 0), (0, 1, 0), (0, 3, 0)]
    # With two to a target, the quantile 6/8 lies a quarter of the way from .41 up to .7.
    assert many(probabilities, boxes, [LEFT], top=2) == [(0, 0, 0), (0, 1, 0)]
    # At a threshold of .35 the third comes in too, and the quantile of four lets it.
    assert many(probabilities, boxes, [LEFT], threshold=0.35) == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0)]


def test_the_quantile_is_exclusive() -> None:
    # All are equally good, so none is better than the quantile; the reference passes these over too.
    assert many([1.0] * 8, [LEFT] * 8, [LEFT]) == []


def test_a_query_may_serve_two_instances() -> None:
    boxes = [LEFT, *[RIGHT] * 7]
    near = [0.21, 0.5, 0.2, 0.4]
    assert many([1.0] + [0.0] * 7, boxes, [LEFT, near]) == [(0, 0, 0), (0, 0, 1)]


def test_fewer_queries_than_may_be_matched() -> None:
    assert many([1.0, 0.9], [LEFT, LEFT], [LEFT]) == [(0, 0, 0)]


def test_one_to_many_counts_instances_over_the_phrases() -> None:
    logits, boxes = torch.zeros(3, 5), torch.tensor([[LEFT, *[MIDDLE] * 4], [LEFT] * 5, [RIGHT, *[MIDDLE] * 4]])
    found = one_to_many_match(logits, boxes, torch.tensor([LEFT, RIGHT]), torch.tensor([1, 0, 1]))
    assert rows(found) == [(0, 0, 0), (2, 0, 1)]


def test_queries_of_two_models() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, boxes = torch.randn(3, 12, generator=generator), torch.rand(3, 12, 4, generator=generator) * 0.4 + 0.1
    same = match_queries(logits, boxes, logits, boxes)
    assert same.query.tolist() == same.target.tolist() == list(range(12)) * 3
    order = torch.randperm(12, generator=generator)
    shuffled = match_queries(logits, boxes, logits[:, order], boxes[:, order])
    assert order[shuffled.target].tolist() == shuffled.query.tolist()


def test_scores_tell_duplicates_apart() -> None:
    boxes = torch.tensor([[LEFT, LEFT]])
    found = match_queries(torch.tensor([[-4.0, 4.0]]), boxes, torch.tensor([[4.0, -4.0]]), boxes)
    assert rows(found) == [(0, 0, 1), (0, 1, 0)]


def test_models_with_different_numbers_of_queries() -> None:
    boxes = torch.tensor([[LEFT, RIGHT, MIDDLE]])
    found = match_queries(torch.zeros(1, 3), boxes, torch.zeros(1, 2), boxes[:, 1:])
    assert rows(found) == [(0, 1, 0), (0, 2, 1)]
