"""Callbacks shared by the three stages."""

from callbacks.atomic_checkpoint import AtomicCheckpointIO
from callbacks.clip_length import ClipLength
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.log_concepts import LogConcepts
from callbacks.log_feature_mse import LogFeatureMSE
from callbacks.log_j_and_f import LogJAndF
from callbacks.log_mask_iou import LogMaskIoU
from callbacks.log_text_cosine import LogTextCosine
from callbacks.mask_panels import MaskPanels
from callbacks.metric_logger import MetricLogger
from callbacks.stage_freeze import StageFreeze
from callbacks.student_artefact import StudentArtefact
from callbacks.throughput import Throughput

__all__ = [
    "AtomicCheckpointIO",
    "ClipLength",
    "LastCheckpoint",
    "LogConcepts",
    "LogFeatureMSE",
    "LogJAndF",
    "LogMaskIoU",
    "LogTextCosine",
    "MaskPanels",
    "MetricLogger",
    "StageFreeze",
    "StudentArtefact",
    "Throughput",
]
