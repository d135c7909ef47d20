from collections import deque

import numpy as np
import pytest

from phd.evaluate.clicks import Click, centre, first_click, next_click


def rectangle(height, width, *boxes):
    """A mask with boxes (x0, y0, x1, y1), right and lower edge exclusive."""
    mask = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def test_centre_is_x_then_y():
    assert centre(rectangle(9, 20, (12, 1, 17, 6))) == (14, 3)


def test_the_edge_of_the_image_is_border():
    # Touching the left edge: without it as border the farthest pixel would lie in column 0.
    assert centre(rectangle(9, 20, (0, 2, 5, 7))) == (2, 4)


def test_ties_go_to_the_first_in_row_major_order():
    # Depth 3 is reached in the middle row at columns 2, 3 and 4.
    assert centre(np.ones((5, 7), dtype=bool)) == (2, 2)
    assert centre(np.ones((7, 5), dtype=bool)) == (2, 2)


def test_an_empty_mask_has_no_centre():
    with pytest.raises(ValueError, match="empty"):
        centre(np.zeros((3, 3), dtype=bool))


def test_first_click_takes_the_thickest_part_though_another_part_is_larger():
    thin_and_large, thick = (0, 0, 30, 2), (10, 4, 15, 9)
    assert first_click(rectangle(10, 30, thin_and_large, thick)) == Click(12, 6, 1)


def test_a_miss_gets_a_positive_click_an_addition_a_negative_one():
    target = rectangle(10, 20, (2, 2, 7, 7))
    assert next_click(np.zeros_like(target), target) == Click(4, 4, 1)
    assert next_click(target | rectangle(10, 20, (12, 1, 19, 8)), target) == Click(15, 4, 0)
    assert next_click(target, target) is None


def test_largest_is_by_pixels_not_by_depth():
    thin, thick = (0, 0, 20, 1), (5, 5, 9, 9)
    target = rectangle(10, 20, thin, thick)
    assert next_click(np.zeros_like(target), target)[1:] == (0, 1)


def test_kinds_of_error_are_not_one_region():
    # Two misses of 9 pixels with an addition of 12 between them: together they would be one region of 30.
    target = rectangle(3, 10, (0, 0, 3, 3), (7, 0, 10, 3))
    prediction = rectangle(3, 10, (3, 0, 7, 3))
    assert next_click(prediction, target) == Click(4, 1, 0)


def test_a_miss_goes_before_an_equal_addition_and_then_the_first_region():
    left, right = rectangle(5, 20, (1, 1, 4, 4)), rectangle(5, 20, (11, 1, 14, 4))
    empty = np.zeros_like(left)
    assert next_click(left, right) == Click(12, 2, 1)
    assert next_click(right, left) == Click(2, 2, 1)
    assert next_click(empty, left | right) == Click(2, 2, 1)
    assert next_click(left | right, empty) == Click(2, 2, 0)


def test_corners_connect():
    diagonal = np.eye(6, dtype=bool)
    block = rectangle(6, 12, (8, 0, 10, 2))
    target = np.concatenate([diagonal, np.zeros((6, 6), dtype=bool)], axis=1) | block
    # Six pixels along the diagonal are one region, larger than the block of four.
    assert next_click(np.zeros_like(target), target) == Click(0, 0, 1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="against"):
        next_click(np.zeros((1, 4), dtype=bool), np.zeros((4, 4), dtype=bool))


def slow_next_click(prediction, target):
    """The definition, pixel by pixel."""
    height, width = target.shape
    best = None
    for label, error in ((1, target & ~prediction), (0, prediction & ~target)):
        seen = np.zeros_like(error)
        for start in zip(*np.nonzero(error), strict=True):
            if seen[start]:
                continue
            region, queue = [], deque([start])
            seen[start] = True
            while queue:
                y, x = queue.popleft()
                region.append((y, x))
                for v in range(max(0, y - 1), min(height, y + 2)):
                    for u in range(max(0, x - 1), min(width, x + 2)):
                        if error[v, u] and not seen[v, u]:
                            seen[v, u] = True
                            queue.append((v, u))
            if best is None or len(region) > len(best[1]):
                best = (label, region)
    if best is None:
        return None
    label, region = best
    inside = set(region)
    outside = [(v, u) for v in range(-1, height + 1) for u in range(-1, width + 1) if (v, u) not in inside]
    depth = {(y, x): min((y - v) ** 2 + (x - u) ** 2 for v, u in outside) for y, x in region}
    y, x = min(region, key=lambda pixel: (-depth[pixel], pixel))
    return Click(int(x), int(y), label)


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_definition_on_random_masks(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, 4, 5)) < 0.6
    prediction, target = np.kron(coarse, np.ones((3, 3), dtype=bool)).astype(bool) ^ (rng.random((2, 12, 15)) < 0.05)
    assert next_click(prediction, target) == slow_next_click(prediction, target)
