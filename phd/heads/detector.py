"""Phrases and exemplar boxes to boxes, scores, presence and masks: SAM 3's detector (arXiv 2511.16719, section 3).

The library's own forward answers one phrase per image and returns the last layer only. Here each (image, phrase) pair
is an entry of the batch dimension over images that were encoded once, and the earlier layers are returned for deep
supervision. The parts are those of `transformers`, called as its forward calls them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding, inverse_sigmoid

from phd.contract import Detections, QueryMasks
from phd.heads.one_to_many import decode_one_to_many

PAD = -1


def detect_pairs(
    parts: Mapping[str, Any],
    levels: Sequence[Tensor],
    image_index: Tensor,
    text: Tensor,
    text_mask: Tensor,
    exemplars: tuple[Tensor, Tensor] | None = None,
    auxiliary: bool = False,
    one_to_many: bool = False,
    drawn: Tensor | None = None,
) -> Detections:
    """Answer P (image, phrase) pairs.

    Args:
        parts: The detector's modules by the names of `Sam3Model`.
        levels: Of B images, finest first, each (B, C, h, w).
        image_index: (P,) image of each pair.
        text: (P, L, C) tokens of its phrase.
        text_mask: (P, L) bool, which tokens belong to the phrase.
        exemplars: Boxes (P, n, 4) centre x, centre y, width, height in [0, 1], and labels (P, n): 1 an instance,
            0 none, -1 padding, which comes last.
        auxiliary: Also return the earlier decoder layers.
        one_to_many: Also return the one-to-many branch.
        drawn: (P,) bool, the pairs whose masks somebody reads; pixels are most of the cost. None for all.
    """
    coarse = levels[-1][image_index]
    position = position_code(coarse)
    prompt, mask = text, text_mask
    if exemplars is not None and exemplars[0].shape[1]:
        geometry, geometry_mask = encode_exemplars(parts["geometry_encoder"], coarse, position, *exemplars)
        prompt, mask = torch.cat([text, geometry.to(text.dtype)], dim=1), torch.cat([text_mask, geometry_mask], dim=1)
    memory = parts["detr_encoder"](
        vision_features=[coarse], text_features=prompt, vision_pos_embeds=[position], text_mask=mask
    )
    inputs = {
        "vision_features": memory.last_hidden_state,
        "text_features": memory.text_features,
        "vision_pos_encoding": memory.pos_embeds_flattened,
        "text_mask": mask,
        "spatial_shapes": memory.spatial_shapes,
    }
    decoded = parts["detr_decoder"](**inputs)
    queries = decoded.intermediate_hidden_states
    layers = _layers(parts, queries, decoded.reference_boxes, decoded.presence_logits, memory.text_features, mask)
    answer = layers[-1]
    chosen, rows = _chosen(drawn)
    pixels, semantic = embed_pixels(
        parts["mask_decoder"],
        levels,
        image_index[chosen],
        memory.last_hidden_state[chosen],
        prompt[chosen],
        mask[chosen],
    )
    answer.masks = _masks(parts, queries, pixels, rows)
    if rows is None:
        answer.semantic = semantic
    else:
        answer.semantic = torch.where((rows >= 0)[:, None, None, None], semantic[rows.clamp(min=0)], 0.0)
    answer.auxiliary = layers[:-1] if auxiliary else []
    if one_to_many:
        queries, references = decode_one_to_many(parts["detr_decoder"], **inputs)
        layers = _layers(parts, queries, references, None, memory.text_features, mask)
        answer.one_to_many = layers[-1]
        answer.one_to_many.masks = _masks(parts, queries, pixels, rows)
        answer.one_to_many.auxiliary = layers[:-1] if auxiliary else []
    return answer


def position_code(features: Tensor) -> Tensor:
    """The sine code of the grid, (P, C, h, w), as SAM 3's neck makes it beside each level."""
    encoding = Sam3SinePositionEmbedding(features.shape[1] // 2, normalize=True)
    return encoding(features[:1].shape, features.device, features.dtype).expand_as(features)


def encode_exemplars(
    geometry_encoder: Any, coarse: Tensor, position: Tensor, boxes: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens (P, n + 1, C) of exemplar boxes and their summary token, and which of them are read, (P, n + 1) bool.

    A pair without a box reads none, not even the summary: its answer is that to its phrase alone, whatever else is in
    the batch.
    """
    dtype = geometry_encoder.final_proj.weight.dtype
    # The library pools bfloat16 features in float16, which autocast refuses.
    with torch.autocast(coarse.device.type, enabled=False):
        encoded = geometry_encoder(
            box_embeddings=boxes.to(dtype),
            box_mask=labels != PAD,
            box_labels=labels.clamp(min=0),
            img_feats=(coarse.to(dtype),),
            img_pos_embeds=(position.to(dtype),),
        )
    shown = (labels != PAD).any(dim=1, keepdim=True)
    return encoded.last_hidden_state, encoded.attention_mask.bool() & shown


def embed_pixels(
    mask_decoder: Any, levels: Sequence[Tensor], image_index: Tensor, memory: Tensor, prompt: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Pixel embeddings (P, C, m, m), with which the queries' masks are a product, and semantic logits (P, 1, m, m)."""
    normed = mask_decoder.prompt_cross_attn_norm(memory)
    read = create_bidirectional_mask(
        config=mask_decoder.config, inputs_embeds=normed, encoder_hidden_states=prompt, attention_mask=mask
    )
    attended, _ = mask_decoder.prompt_cross_attn(query=normed, key=prompt, value=prompt, attention_mask=read)
    memory = memory + mask_decoder.prompt_cross_attn_dropout(attended)
    coarse = memory.transpose(1, 2).unflatten(2, levels[-1].shape[-2:])
    pixels = mask_decoder.pixel_decoder([*(level[image_index] for level in levels[:-1]), coarse])
    return mask_decoder.instance_projection(pixels), mask_decoder.semantic_projection(pixels)


def _layers(
    parts: Mapping[str, Any],
    queries: Tensor,
    references: Tensor,
    presence: Tensor | None,
    prompt: Tensor,
    mask: Tensor,
) -> list[Detections]:
    """Scores, boxes and presence of every decoder layer, from its queries (layers, P, Q, C)."""
    boxes = (inverse_sigmoid(references) + parts["detr_decoder"].box_head(queries)).sigmoid().float()
    logits = parts["dot_product_scoring"](decoder_hidden_states=queries, text_features=prompt, text_mask=mask)
    logits = logits.squeeze(-1).float()
    if presence is None:
        return [Detections(*layer) for layer in zip(logits, boxes, strict=True)]
    return [Detections(*layer) for layer in zip(logits, boxes, presence.squeeze(-1).float(), strict=True)]


def _chosen(drawn: Tensor | None) -> tuple[Tensor | slice, Tensor | None]:
    """Which pairs get pixels, and the row of each pair among them; at least one, so that all parts have a gradient."""
    if drawn is None:
        return slice(None), None
    chosen = drawn.nonzero().squeeze(1)
    if len(chosen) == len(drawn):
        return slice(None), None
    if not len(chosen):
        chosen = chosen.new_zeros(1)
    rows = torch.full(drawn.shape, -1, device=drawn.device).index_put(
        (chosen,), torch.arange(len(chosen), device=drawn.device)
    )
    return chosen, rows


def _masks(parts: Mapping[str, Any], queries: Tensor, pixels: Tensor, rows: Tensor | None) -> QueryMasks:
    return QueryMasks(parts["mask_decoder"].mask_embedder(queries[-1]), pixels, rows)
