"""Metrics with sum states: two halves of the data, or two processes, add up to the whole."""

from phd.metrics.calibration import CalibrationError
from phd.metrics.concept_f1 import ConceptF1
from phd.metrics.concept_overlap import box_overlaps, mask_overlaps
from phd.metrics.feature_mse import FeatureMSE
from phd.metrics.hota import HOTA
from phd.metrics.j_and_f import JAndF
from phd.metrics.mask_iou import MaskIoU, mask_iou

__all__ = [
    "HOTA",
    "CalibrationError",
    "ConceptF1",
    "FeatureMSE",
    "JAndF",
    "MaskIoU",
    "box_overlaps",
    "mask_iou",
    "mask_overlaps",
]
