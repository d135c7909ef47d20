"""A student's memory: a compressor in place of the teacher's dense map, and perhaps fewer layers that read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

from torch import nn

from phd.errors import UserError
from phd.heads.memory.compressors import MemorySettings, build_compressor
from phd.heads.memory.video import VideoHeads
from phd.student.inherit import Inheritance, inherit


def fit_memory(heads: nn.Module, memory: dict[str, Any] | None, layers: int | None) -> None:
    """Give new heads the memory that a student's configuration describes.

    Args:
        heads: As `build_heads` made them, dense and with all layers.
        memory: `MemorySettings` as plain values, or None for the teacher's way.
        layers: Of the memory attention, the first so many; None for all.

    Raises:
        UserError: The family has no memory, or a number is out of range.
    """
    if memory is None and layers is None:
        return
    tracker = _video_heads(heads)
    if memory is not None:
        grid, dim = _grid(tracker)
        tracker.compressor = build_compressor(MemorySettings(**memory), grid, dim)
    if layers is not None:
        attention = tracker.tracker_model.memory_attention
        if not 1 <= layers <= len(attention.layers):
            raise UserError(f"model.memory_layers is {layers}; give 1 to {len(attention.layers)}, or leave it out")
        attention.layers = attention.layers[:layers]


def replace_memory(heads: nn.Module, settings: MemorySettings, layers: int | None) -> Inheritance:
    """Put a new compressor into heads with weights, and keep the first layers of their memory attention.

    Of an earlier compressor it takes over every weight of the same name and shape.

    Args:
        heads: Changed in place.
        settings: Of the new compressor.
        layers: Of the memory attention; None for those that are there.

    Returns:
        The account of all parameters and buffers of the heads.

    Raises:
        UserError: The family has no memory, or a number is out of range.
    """
    tracker = _video_heads(heads)
    names, earlier = set(heads.state_dict()), tracker.compressor
    fit_memory(heads, asdict(settings), layers)
    tracker.compressor.to(next(tracker.parameters()).device)
    old = inherit(tracker.compressor, earlier)
    mine = heads.state_dict()
    new = [f"compressor.{name}" for name in old.new]
    return Inheritance(
        inherited=[name for name in mine if name not in new],
        new=new,
        missing=sorted(names - mine.keys()),
        mismatched=[(f"compressor.{name}", ours, theirs) for name, ours, theirs in old.mismatched],
    )


def _video_heads(heads: nn.Module) -> VideoHeads:
    if not isinstance(heads, VideoHeads):
        raise UserError("model.memory: SAM 1 answers single images and has no memory; take a student of SAM 2 or SAM 3")
    return cast(VideoHeads, heads)


def _grid(heads: VideoHeads) -> tuple[int, int]:
    tracker = heads.tracker_model
    return tracker.backbone_feature_sizes[-1][0], tracker.mem_dim
