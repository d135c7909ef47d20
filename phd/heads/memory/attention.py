"""A tracker's memory attention over fixed slots: masked, with any place for any key, differentiable.

The layers are those of `transformers`, called part by part: its own forward takes no mask, turns keys by repeating the
code of the queries, and so knows neither empty slots nor tokens that lie elsewhere than the queries.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from phd.heads.memory.tokens import window_centres

Rotation = tuple[Tensor, Tensor]


def condition(
    module: Any,
    current: Tensor,
    current_positions: Tensor,
    memory: Tensor,
    memory_positions: Tensor,
    places: Tensor,
    placed: Tensor,
    valid: Tensor,
) -> Tensor:
    """Let the map of the current frame read the memory (SAM 2, arXiv 2408.00714, section 4).

    Args:
        module: The library's memory attention.
        current: (N, C, h, w) coarsest level of the current frame, for each of N objects.
        current_positions: (1, C, h, w) its sine code.
        memory: (N, S, D) tokens of all slots.
        memory_positions: (N, S, D) their codes of place and time.
        places: (S, 2) where each token lies, (x, y) in cells of the current map.
        placed: (S,) bool, which tokens lie anywhere at all; the others are not turned.
        valid: (N, S) bool, which tokens hold something; at least one for each object.

    Returns:
        (N, C, h, w), the memory-conditioned features.
    """
    height, width = current.shape[-2:]
    queries = (current + 0.1 * current_positions).flatten(2).transpose(1, 2)
    # The library's own table belongs to the size that the model was configured for.
    cells = window_centres(width, width).to(queries.device)
    turn_queries = rotation(module, queries, cells)
    turn_keys = rotation(module, queries, places)
    turn_keys = (torch.where(placed[:, None], turn_keys[0], 1.0), torch.where(placed[:, None], turn_keys[1], 0.0))
    keys = memory + memory_positions
    mask = valid[:, None, None, :]
    for layer in module.layers:
        normed = layer.layer_norm1(queries)
        read = attend(layer.self_attn, normed, normed, normed, turn_queries, turn_queries, None)
        queries = queries + layer.dropout1(read)
        normed = layer.layer_norm2(queries)
        read = attend(layer.cross_attn_image, normed, keys, memory, turn_queries, turn_keys, mask)
        queries = queries + layer.dropout2(read)
        hidden = layer.linear1(layer.layer_norm3(queries))
        queries = queries + layer.dropout3(layer.linear2(layer.dropout(layer.activation(hidden))))
    return module.layer_norm(queries).transpose(1, 2).unflatten(2, (height, width))


def rotation(module: Any, like: Tensor, places: Tensor) -> Rotation:
    """Cosine and sine (S, head width) of the axial rotary code (RoFormer, arXiv 2104.09864, in two dimensions)."""
    cosine, sine = module.rotary_emb(like, places)
    return cosine.squeeze(0), sine.squeeze(0)


def attend(
    attention: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    turn_query: Rotation,
    turn_key: Rotation,
    mask: Tensor | None,
) -> Tensor:
    """One attention of the library with its own projections; (N, Q, C) by (N, S, D) to (N, Q, C)."""

    def heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    read = F.scaled_dot_product_attention(
        turned(heads(attention.q_proj(query)), turn_query),
        turned(heads(attention.k_proj(key)), turn_key),
        heads(attention.v_proj(value)),
        attn_mask=mask,
        dropout_p=attention.dropout_p if attention.training else 0.0,
        scale=attention.scaling,
    )
    return attention.o_proj(read.transpose(1, 2).flatten(2))


def turned(tokens: Tensor, turn: Rotation) -> Tensor:
    """Rotate pairs of neighbouring channels, in fp32 and without complex numbers, which ONNX has not."""
    cosine, sine = turn
    pairs = tokens.float().unflatten(-1, (-1, 2))
    across = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return (tokens.float() * cosine + across * sine).to(tokens.dtype)
