"""The tracker of SAM 2 and of SAM 3: three levels, an object score, and the parts of the memory."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam2VideoModel

from phd.contract import ImageFeatures, Masks
from phd.heads.interactive import one_prompt_per_entry
from phd.heads.memory.video import VideoHeads


class TrackerHeads(VideoHeads):
    """Everything of a `transformers` tracker but its vision encoder, under its own names.

    `tracker_model` is a `Sam2VideoModel` or a `Sam3TrackerVideoModel`; the two have the same parts. The memory
    parts come along unused in stage 1, so that stage 2 starts from the teacher's.
    """

    def __init__(self, tracker_model: nn.Module) -> None:
        super().__init__()
        self.tracker_model: Any = without_vision(tracker_model)
        self.compressor = self.dense_compressor()

    @property
    def prompt_encoder(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The tracker's prompt encoder."""
        return self.tracker_model.prompt_encoder

    def segment_parameters(self) -> list[nn.Parameter]:
        """Prompt encoder, mask decoder and the mark of a frame without memory."""
        tracker = self.tracker_model
        parts = [*tracker.prompt_encoder.parameters(), *tracker.mask_decoder.parameters()]
        return [*parts, tracker.no_memory_embedding]

    def positional_encoding(self) -> Tensor:
        """Dense encoding (1, C, h, w) of the coarsest level."""
        return self.tracker_model.get_image_wide_positional_embeddings()

    def decoder_inputs(self, features: ImageFeatures) -> tuple[Tensor, list[Tensor]]:
        """Project the two finer levels, and mark the coarsest as one without memory."""
        coarse, finer = self.decoder_levels(features.tracker)
        return self.without_memory(coarse), finer

    def decode(self, embedding: Tensor, finer: list[Tensor], **inputs: Any) -> Masks:
        """Run the tracker's mask decoder."""
        logits, scores, _, object_logits = self.tracker_model.mask_decoder(
            image_embeddings=embedding, high_resolution_features=finer, **inputs
        )
        return one_prompt_per_entry(logits, scores, object_logits)


def without_vision(model: nn.Module) -> nn.Module:
    """A second handle on a model that shares its parameters and parts, but has no vision encoder."""
    view = copy.copy(model)
    view._modules = {name: part for name, part in model._modules.items() if name != "vision_encoder"}
    return view


def sam2_heads(config: Sam2VideoConfig) -> TrackerHeads:
    """SAM 2's heads with new weights; its vision encoder is built at the smallest depth and dropped."""
    shallow: Any = Sam2VideoConfig.from_dict(config.to_dict())
    shallow.vision_config.backbone_config.blocks_per_stage = [1, 1, 1, 1]
    shallow.vision_config.backbone_config.global_attention_blocks = []
    return TrackerHeads(Sam2VideoModel(shallow))
