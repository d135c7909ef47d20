"""Pictures of detections."""

from __future__ import annotations

import numpy as np

from phd.draw_detections import COLOURS, overlay_detections


def test_masks_boxes_and_names() -> None:
    image = np.full((100, 120, 3), 128, dtype=np.uint8)
    masks = [np.zeros((100, 120), dtype=bool) for _ in range(2)]
    masks[0][30:70, 40:80] = True
    masks[1][30:70, 60:110] = True
    boxes = [[40, 30, 80, 70], [60, 30, 110, 70]]
    picture = np.array(overlay_detections(image, masks, boxes, ["one 0.9", "two 0.5"], opacity=1.0))
    assert picture.shape == image.shape
    assert tuple(picture[50, 70]) == COLOURS[0]  # the first lies on top
    assert tuple(picture[50, 100]) == COLOURS[1]
    assert tuple(picture[90, 10]) == (128, 128, 128)
    assert tuple(picture[69, 40]) == COLOURS[0]  # the lower edge of the box is inside the last row
    assert (picture[10:30, 40:60] != 128).any()  # the name, above the box


def test_names_stay_inside_and_nothing_is_fine() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    mask = np.zeros((40, 60), dtype=bool)
    picture = np.array(overlay_detections(image, [mask], [[55, 0, 60, 5]], ["corner"]))
    assert (picture[:15, :50] != 0).any()
    assert np.array_equal(np.array(overlay_detections(image, [], [], [])), image)
