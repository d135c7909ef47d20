"""A start from which the embedded teacher's detector learns: boxes in many places, and masks and scores of size 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.sam3.modeling_sam3 import inverse_sigmoid

from phd.contract import ImageFeatures
from phd.teachers.base import Teacher

# Side of the reference boxes, as a share of the image: about that of a thing of the embedded world.
REFERENCE_SIDE = 0.3
# How fast a query's attention falls off outside its box, by head: the first look at the box, the last at everything.
FALL_OFF = (8.0, 4.0, 1.0, 0.0)


@torch.no_grad()
def settle_detector(teacher: Teacher, images: Tensor, phrases: list[str], seed: int = 0) -> None:
    """Start the detector from the features that stage 1 has taught the tracker.

    From the library's start a detector of this width predicts the boxes that it starts from: all reference boxes lie
    on top of each other, and signals shrink on their way. Here its neck is the tracker's, brought to mean 0 and
    deviation 1, as in data-dependent initialisation (Mishkin and Matas, arXiv 1511.06422); queries differ, their boxes
    are spread over the image and are predicted unchanged at first, and each looks at its own box before it looks
    elsewhere; words are as large as what is made of them.

    Args:
        teacher: Of SAM 3's classes; changed in place.
        images: (B, 3, S, S) normalised, some images of the world that it is to detect in.
        phrases: Some phrases of it, by which scores and masks are brought to size.
        seed: Of queries and words.
    """
    generator = torch.Generator().manual_seed(seed)
    _take_the_trackers_neck(teacher, images)
    embeddings: Any = teacher.text.encoder.embeddings
    embeddings.token_embedding.weight.normal_(generator=generator)
    embeddings.position_embedding.weight.normal_(std=0.1, generator=generator)
    decoder: Any = teacher.heads.detector_model["detr_decoder"]
    decoder.query_embed.weight.normal_(generator=generator)
    decoder.presence_token.weight.normal_(generator=generator)
    decoder.reference_points.weight.copy_(inverse_sigmoid(spread_boxes(len(decoder.reference_points.weight))))
    for parameter in decoder.box_head.layer3.parameters():
        parameter.zero_()
    for edges in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
        _look_at_the_box(edges)
    _settle_masks(teacher, images, phrases)


def spread_boxes(count: int) -> Tensor:
    """(count, 4) boxes cx cy w h in [0, 1] whose centres fill the image evenly (Roberts' R2 sequence)."""
    ratio = 1.324717957244746
    steps = torch.tensor([1 / ratio, 1 / ratio**2], dtype=torch.float64)
    centres = (0.5 + torch.arange(1, count + 1)[:, None] * steps) % 1
    margin = REFERENCE_SIDE / 2
    sides = torch.full((count, 2), REFERENCE_SIDE)
    return torch.cat([(margin + (1 - 2 * margin) * centres).float(), sides], dim=1)


def _take_the_trackers_neck(teacher: Teacher, images: Tensor) -> None:
    """The tracker's neck has learnt what a thing is; its two last convolutions share the change of scale."""
    necks = teacher.neck.necks
    necks["detector"].load_state_dict(necks["tracker"].state_dict())
    levels = teacher.encode(images, ("detector",)).branches["detector"]
    # The neck has one layer more than the levels that are read.
    for layer, level in zip(necks["detector"].fpn_layers, levels, strict=False):
        mean = level.mean((0, 2, 3))
        size = (level - mean[:, None, None]).square().mean().sqrt()
        for parameter in (*layer.proj1.parameters(), layer.proj2.weight):
            parameter.div_(size.sqrt())
        layer.proj2.bias.sub_(mean).div_(size)


def _look_at_the_box(edges: Any) -> None:
    """Turn the distances from a box's two edges into what attention loses outside the box.

    Two of the hidden units hold how far a cell lies before the first edge and behind the second; each head subtracts
    its share. The other units start small.
    """
    edges.layer1.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    edges.layer1.bias[:2] = 0.0
    edges.layer2.weight.mul_(0.1)
    heads = len(edges.layer2.weight)
    fall_off = torch.tensor([FALL_OFF[head * len(FALL_OFF) // heads] for head in range(heads)])
    edges.layer2.weight[:, :2] = -fall_off[:, None]


def _settle_masks(teacher: Teacher, images: Tensor, phrases: list[str]) -> None:
    """Mask logits of deviation 1 around 0, and scores of deviation 1."""
    heads, text = teacher.heads, teacher.encode_text(phrases)
    features: ImageFeatures = teacher.encode(images, ("detector",))
    pairs = torch.arange(len(phrases))
    answer = teacher.detect(features, text, pairs % len(images), text_index=pairs)
    queries = answer.logits.shape[1]
    masks = answer.masks_at(pairs.repeat_interleave(queries), torch.arange(queries).repeat(len(phrases)))
    # Both factors of the product take their share, or the smaller one would have the larger gradient.
    decoder = heads.detector_model["mask_decoder"]
    for factor in (decoder.mask_embedder.layers[-1], decoder.instance_projection):
        for parameter in factor.parameters():
            parameter.div_(masks.std().sqrt())
    heads.detector_model["dot_product_scoring"].query_proj.weight.div_(answer.logits.std())
