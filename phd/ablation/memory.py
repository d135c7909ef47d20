"""The memories that the paper's second experiment compares (EfficientSAM3, arXiv 2511.15833), on any grid."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import cast, get_args

from phd.ablation.plan import Variant
from phd.errors import UserError
from phd.heads.memory.compressors import CompressorKind, MemorySettings, nearest_windows

# A kind, and the number of tokens that it should come as near to as the grid allows.
NAMES = (
    "dense",
    "flat_128",
    "spatial_128",
    "both_64",
    "both_128",
    "both_256",
    "pool_128",
    "state_space_128",
)
KINDS = [kind for kind in get_args(CompressorKind) if kind != "none"]
WORDS = {
    "none": "dense",
    "flat": "flat, global latents",
    "spatial": "spatial, a latent for each window",
    "both": "both",
    "pool": "average pooling",
    "state_space": "state space",
}


def nearest_settings(kind: CompressorKind, tokens: int, grid: int, depth: int = 2) -> MemorySettings:
    """The legal settings of a kind whose number of tokens is nearest to the one asked for.

    `both` gives as near to half of them as is legal to the windows, as 64 + 8 x 8 does, and the rest to global latents.

    Args:
        kind: Of the compressor.
        tokens: Asked for; not read for `none`.
        grid: Cells on a side of the memory's map.
        depth: Layers of the compressor.

    Raises:
        UserError: Fewer than 1 token, or fewer than 2 for `both`.
    """
    least = 2 if kind == "both" else 1
    if kind != "none" and tokens < least:
        raise UserError(f"{kind}: {tokens} tokens for each frame; give at least {least}")
    if kind == "none":
        return MemorySettings("none", 0, 0, depth)
    if kind == "flat":
        return MemorySettings("flat", tokens, 0, depth)
    windows = nearest_windows(grid, tokens)
    if kind != "both":
        return MemorySettings(kind, 0, windows, depth)
    windows = nearest_windows(grid, tokens // 2)
    while windows**2 >= tokens:  # at least one global latent
        windows = max(count for count in range(1, windows) if grid % count == 0)
    return MemorySettings("both", tokens - windows**2, windows, depth)


def count_tokens(settings: MemorySettings, grid: int) -> int:
    """Tokens that a frame leaves for each object."""
    if settings.kind == "none":
        return grid * grid
    if settings.kind == "flat":
        return settings.num_global
    return settings.windows**2 + (settings.num_global if settings.kind == "both" else 0)


def memory_variant(name: str, grid: int) -> Variant:
    """A variant by its name, such as `both_128`: a kind and the number of tokens asked for; or `dense`.

    Raises:
        UserError: No such kind, or a number that is too small.
    """
    match = re.fullmatch(rf"({'|'.join(KINDS)})_(\d+)", name)
    if match is None and name != "dense":
        raise UserError(
            f"--only {name}: no such memory; give dense, or KIND_TOKENS with KIND one of {', '.join(KINDS)}"
        )
    kind = cast(CompressorKind, match[1]) if match else "none"
    settings = nearest_settings(kind, int(match[2]) if match else 0, grid)
    written = ", ".join(f"{key}: {value}" for key, value in asdict(settings).items())
    facts = {"label": label(settings), "tokens": count_tokens(settings, grid), "settings": asdict(settings)}
    return Variant(name, (f"--model.memory={{{written}}}",), facts)


def label(settings: MemorySettings) -> str:
    """As the table calls it."""
    windows = f"{settings.windows} x {settings.windows}"
    if settings.kind in ("none", "flat"):
        return WORDS[settings.kind]
    if settings.kind == "both":
        return f"both, {settings.num_global} global + {windows} windows"
    return f"{WORDS[settings.kind]} ({windows})"
