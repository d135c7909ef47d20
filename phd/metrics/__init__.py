"""Metrics with sum states: two halves of the data, or two processes, add up to the whole."""

from phd.metrics.feature_mse import FeatureMSE
from phd.metrics.j_and_f import JAndF
from phd.metrics.mask_iou import MaskIoU, mask_iou

__all__ = ["FeatureMSE", "JAndF", "MaskIoU", "mask_iou"]
