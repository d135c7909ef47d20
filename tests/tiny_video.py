"""Small teachers with a memory of SAM's own width, 64, which the library's layers take for granted."""

from __future__ import annotations

from tiny import MASK_DECODER, sam2_of

from phd.teachers import Teacher, new_toy

HIDDEN = 128


def tiny_sam2_video(seed: int = 0) -> Teacher:
    """SAM 2.1 with a memory attention of two layers on an 8 x 8 grid."""
    mask_decoder = {**MASK_DECODER, "hidden_size": HIDDEN, "mlp_dim": 128}
    memory = {"memory_attention_num_layers": 2, "memory_fuser_intermediate_dim": 64}
    return sam2_of("tiny-sam2-video", seed, mask_decoder, **memory)


def tiny_sam3_video() -> Teacher:
    """The toy's architecture, which has SAM 3's tracker."""
    return new_toy()
