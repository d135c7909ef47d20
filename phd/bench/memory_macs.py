"""Multiply-accumulates of a tracker's memory, by arithmetic.

Counted are linear layers, convolutions and the two products of each attention; norms, activations, rotary codes and the
element-wise recurrence of the state space are not. A multiply-accumulate (MAC) is two operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from phd.heads.memory.compressors import MemorySettings
from phd.heads.memory.state_space import EXPANSION

FEED_FORWARD_RATIO = 4  # of the Perceiver's layers


@dataclass(frozen=True)
class ReadSize:
    """What one object reads in one frame.

    Attributes:
        queries: Cells of the frame.
        keys: Memory tokens of all slots, object pointers among them.
        width: Channels of the queries.
        memory_width: Channels of the memory.
        hidden: Width of the feed-forward layer.
        layers: Of the memory attention.
    """

    queries: int
    keys: int
    width: int = 256
    memory_width: int = 64
    hidden: int = 2048
    layers: int = 4


def read_macs(size: ReadSize) -> dict[str, int]:
    """MACs of the memory attention (SAM 2, arXiv 2408.00714, section 4), all layers together, by part."""
    queries, keys, width = size.queries, size.keys, size.width
    projection = queries * width * width
    # Queries, keys, values and output; then the scores, and the mean that they weigh.
    self_attention = 4 * projection + 2 * queries * queries * width
    cross_attention = 2 * projection + 2 * keys * size.memory_width * width + 2 * queries * keys * width
    feed_forward = 2 * queries * width * size.hidden
    parts = {"self_attention": self_attention, "cross_attention": cross_attention, "feed_forward": feed_forward}
    return {name: size.layers * macs for name, macs in parts.items()}


def write_macs(settings: MemorySettings, grid: int, dim: int) -> int:
    """MACs of the compression of one frame's memory map.

    Args:
        settings: Of the compressor.
        grid: Cells on a side of the map.
        dim: Channels of the memory.
    """
    cells = grid * grid
    if settings.kind in ("none", "pool"):
        return 0
    if settings.kind == "state_space":
        inner = EXPANSION * dim
        # In, a convolution over 3 cells for each channel, decays both ways, out.
        return settings.depth * cells * (2 * dim * inner + 3 * inner + 2 * inner * inner + inner * dim)
    total = 0
    if settings.kind in ("flat", "both") and settings.num_global:
        total += _path_macs(settings.num_global, cells, dim, read=cells, mixed=settings.num_global)
    if settings.kind in ("spatial", "both") and settings.windows:
        windows = settings.windows**2
        # A window's latent reads the cells of its window, and in the self-attention itself alone.
        total += _path_macs(windows, cells, dim, read=cells // windows, mixed=1)
    return settings.depth * total


def _path_macs(latents: int, cells: int, dim: int, read: int, mixed: int) -> int:
    """One layer of the Perceiver: each latent reads `read` cells, then `mixed` latents."""
    cross_attention = 2 * (latents + cells) * dim * dim + 2 * latents * read * dim
    self_attention = 4 * latents * dim * dim + 2 * latents * mixed * dim
    feed_forward = 2 * (2 * FEED_FORWARD_RATIO * latents * dim * dim)
    return cross_attention + self_attention + feed_forward
