"""Find every instance of a concept on an image that is encoded already."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from phd.concept_prompts import VISUAL, Exemplars, TextFeatures
from phd.contract import Detections, ImageFeatures
from phd.errors import UserError
from phd.preprocess import boxes_to_canvas
from phd.segmenter import Segmenter

# Pairs answered at once: at 1008 pixels each takes 85 MB for its finest level alone.
CHUNK = 4
# Masks brought to the size of the image at once.
MASK_CHUNK = 16


@dataclass
class Detection:
    """One instance of a phrase.

    Attributes:
        phrase: What was asked; "visual" where exemplars alone were given.
        mask: (H, W) bool.
        box: x0 y0 x1 y1 in image pixels, x1 and y1 edges, as the detector predicts it; not the mask's own.
        score: Probability that the phrase is there and this is an instance, the product of the two, in [0, 1].
        presence: Probability that the phrase is there at all, the same for all instances of a phrase, in [0, 1].
    """

    phrase: str
    mask: np.ndarray
    box: list[float]
    score: float
    presence: float


@dataclass
class PhraseAnswer:
    """What a model says of one phrase.

    Attributes:
        phrase: What was asked; "visual" where exemplars alone were given.
        presence: Probability that it is there at all, in [0, 1], also where nothing was found.
        detections: Its instances, the best first.
    """

    phrase: str
    presence: float
    detections: list[Detection]


def answers_on(
    model: Segmenter,
    features: ImageFeatures,
    size: tuple[int, int],
    phrases: Sequence[str],
    exemplars: Sequence[tuple[Sequence[float], int]] = (),
    threshold: float = 0.5,
    nms: float | None = None,
    text: TextFeatures | None = None,
) -> list[PhraseAnswer]:
    """Presence and instances of phrases on one image, in the order of the phrases.

    SAM 3 keeps what has a score above 0.5 and suppresses nothing on images; on video it suppresses masks that overlap
    a better one by an IoU of more than 0.1.

    Args:
        model: In eval mode.
        features: Of one image, with the detector's branch.
        size: Height and width of the image, in pixels.
        phrases: Noun phrases; none where exemplars alone say what is meant.
        exemplars: Checked boxes x0 y0 x1 y1 in image pixels, each with 1 for an instance or 0 for none; they go with
            every phrase.
        threshold: Keep scores above it, in [0, 1].
        nms: Suppress a mask that overlaps a better one of its phrase by an IoU above this; None for never.
        text: The phrases, encoded before; phrases that were cut are then the caller's to report.

    Raises:
        UserError: Nothing is asked, a phrase is empty, or the threshold is out of range.
    """
    if not phrases and not exemplars:
        raise UserError("neither a phrase nor an exemplar; give a noun phrase, or a box of an instance")
    if not phrases and all(label == 0 for _, label in exemplars):
        raise UserError("exemplars that are negative only do not say what is meant; give a phrase or a positive one")
    for name, value in (("threshold", threshold), ("nms", nms)):
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"{name} is {value}; give a number from 0 to 1")
    asked = list(phrases) or [VISUAL]
    if text is None:
        text = model.encode_text(asked)
        if text.cut:
            warnings.warn(f"{text.cut} of {len(asked)} phrases are longer than the text encoder reads and were cut",
                          stacklevel=4)  # fmt: skip
    boxes = _exemplars(model, exemplars, size, features.branches["detector"][0].device)
    found: list[PhraseAnswer] = []
    for chunk in torch.arange(len(asked), device=text.tokens.device).split(CHUNK):
        shown = None if boxes is None else Exemplars(*(part.expand(len(chunk), -1, *part.shape[2:]) for part in boxes))
        answer = model.detect(features, text, torch.zeros_like(chunk), shown, text_index=chunk)
        for pair, number in enumerate(chunk.tolist()):
            instances = _instances(model, answer, pair, asked[number], size, threshold, nms)
            assert answer.presence is not None
            found.append(PhraseAnswer(asked[number], float(answer.presence[pair].sigmoid()), instances))
    return found


def suppress(masks: Tensor, scores: Tensor, limit: float) -> Tensor:
    """Indices (K,) of the masks that survive greedy non-maximum suppression, best first.

    Args:
        masks: (N, H, W) bool.
        scores: (N,).
        limit: A mask goes if its IoU with a better one that stays is above this.
    """
    flat = masks.flatten(1).float()
    common = flat @ flat.T
    areas = flat.sum(dim=1)
    overlap = common / (areas[:, None] + areas[None, :] - common).clamp(min=1)
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if not any(overlap[index, other] > limit for other in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=masks.device)


def coco_result(detection: Detection, image_id: int, category_id: int) -> dict[str, Any]:
    """An entry of COCO's results format: box x y width height in pixels, mask as run lengths.

    `category_name` and `presence` are ours; readers of the format leave them alone.
    """
    x0, y0, x1, y1 = detection.box
    counts = coco_mask.encode(np.asfortranarray(detection.mask, dtype=np.uint8))["counts"]
    return {
        "image_id": image_id,
        "category_id": category_id,
        "category_name": detection.phrase,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": detection.score,
        "presence": detection.presence,
        "segmentation": {
            "size": list(detection.mask.shape),
            "counts": counts if isinstance(counts, str) else counts.decode("ascii"),
        },
    }


def _exemplars(
    model: Segmenter, exemplars: Sequence[tuple[Sequence[float], int]], size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Boxes (1, n, 4) in contract pixels and labels (1, n)."""
    if not exemplars:
        return None
    boxes = torch.tensor([[list(box) for box, _ in exemplars]], dtype=torch.float32)
    labels = torch.tensor([[label for _, label in exemplars]])
    return boxes_to_canvas(boxes, model.contract, *size).to(device), labels.to(device)


def _instances(
    model: Segmenter,
    answer: Detections,
    pair: int,
    phrase: str,
    size: tuple[int, int],
    threshold: float,
    nms: float | None,
) -> list[Detection]:
    assert answer.presence is not None
    height, width = size
    scores = answer.scores[pair]
    query = (scores > threshold).nonzero()[:, 0]
    query = query[scores[query].argsort(descending=True, stable=True)]
    if not len(query):
        return []
    logits = answer.masks_at(torch.full_like(query, pair), query)
    masks = torch.cat([model.contract.to_image(part, height, width) > 0 for part in logits.split(MASK_CHUNK)])
    if nms is not None:
        kept = suppress(masks, scores[query], nms)
        query, masks = query[kept], masks[kept]
    centre, extent = answer.boxes[pair, query].chunk(2, dim=-1)
    # From [0, 1] of the canvas to image pixels; the content fills a known part of it.
    scale = model.contract.to_canvas(centre.new_ones(2), height, width) / model.contract.image_size
    corners = torch.cat([(centre - extent / 2) / scale, (centre + extent / 2) / scale], dim=-1)
    corners = corners.clamp(min=0).minimum(corners.new_tensor([width, height, width, height]))
    presence = float(answer.presence[pair].sigmoid())
    rows = zip(masks.cpu().numpy(), corners.tolist(), scores[query].tolist(), strict=True)
    return [Detection(phrase, mask, box, score, presence) for mask, box, score in rows]
