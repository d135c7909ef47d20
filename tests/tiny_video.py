"""Small teachers with a memory of SAM's own width, 64, which the library's layers take for granted."""

from __future__ import annotations

import torch
from tiny import SIDE, spread
from transformers import Sam2ImageProcessor, Sam2VideoConfig, Sam2VideoModel

from phd.teachers import Teacher, new_toy
from phd.teachers.sam2 import make_sam2

HIDDEN = 128


def tiny_sam2_video(seed: int = 0) -> Teacher:
    """SAM 2.1 with a Hiera of five blocks and a memory attention of two layers on an 8 x 8 grid."""
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 48, 64],
        "num_attention_heads_per_stage": [1, 2, 2, 2],
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3],
        "mlp_ratio": 2.0,
    }
    config = Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [64, 48, 32, 16],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": HIDDEN,
        },
        prompt_encoder_config={"hidden_size": HIDDEN, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": HIDDEN,
            "mlp_dim": 128,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
            "num_hidden_layers": 2,
        },
        image_size=SIDE,
        memory_attention_hidden_size=HIDDEN,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=HIDDEN,
        mask_downsampler_embed_dim=HIDDEN,
        memory_fuser_embed_dim=HIDDEN,
        memory_fuser_intermediate_dim=64,
    )
    processor = Sam2ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_sam2("tiny-sam2-video", spread(Sam2VideoModel(config)), processor)


def tiny_sam3_video() -> Teacher:
    """The toy's architecture, which has SAM 3's tracker."""
    return new_toy()
