"""The one interface of teachers and students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from phd.contract import Branch, Contract, ImageFeatures, Masks, ObjectPrompt, Prompts
from phd.errors import UserError
from phd.heads.memory import streaming
from phd.heads.memory.streaming import TrackState
from phd.heads.memory.video import VideoHeads


class Segmenter(nn.Module):
    """A model with the verbs of the SAM family; teachers and students are the same kind of thing.

    A subclass has `contract`, `name` and `heads`, and implements `encode`. The other verbs belong to the
    heads, which teacher and student share class by class, so that whatever one can do, the other can.
    """

    contract: Contract
    name: str
    heads: Any
    trunk: Any
    neck: Any

    @property
    def verbs(self) -> tuple[str, ...]:
        """What the model can do."""
        return ("encode", "segment", "track") if isinstance(self.heads, VideoHeads) else ("encode", "segment")

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

    def track(
        self,
        frame: Tensor | ImageFeatures,
        state: TrackState | None = None,
        prompts: dict[int, ObjectPrompt] | None = None,
    ) -> TrackState:
        """Answer for the next frame of a video.

        Args:
            frame: (1, 3, S, S) float, normalised, or what `encode` made of it.
            state: What this returned for the frame before; None for the first frame.
            prompts: By object id; an object begins, or begins again, with its prompt.

        Returns:
            The new state; its `answer` has one row for each of its `ids`.

        Raises:
            UserError: The model has no memory, there is no object at all, or a prompt is empty.
        """
        return streaming.track(self._video_heads(), self._features(frame), state, prompts)

    def correct(self, frame: Tensor | ImageFeatures, state: TrackState, prompts: dict[int, ObjectPrompt]) -> TrackState:
        """Answer the latest frame again, with prompts that are read beside the memory.

        Args:
            frame: The latest frame, as in `track`.
            state: What `track` or this returned for it.
            prompts: Points or a box by object id, for objects that are tracked.

        Raises:
            UserError: The model has no memory, an object is unknown, or no frame has been tracked.
        """
        return streaming.correct(self._video_heads(), self._features(frame), state, prompts)

    def _video_heads(self) -> VideoHeads:
        if not isinstance(self.heads, VideoHeads):
            raise UserError(
                f"{self.name}: a model of SAM 1 segments single images and cannot track; take one of SAM 2 or SAM 3"
            )
        return self.heads

    def _features(self, frame: Tensor | ImageFeatures) -> ImageFeatures:
        features = self.encode(frame, ("tracker",)) if isinstance(frame, Tensor) else frame
        count = len(features.tracker[-1])
        if count != 1:
            raise UserError(f"track: {count} images at once; give the frames of a video one at a time")
        return features
