import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from phd.metrics import MaskIoU, mask_iou


def masks(*rows: str) -> torch.Tensor:
    """One mask (1, h, w) from rows such as "110"."""
    return torch.tensor([[character == "1" for character in row] for row in rows]).unsqueeze(0)


def test_iou_by_hand():
    prediction, target = masks("110", "110"), masks("011", "011")
    assert mask_iou(prediction, target).tolist() == pytest.approx([2 / 6])
    assert mask_iou(target, target).tolist() == [1.0]
    assert mask_iou(prediction, masks("001", "001")).tolist() == [0.0]


def test_each_pair_is_its_own():
    prediction = torch.cat([masks("11", "00"), masks("11", "11")])
    target = torch.cat([masks("10", "00"), masks("11", "11")])
    assert mask_iou(prediction, target).tolist() == [0.5, 1.0]


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    empty, full = masks("00"), masks("11")
    assert mask_iou(empty, empty).tolist() == [1.0]
    assert mask_iou(empty, full).tolist() == [0.0]
    assert mask_iou(full, empty).tolist() == [0.0]


def test_logits_are_thresholded_strictly_above():
    logits = torch.tensor([[[-1.0, 0.0, 0.5, 2.0]]])
    target = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    assert mask_iou(logits, target).tolist() == [1.0]
    assert mask_iou(logits, target, threshold=1.0).tolist() == [0.5]
    assert mask_iou(logits.half(), logits).tolist() == [1.0]


def test_equals_pycocotools():
    rng = np.random.default_rng(3)
    prediction, target = rng.random((2, 5, 13, 17)) < 0.4
    encode = [
        [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in side] for side in (prediction, target)
    ]
    expected = np.diag(coco_mask.iou(encode[0], encode[1], [0] * 5))
    found = mask_iou(torch.from_numpy(prediction), torch.from_numpy(target))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="against"):
        mask_iou(torch.zeros(3, 2, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="against"):
        mask_iou(torch.zeros(2, 2), torch.zeros(2, 2))


def test_metric_is_the_mean_over_instances_not_over_updates():
    metric = MaskIoU()
    metric.update(masks("11"), masks("11"))
    metric.update(torch.cat([masks("11")] * 3), torch.cat([masks("00")] * 3))
    assert metric.compute().item() == pytest.approx(1 / 4)
    metric.reset()
    assert metric.count == 0
    metric.update(torch.zeros(0, 2, 2), torch.zeros(0, 2, 2))
    metric.update(masks("10"), masks("11"))
    assert metric.compute().item() == 0.5
