"""What the data modules hand to the stages: one batch type for each stage."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from torch import Tensor

BatchType = TypeVar("BatchType", "ImageBatch", "ClipBatch", "ConceptBatch")


def pinned(batch: BatchType) -> BatchType:
    """The batch with every tensor in page-locked memory."""
    values = {entry.name: getattr(batch, entry.name) for entry in fields(batch)}
    changed: dict[str, Any] = {
        name: value.pin_memory() for name, value in values.items() if isinstance(value, Tensor | CachedTrunk)
    }
    return replace(batch, **changed)


@dataclass
class CachedTrunk:
    """What the teacher's trunk made of a batch, as the cache stores it; scaled on the device.

    Attributes:
        levels: The maps of `contract.trunk`, finest first, each (B, C, h, w) int8, float16 or bfloat16.
        scales: For int8, what each channel is multiplied with, (B, C) float16 by level; None otherwise.
    """

    levels: tuple[Tensor, ...]
    scales: tuple[Tensor, ...] | None

    def pin_memory(self) -> CachedTrunk:
        """The same in page-locked memory."""
        scales = None if self.scales is None else tuple(scale.pin_memory() for scale in self.scales)
        return CachedTrunk(tuple(level.pin_memory() for level in self.levels), scales)

    def to(self, device: Any, non_blocking: bool = False) -> CachedTrunk:
        """The same on a device; Lightning calls this for each batch."""
        scales = None if self.scales is None else tuple(s.to(device, non_blocking=non_blocking) for s in self.scales)
        return CachedTrunk(tuple(level.to(device, non_blocking=non_blocking) for level in self.levels), scales)

    def dequantised(self) -> tuple[Tensor, ...]:
        """The maps in float32."""
        if self.scales is None:
            return tuple(level.float() for level in self.levels)
        pairs = zip(self.levels, self.scales, strict=True)
        return tuple(level.float() * scale.float()[:, :, None, None] for level, scale in pairs)


@dataclass
class ImageBatch:
    """A batch of stage 1.

    Attributes:
        images: (B, 3, S, S) uint8 RGB canvas.
        content: (B, 2) height and width of the filled part, in contract pixels.
        masks: (B, M, m, m) uint8 {0, 1} instance masks on the mask grid of the canvas, or on one that is a whole number
            of times finer.
        valid: (B, M) bool, which of the M places hold an instance.
        keys: The B sample keys.
        cached: What the teacher's trunk made of the images, from a cache; None without one.
    """

    images: Tensor
    content: Tensor
    masks: Tensor
    valid: Tensor
    keys: list[str] = field(default_factory=list)
    cached: CachedTrunk | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    def pin_memory(self) -> ImageBatch:
        """The batch in page-locked memory; the data loader calls this on a GPU machine."""
        return pinned(self)


@dataclass
class ClipBatch:
    """A batch of stage 2: B clips of T frames with up to M objects each.

    Attributes:
        frames: (B, T, 3, S, S) uint8 RGB canvases.
        content: (B, 2) height and width of the filled part, in contract pixels; the same for all frames of a clip.
        masks: (B, T, M, m, m) uint8 {0, 1} object masks on the mask grid of the canvas.
        labelled: (B, T) bool, whether the frame has ground truth; where not, its masks are all 0 and mean nothing.
        valid: (B, M) bool, which of the M places hold an object. Every object that is there has a mask in frame 0.
        void: (B, T, m, m) bool, cells that the annotators left undecided; they count neither way.
        numbers: (B, T) the number of each frame in its source video.
        keys: The B sample keys.
    """

    frames: Tensor
    content: Tensor
    masks: Tensor
    labelled: Tensor
    valid: Tensor
    void: Tensor
    numbers: Tensor
    keys: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.frames.shape[0]

    def beginning(self, frames: int | None) -> ClipBatch:
        """The first so many frames of each clip; None for all."""
        names = ("frames", "masks", "labelled", "void", "numbers")
        return replace(self, **{name: getattr(self, name)[:, :frames] for name in names})

    def pin_memory(self) -> ClipBatch:
        """The batch in page-locked memory."""
        return pinned(self)


@dataclass
class ConceptBatch:
    """A batch of stage 3: B images, Q phrases spread over them, N instances spread over the phrases.

    Attributes:
        images: (B, 3, S, S) uint8 RGB canvases.
        content: (B, 2) height and width of the filled part, in contract pixels.
        phrases: The Q phrases, those of image 0 first.
        image_index: (Q,) image of each phrase.
        exhaustive: (Q,) bool, whether every instance of the phrase is annotated; where not, absence proves nothing.
        hard: (Q,) bool, whether the phrase is a mined hard negative.
        phrase_index: (N,) phrase of each instance, ascending; a phrase without instances is a negative.
        boxes: (N, 4) boxes x0 y0 x1 y1 in contract pixels, edges.
        masks: (N, m, m) uint8 {0, 1} instance masks on the mask grid of the canvas.
        keys: The B sample keys.
    """

    images: Tensor
    content: Tensor
    phrases: list[str]
    image_index: Tensor
    exhaustive: Tensor
    hard: Tensor
    phrase_index: Tensor
    boxes: Tensor
    masks: Tensor
    keys: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.images.shape[0]

    def pin_memory(self) -> ConceptBatch:
        """The batch in page-locked memory."""
        return pinned(self)
