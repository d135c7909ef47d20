"""SAM 3's heads: the tracker's, and beside them those of the detector."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import Sam3VideoModel
from transformers.models.sam3.modeling_sam3 import (
    Sam3DetrDecoder,
    Sam3DetrEncoder,
    Sam3DotProductScoring,
    Sam3GeometryEncoder,
    Sam3MaskDecoder,
)
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoModel

from phd.contract import Detections, ImageFeatures
from phd.errors import UserError
from phd.heads.detector import detect_pairs
from phd.heads.tracker import TrackerHeads

DETECTOR_PARTS = ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "dot_product_scoring")


class Sam3Heads(TrackerHeads):
    """`tracker_model` and `detector_model`, named as in `Sam3VideoModel`, without vision and text encoders.

    The detector's parts come along unused in stages 1 and 2. The text encoder is no head: a student may have a
    smaller one, or none until stage 3.
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

    def detect(
        self, features: ImageFeatures, image_index: Tensor, text: Tensor, text_mask: Tensor, **how: Any
    ) -> Detections:
        """Answer P (image, phrase) pairs; the arguments after `features` are those of `detect_pairs`.

        Raises:
            UserError: The features were encoded without the detector's branch.
        """
        levels = features.branches.get("detector")
        if levels is None:
            raise UserError("detect: the features hold no detector branch; encode with branches=('detector',)")
        parts = dict(self.detector_model.items())
        return detect_pairs(parts, levels, image_index, text, text_mask, **how)

    def detect_parameters(self) -> list[nn.Parameter]:
        """The parameters that `detect` reads: all of the detector's but the upsampling stages without a level."""
        unused = {id(p) for p in self._unused_stages()}
        return [p for p in self.detector_model.parameters() if id(p) not in unused]

    def _unused_stages(self) -> list[nn.Parameter]:
        """SAM 3 has an upsampling stage more than it has pairs of levels."""
        pixel_decoder: Any = self.detector_model["mask_decoder"].pixel_decoder
        return [*pixel_decoder.conv_layers[2:].parameters(), *pixel_decoder.norms[2:].parameters()]
