"""What the detector finds in one frame, on the mask grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phd.concept_prompts import TextFeatures
from phd.contract import ImageFeatures
from phd.predict_concepts import CHUNK, suppress
from phd.segmenter import Segmenter


@dataclass
class FrameDetections:
    """K instances of P phrases.

    Attributes:
        logits: (K, m, m) mask logits.
        scores: (K,) in [0, 1].
        phrase: (K,) number of the phrase.
        presence: (P,) probability that the phrase is there.
    """

    logits: Tensor
    scores: Tensor
    phrase: Tensor
    presence: Tensor

    def __len__(self) -> int:
        return len(self.scores)


def detect_frame(
    model: Segmenter, features: ImageFeatures, text: TextFeatures, threshold: float, nms: float
) -> FrameDetections:
    """Instances of encoded phrases, by phrase and score; see `ConceptTrackSettings`."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    presence: list[Tensor] = []
    for chunk in torch.arange(len(text), device=text.tokens.device).split(CHUNK):
        answer = model.detect(features, text, torch.zeros_like(chunk), text_index=chunk)
        assert answer.presence is not None
        presence.append(answer.presence.sigmoid())
        for pair, number in enumerate(chunk.tolist()):
            scores = answer.scores[pair]
            query = (scores > threshold).nonzero()[:, 0]
            query = query[scores[query].argsort(descending=True, stable=True)]
            logits = answer.masks_at(torch.full_like(query, pair), query).float()
            kept = suppress(logits > 0, scores[query], nms)
            parts.append((logits[kept], scores[query][kept], torch.full_like(kept, number)))
    logits, scores, phrase = (torch.cat(column) for column in zip(*parts, strict=True))
    return FrameDetections(logits, scores, phrase, torch.cat(presence))
