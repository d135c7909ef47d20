"""What `detect` is asked: encoded phrases, and boxes of examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# What SAM 3 reads in place of a phrase where there are only exemplars (arXiv 2511.16719, released processor).
VISUAL = "visual"


@dataclass
class TextFeatures:
    """T encoded phrases.

    Attributes:
        tokens: (T, L, C) in the width of the detector.
        mask: (T, L) bool, which tokens belong to the phrase.
        cut: How many of the phrases were longer than the context and lost their end.
    """

    tokens: Tensor
    mask: Tensor
    cut: int = 0

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def detach(self) -> TextFeatures:
        """The same values outside the autograd graph."""
        return TextFeatures(self.tokens.detach(), self.mask, self.cut)


@dataclass
class Exemplars:
    """Boxes that show what is meant, or what is not, for each of P (image, phrase) pairs.

    Attributes:
        boxes: (P, n, 4) boxes x0 y0 x1 y1 in contract pixels; x1 and y1 are edges.
        labels: (P, n) 1 an instance, 0 none, -1 padding; a pair without any box has padding only.
    """

    boxes: Tensor
    labels: Tensor

    def normalised(self, image_size: int) -> tuple[Tensor, Tensor]:
        """Boxes (P, n, 4) as centre x, centre y, width, height in [0, 1], and labels; padding last, its boxes 0."""
        last = (self.labels < 0).int().argsort(dim=1, stable=True)
        labels, boxes = self.labels.gather(1, last), self.boxes.gather(1, last[..., None].expand_as(self.boxes))
        low, high = boxes[..., :2] / image_size, boxes[..., 2:] / image_size
        centred = torch.cat([(low + high) / 2, high - low], dim=-1)
        return centred.masked_fill((labels < 0)[..., None], 0.0), labels
