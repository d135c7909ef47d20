"""Tiny SAM and SAM 2 teachers with random weights, 128 px."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Sam2ImageProcessor, Sam2VideoConfig, Sam2VideoModel, SamConfig, SamImageProcessor, SamModel

from phd.teachers import Teacher
from phd.teachers.sam import make_sam
from phd.teachers.sam2 import make_sam2

SIDE = 128
WIDTH = 32

PROMPT_ENCODER = {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 16}
MASK_DECODER = {"hidden_size": WIDTH, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": WIDTH}


def tiny_sam(seed: int = 0) -> Teacher:
    """SAM with two layers: one level 32 x 8 x 8."""
    config = SamConfig(
        vision_config={
            "hidden_size": WIDTH,
            "output_channels": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
            "mlp_dim": 64,
            "num_pos_feats": WIDTH // 2,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        prompt_encoder_config=PROMPT_ENCODER,
        mask_decoder_config=MASK_DECODER,
    )
    processor = SamImageProcessor(
        size={"longest_edge": SIDE},
        pad_size={"height": SIDE, "width": SIDE},
        mask_size={"longest_edge": SIDE // 4},
        mask_pad_size={"height": SIDE // 4, "width": SIDE // 4},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_sam("tiny-sam", spread(SamModel(config)), processor)


def tiny_sam2(seed: int = 0) -> Teacher:
    """SAM 2 with levels 32 x 32 x 32, 32 x 16 x 16, 32 x 8 x 8."""
    memory = {"memory_attention_num_layers": 1, "memory_encoder_output_channels": 16}
    return sam2_of("tiny-sam2", seed, MASK_DECODER, **memory, memory_fuser_intermediate_dim=WIDTH)


def sam2_of(name: str, seed: int, mask_decoder: dict[str, int], **memory: Any) -> Teacher:
    """SAM 2 with a Hiera of five blocks, as wide as its mask decoder, and settings of its memory."""
    width = mask_decoder["hidden_size"]
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
            "fpn_hidden_size": width,
        },
        prompt_encoder_config={**PROMPT_ENCODER, "hidden_size": width},
        mask_decoder_config=mask_decoder,
        image_size=SIDE,
        memory_attention_hidden_size=width,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        **memory,
    )
    processor = Sam2ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_sam2(name, spread(Sam2VideoModel(config)), processor)


def spread(model):
    """Xavier weights: the library's own are so small that a random model answers the same to everything."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
    return model
