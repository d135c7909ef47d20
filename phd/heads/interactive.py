"""Points, boxes and masks to masks: the decoding that SAM, SAM 2 and SAM 3 share.

The prompt encoders and mask decoders are those of `transformers`. Its own image forwards are not called in training:
they take a mask prompt per image instead of per prompt and run some parts under `no_grad`. Here every prompt is an
entry of the batch dimension, so prompts may spread unevenly over the images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from phd.contract import ImageFeatures, Masks, Prompts

# The original SAM clamps the logits it feeds back, so that a confident wrong mask can still be corrected.
FED_BACK_LOGIT_LIMIT = 32.0


class InteractiveHeads(nn.Module):
    """Base of the heads that answer prompts; a family says how its parts are wired.

    A subclass has a `prompt_encoder` and implements `positional_encoding`, `decoder_inputs` and `decode`.
    """

    prompt_encoder: Any

    def positional_encoding(self) -> Tensor:
        """Dense positional encoding (1, C, h, w) of the grid."""
        raise NotImplementedError(f"{type(self).__name__} has no positional_encoding")

    def decoder_inputs(self, features: ImageFeatures) -> tuple[Tensor, list[Tensor]]:
        """Image embedding (B, C, h, w) and the projected finer levels, once per image."""
        raise NotImplementedError(f"{type(self).__name__} has no decoder_inputs")

    def decode(self, embedding: Tensor, finer: list[Tensor], **inputs: Any) -> Masks:
        """Run the family's mask decoder on one prompt per batch entry."""
        raise NotImplementedError(f"{type(self).__name__} has no decode")

    def segment_parameters(self) -> list[nn.Parameter]:
        """The parameters that `segment` reads; a subclass with parts for later stages leaves those out."""
        return list(self.parameters())

    def segment(self, features: ImageFeatures, prompts: Prompts, multimask: bool) -> Masks:
        """Answer P prompts; see `Segmenter.segment`."""
        embedding, finer = self.decoder_inputs(features)
        sparse, dense = self.embed_prompts(prompts, embedding)
        index = prompts.image_index
        return self.decode(
            embedding[index],
            [level[index] for level in finer],
            image_positional_embeddings=self.positional_encoding().expand(len(prompts), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )

    def embed_prompts(self, prompts: Prompts, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Sparse (P, 1, N, C) and dense (P, C, h, w) embeddings of P prompts."""
        if prompts.points is None and prompts.boxes is None:
            prompts = replace(
                prompts,
                points=embedding.new_zeros(len(prompts), 1, 2),
                labels=torch.full((len(prompts), 1), -1, dtype=torch.long, device=embedding.device),
            )
        sparse, dense = self.prompt_encoder(
            input_points=None if prompts.points is None else prompts.points.unsqueeze(1),
            input_labels=None if prompts.labels is None else prompts.labels.unsqueeze(1),
            input_boxes=None if prompts.boxes is None else prompts.boxes.unsqueeze(1),
            input_masks=None
            if prompts.masks is None
            else prompts.masks.clamp(-FED_BACK_LOGIT_LIMIT, FED_BACK_LOGIT_LIMIT),
        )
        return sparse, dense


def one_prompt_per_entry(logits: Tensor, scores: Tensor, object_logits: Tensor | None) -> Masks:
    """Drop the decoder's point-batch dimension, which is always 1 here."""
    return Masks(logits.squeeze(1), scores.squeeze(1), None if object_logits is None else object_logits.flatten())
