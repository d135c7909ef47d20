"""The embedded teacher: SAM 3's own classes, narrow, for the embedded world of shapes.

A patch of 8 pixels and 128 channels let a token carry its patch without loss (192 values), so thin shapes survive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Sam3ImageProcessor, Sam3VideoConfig, Sam3VideoModel

from phd.errors import UserError
from phd.heads import require_whole_patches
from phd.teachers.base import Teacher
from phd.teachers.sam3 import make_sam3

SHIPPED = Path(__file__).with_name("toy.safetensors")
TOY_SIZE = 128
# The weights segment and track best at the first; the second has four ninths of its cells, for recipes on a CPU.
TOY_TEACHERS = {"toy-teacher": 192, "toy-teacher-128": 128}
WIDTH = 128
MEMORY_PARTS = (
    "tracker_model.mask_downsample.",
    "tracker_model.memory_attention.",
    "tracker_model.memory_encoder.",
    "tracker_model.memory_temporal_positional_encoding",
    "tracker_model.temporal_positional_encoding_projection_layer.",
    "tracker_model.object_pointer_proj.",
    "tracker_model.no_object_pointer",
    "tracker_model.occlusion_spatial_embedding_parameter",
)
DETECTOR_PARTS = (
    "detector_model.vision_encoder.neck.",
    "detector_model.text_encoder.",
    "detector_model.text_projection.",
    "detector_model.geometry_encoder.",
    "detector_model.detr_encoder.",
    "detector_model.detr_decoder.",
    "detector_model.dot_product_scoring.",
    "detector_model.mask_decoder.",
)
# What `make toy-teacher` trains; everything else keeps its seeded start.
TRAINED_PARTS = (
    "detector_model.vision_encoder.backbone.",
    "tracker_neck.",
    "tracker_model.shared_image_embedding.",
    "tracker_model.prompt_encoder.",
    "tracker_model.mask_decoder.",
    "tracker_model.no_memory_embedding",
    *MEMORY_PARTS,
    *DETECTOR_PARTS,
)
# The coarsest level of both necks, which SAM 3 makes and nobody reads.
UNREAD = ("tracker_neck.fpn_layers.3.", "detector_model.vision_encoder.neck.fpn_layers.3.")
PATCH = 8
POSITION_SCALE = 0.35


def toy_config(image_size: int = TOY_SIZE) -> Sam3VideoConfig:
    """The configuration; `image_size` in pixels, a multiple of 8. The weights do not depend on it.

    Raises:
        UserError: The size is no multiple of 8.
    """
    require_whole_patches(image_size, PATCH)
    grid = image_size // PATCH
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "image_size": image_size,
        "patch_size": PATCH,
        "window_size": 8,
        "global_attn_indexes": [1, 3, 5],
        "pretrain_image_size": 64,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[factor * grid] * 2 for factor in (4, 2, 1)],
    }
    layer = {"hidden_size": WIDTH, "num_attention_heads": 4, "intermediate_size": WIDTH, "dropout": 0.0}
    text = {
        "model_type": "clip_text_model",
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 256,
        "projection_dim": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        # Token ids of the toy vocabulary's own specials, inside its 512 entries.
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": {**layer, "num_layers": 1, "roi_size": 3},
        "detr_encoder_config": {**layer, "num_layers": 2},
        "detr_decoder_config": {**layer, "num_layers": 3, "num_queries": 24},
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 4},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": WIDTH, "image_size": image_size, "patch_size": PATCH},
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": 2 * WIDTH,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": WIDTH,
            # Its candidates are taught by lone points only, so a box must not fall back to them.
            "dynamic_multimask_via_stability": False,
        },
        "image_size": image_size,
        # Several candidates would let a tracker learn to find things without learning which one was asked for.
        "multimask_output_for_tracking": False,
        # `TrackRules`, the first two by the names of SAM 3's and SAM 2's own code; the library reads none of them.
        "use_memory_selection": True,
        "non_overlap_masks": True,
        "contested_mask_iou": 0.5,
        "exchanged_look_ratio": 0.8,
        "guided_filter_cells": 5,
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 2 * WIDTH,
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_encoder_hidden_size": WIDTH,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": WIDTH,
    }
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * grid)


def toy_processor(image_size: int = TOY_SIZE) -> Any:
    """The image processor that belongs to the toy."""
    size, mask_size = ({"height": side, "width": side} for side in (image_size, image_size // PATCH * 4))
    return Sam3ImageProcessor(size=size, mask_size=mask_size)


def new_toy(image_size: int = TOY_SIZE, seed: int = 0) -> Teacher:
    """The toy with fresh weights.

    The library's initialisation (standard deviation 0.02) shrinks signals at this width, so linear and
    convolution weights start as Xavier's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sam3VideoModel(toy_config(image_size))
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        settle_scales(model)
    # Points and cells must share one code of positions; the library draws two.
    tracker = model.tracker_model
    tracker.shared_image_embedding.positional_embedding.copy_(
        tracker.prompt_encoder.shared_embedding.positional_embedding
    )
    return make_sam3("toy-random", model, toy_processor(image_size))


def settle_scales(model: Any) -> None:
    """Let the mask decoder find the place of a prompt from the first step; without this it ignores the prompt.

    The code of positions gets wider waves, because this grid is coarser than SAM's. Queries and keys of the
    cross-attention start equal, so that a point attends to the cells around it, and the tokens that say what kind a
    point is start small beside where it is. Every level starts at a chosen scale, measured on noise (LSUV, Mishkin
    and Matas, arXiv 1511.06422): the finer ones at 1, the coarsest below that of the positions.
    """
    tracker = model.tracker_model
    tracker.prompt_encoder.shared_embedding.positional_embedding.mul_(POSITION_SCALE)
    for module in tracker.prompt_encoder.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
    for module in tracker.mask_decoder.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)
    for name, module in tracker.mask_decoder.named_modules():
        if name.rsplit(".", 1)[-1].startswith(("cross_attn", "final_attn")):
            module.q_proj.weight.data.mul_(1.5)
            module.k_proj.weight.data.copy_(module.q_proj.weight.data)
    vision = model.detector_model.vision_encoder
    side = vision.backbone.config.image_size
    with torch.no_grad():
        tokens = vision.backbone(torch.randn(2, 3, side, side) * 0.5).last_hidden_state
        grid = tokens.transpose(1, 2).unflatten(2, (side // PATCH, side // PATCH))
        for neck in (model.tracker_neck, vision.neck):
            levels, _ = neck(grid)
            for layer, level, scale in zip(neck.fpn_layers, levels, (1.0, 1.0, 0.5, 0.5), strict=True):
                layer.proj2.weight.mul_(scale / level.std())


def shipped_toy(name: str = "toy-teacher", image_size: int | None = None) -> Teacher:
    """The trained toy.

    The file holds, in fp16, what was trained; what it lacks is drawn from the seed.

    Args:
        name: A key of `TOY_TEACHERS`, which all have the same weights.
        image_size: Run at this size instead of the one that belongs to the name, in pixels.

    Raises:
        UserError: The file is not there.
    """
    if not SHIPPED.exists():
        raise UserError(
            f"{SHIPPED}: the embedded teacher is missing; reinstall, or make it again with `make toy-teacher`"
        )
    teacher = new_toy(TOY_TEACHERS[name] if image_size is None else image_size)
    state = teacher.model.state_dict()
    for key, tensor in load_file(SHIPPED).items():
        state[key].copy_(tensor)
    teacher.name = name
    return teacher


def shipped_parts(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What of a trained toy's state dict is shipped, in fp16."""
    return {
        name: tensor.half().contiguous()
        for name, tensor in state.items()
        if name.startswith(TRAINED_PARTS) and not name.startswith(UNREAD) and tensor.is_floating_point()
    }
