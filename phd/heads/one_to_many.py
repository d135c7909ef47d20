"""SAM 3's decoder without self-attention, whose queries may all answer for the same instance.

Divide-and-conquer DETR (DAC-DETR, NeurIPS 2023), in SAM 3's released form: the same queries and weights, without the
presence token; the norm after self-attention stays. For training only; `transformers` has no such branch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.sam3.modeling_sam3 import inverse_sigmoid


def decode_one_to_many(
    decoder: Any,
    vision_features: Tensor,
    text_features: Tensor,
    vision_pos_encoding: Tensor,
    text_mask: Tensor,
    spatial_shapes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run a `Sam3DetrDecoder` without self-attention; the arguments are those of its forward.

    Returns:
        Queries (layers, P, Q, C) and the reference boxes (layers, P, Q, 4) that each layer started from.
    """
    count = vision_features.shape[0]
    queries = decoder.query_embed.weight.expand(count, -1, -1)
    boxes = decoder.reference_points.weight.sigmoid().expand(count, -1, -1)
    read = create_bidirectional_mask(
        config=decoder.config, inputs_embeds=queries, attention_mask=text_mask, encoder_hidden_states=text_features
    )
    outputs, references = [], []
    for layer in decoder.layers:
        references.append(boxes)
        position = decoder.ref_point_head(decoder.position_encoding.encode_boxes(boxes))
        bias = decoder._get_rpb_matrix(boxes, (spatial_shapes[0, 0], spatial_shapes[0, 1]))
        queries = _layer(layer, queries, position, text_features, read, vision_features, vision_pos_encoding, bias)
        outputs.append(decoder.output_layer_norm(queries))
        boxes = (decoder.box_head(outputs[-1]) + inverse_sigmoid(boxes)).sigmoid().detach()
    return torch.stack(outputs), torch.stack(references)


def _layer(
    layer: Any,
    queries: Tensor,
    position: Tensor,
    text: Tensor,
    text_mask: Tensor | None,
    vision: Tensor,
    vision_position: Tensor,
    bias: Tensor,
) -> Tensor:
    """The rest of a `Sam3DetrDecoderLayer` after its self-attention."""
    queries = layer.self_attn_layer_norm(queries)
    attended, _ = layer.text_cross_attn(query=queries + position, key=text, value=text, attention_mask=text_mask)
    queries = layer.text_cross_attn_layer_norm(queries + layer.text_cross_attn_dropout(attended))
    attended, _ = layer.vision_cross_attn(
        query=queries + position, key=vision + vision_position, value=vision, attention_mask=bias
    )
    queries = layer.vision_cross_attn_layer_norm(queries + layer.vision_cross_attn_dropout(attended))
    return layer.mlp_layer_norm(queries + layer.mlp_dropout(layer.mlp(queries)))
