"""SAM's heads: one level, no finer features, no object score."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import SamModel
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

from phd.contract import ImageFeatures, Masks, Prompts
from phd.heads.interactive import InteractiveHeads, one_prompt_per_entry


class SamHeads(InteractiveHeads):
    """Prompt encoder and mask decoder, under the names that `SamModel` gives them.

    `SamModel` ties its image-wide positional embedding to the prompt encoder's, so only the latter is kept.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        config.mask_decoder_config._attn_implementation = "sdpa"
        self.prompt_encoder: Any = SamPromptEncoder(config)
        self.mask_decoder: Any = SamMaskDecoder(config.mask_decoder_config)

    @classmethod
    def of_model(cls, model: SamModel) -> SamHeads:
        """The heads of a loaded model; the modules are shared, not copied."""
        heads = cls(model.config)
        heads.prompt_encoder, heads.mask_decoder = model.prompt_encoder, model.mask_decoder
        return heads

    def positional_encoding(self) -> Tensor:
        """Dense encoding (1, C, h, w): the prompt encoder's own, at the centres of the cells."""
        size = self.prompt_encoder.image_embedding_size[0]
        weight = self.prompt_encoder.shared_embedding.positional_embedding
        centre = (torch.arange(size, device=weight.device, dtype=weight.dtype) + 0.5) / size
        grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1)
        return self.prompt_encoder.shared_embedding(grid).permute(2, 0, 1).unsqueeze(0)

    def embed_prompts(self, prompts: Prompts, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """A lone mask comes without points: unlike SAM 2, SAM never saw an empty point in their place."""
        sparse, dense = super().embed_prompts(prompts, embedding)
        if prompts.points is None and prompts.boxes is None:
            sparse = sparse[:, :, :0]
        return sparse, dense

    def decoder_inputs(self, features: ImageFeatures) -> tuple[Tensor, list[Tensor]]:
        """The single level is the image embedding."""
        return features.tracker[0], []

    def decode(self, embedding: Tensor, finer: list[Tensor], **inputs: Any) -> Masks:
        """Run SAM's mask decoder."""
        logits, scores = self.mask_decoder(image_embeddings=embedding, **inputs)
        return one_prompt_per_entry(logits, scores, None)
