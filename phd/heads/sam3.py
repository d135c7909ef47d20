"""SAM 3's heads: the tracker's, and beside them those of the detector."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import Sam3VideoModel
from transformers.models.sam3.modeling_sam3 import (
    Sam3DetrDecoder,
    Sam3DetrEncoder,
    Sam3DotProductScoring,
    Sam3GeometryEncoder,
    Sam3MaskDecoder,
)
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoModel

from phd.heads.tracker import TrackerHeads

DETECTOR_PARTS = ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "dot_product_scoring")


class Sam3Heads(TrackerHeads):
    """`tracker_model` and `detector_model`, named as in `Sam3VideoModel`, without vision and text encoders.

    The detector's parts come along unused in stage 1; the text encoder joins in stage 3, where a student gets a
    smaller one.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(Sam3TrackerVideoModel(config.tracker_config, remove_vision_encoder=True))
        detector = config.detector_config
        for part in ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder"):
            getattr(detector, f"{part}_config")._attn_implementation = "sdpa"
        self.detector_model = nn.ModuleDict(
            {
                "geometry_encoder": Sam3GeometryEncoder(detector.geometry_encoder_config),
                "detr_encoder": Sam3DetrEncoder(detector.detr_encoder_config),
                "detr_decoder": Sam3DetrDecoder(detector.detr_decoder_config),
                "mask_decoder": Sam3MaskDecoder(detector.mask_decoder_config),
                "dot_product_scoring": Sam3DotProductScoring(detector),
            }
        )

    @classmethod
    def of_model(cls, model: Sam3VideoModel) -> Sam3Heads:
        """The heads of a loaded model; the modules are shared, not copied."""
        heads = cls.__new__(cls)
        TrackerHeads.__init__(heads, model.tracker_model)
        heads.detector_model = nn.ModuleDict({p: getattr(model.detector_model, p) for p in DETECTOR_PARTS})
        return heads
