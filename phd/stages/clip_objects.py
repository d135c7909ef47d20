"""The objects of a batch of clips, one entry of the batch dimension each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from phd.batches import ClipBatch
from phd.contract import Contract


@dataclass
class ClipObjects:
    """N objects with the masks that they are compared with; the frames of the clip come first.

    Attributes:
        clip_index: (N,) clip of each object.
        target: (T, N, m, m) float in {0, 1}; all 0 where the object is not to be seen.
        labelled: (T, N) bool, whether the target is known.
        void: (T, N, m, m) bool, cells that count neither way, those on padding among them.
    """

    clip_index: Tensor
    target: Tensor
    labelled: Tensor
    void: Tensor

    @classmethod
    def of(cls, batch: ClipBatch, contract: Contract) -> ClipObjects:
        """The valid places of a batch with their ground truth."""
        clips, places = batch.valid.nonzero(as_tuple=True)
        padding = ~contract.content_mask(batch.content, batch.void.shape[-1])
        void = batch.void | padding.unsqueeze(1)
        return cls(
            clips,
            batch.masks[clips, :, places].transpose(0, 1).float(),
            batch.labelled[clips].T,
            void[clips].transpose(0, 1),
        )

    def __len__(self) -> int:
        return len(self.clip_index)
