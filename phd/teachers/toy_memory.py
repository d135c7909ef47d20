"""A start from which the embedded teacher's memory learns: look where it looked alike, and bring back the mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phd.teachers.base import Teacher

# Scale of queries and keys: a cell finds its own look among some 1,800 tokens with a logit of about 6.
MATCH_GAIN = 1.2
# What is read from memory beside what is there, in standard deviations of the features.
READ_SCALE = 0.5


@torch.no_grad()
def settle_memory(teacher: Teacher, images: Tensor, seed: int = 0) -> None:
    """Start the memory of a tracker from the features that stage 1 has taught it.

    From the library's start a memory of this width learns to find some object, not the one that was asked for: the
    features of stage 1 are tens of times larger than the code of a mask that is added to them, and queries and keys
    are not related. Here, as in data-dependent initialisation (Mishkin and Matas, arXiv 1511.06422), the memory
    encoder brings features to mean 0 and deviation 1; keys are the projection that makes the memory, and queries its
    transpose, so that attention starts as a comparison of looks; values come back through the same projection, so
    that the first reading is a feature like the cell's own with the code of its mask.

    Args:
        teacher: Of SAM 3's classes; changed in place.
        images: (B, 3, S, S) normalised, some images of the world that it is to track in.
        seed: Of the projection.
    """
    tracker = teacher.heads.tracker_model
    cells = teacher.encode(images, ("tracker",)).tracker[-1].permute(0, 2, 3, 1).flatten(0, 2)
    mean, size = cells.mean(0), cells.square().mean().sqrt()
    spread = (cells - mean).square().mean().sqrt()
    normed = nn.functional.layer_norm(cells, cells.shape[1:])

    encoder = tracker.memory_encoder
    width, channels = encoder.projection.weight.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    down = torch.linalg.qr(torch.randn(channels, width, generator=generator)).Q.T
    same = torch.eye(channels)
    encoder.feature_projection.weight.copy_((same / spread)[..., None, None])
    encoder.feature_projection.bias.copy_(-mean / spread)
    encoder.projection.weight.copy_(down[..., None, None])
    encoder.projection.bias.zero_()
    for block in encoder.memory_fuser.layers:
        block.scale.fill_(0.1)
    for layer in tracker.memory_attention.layers:
        read = layer.cross_attn_image
        read.q_proj.weight.copy_(MATCH_GAIN * same)
        read.q_proj.bias.copy_(-MATCH_GAIN * normed.mean(0))
        read.k_proj.weight.copy_(MATCH_GAIN * down.T)
        read.v_proj.weight.copy_(down.T)
        read.o_proj.weight.copy_(READ_SCALE * spread * same)
        for branch in (layer.self_attn.o_proj, layer.linear2):
            branch.weight.mul_(0.1 * spread)
    # The mask decoder goes on reading features of the size it knows.
    tracker.memory_attention.layer_norm.weight.fill_(float(size))
