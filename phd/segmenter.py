"""The one interface of teachers and students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from phd.contract import Branch, Contract, ImageFeatures, Masks, Prompts


class Segmenter(nn.Module):
    """A model with the verbs of the SAM family; teachers and students are the same kind of thing.

    A subclass has `contract`, `name` and `heads`, and implements `encode`. The other verbs belong to the
    heads, which teacher and student share class by class, so that whatever one can do, the other can.
    """

    verbs: ClassVar[tuple[str, ...]] = ("encode", "segment")
    contract: Contract
    name: str
    heads: Any
    trunk: Any
    neck: Any

    def encode(self, images: Tensor, branches: Sequence[Branch] | None = None) -> ImageFeatures:
        """Encode normalised images.

        Args:
            images: (B, 3, S, S) float, normalised by `contract.normalise`.
            branches: Which branches to compute; all that the contract has by default.

        Returns:
            The levels that the heads read.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode")

    def gradient_checkpointing(self) -> None:
        """Recompute the trunk's activations in the backward pass."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient_checkpointing")

    def segment(self, features: ImageFeatures, prompts: Prompts, multimask: bool | None = None) -> Masks:
        """Answer prompts (promptable visual segmentation).

        Args:
            features: Of the batch that `prompts.image_index` points into.
            prompts: P prompts of one kind.
            multimask: Ask for several candidates; by default only for a lone point.

        Returns:
            Masks with K candidates for each of the P prompts.
        """
        return self.heads.segment(features, prompts, prompts.ambiguous if multimask is None else multimask)
