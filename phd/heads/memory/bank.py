"""The memory bank: slots of a fixed number and size, so that no shape ever changes and a long video costs no more.

SAM 2 (arXiv 2408.00714, section 4) keeps every frame and picks some of them; ours keeps what it would pick when it
tracks forwards: the latest conditioning frames, the latest other frames, and their object pointers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

EMPTY = -1


@dataclass(frozen=True)
class BankSize:
    """How many slots there are.

    Attributes:
        conditioning: Frames that a user prompted.
        recent: Other frames, the latest ones; frame t - recent is the oldest that frame t reads.
        pointers: Object pointers of other frames, the latest ones.
    """

    conditioning: int
    recent: int
    pointers: int

    def within(self, frames: int, conditioning: int) -> BankSize:
        """The slots that a clip can fill, where its frames are known beforehand: empty ones cost time too.

        Args:
            frames: Of the clip, T.
            conditioning: How many of them are prompted, the first one among them.
        """
        others = max(1, frames - 2)  # the last frame is never read
        return BankSize(min(self.conditioning, conditioning), min(self.recent, others), min(self.pointers, others))


@dataclass(frozen=True)
class MemoryBank:
    """What N objects remember; never changed in place, so that gradients go through time.

    Slots of conditioning frames come first.

    Attributes:
        size: The slots.
        values: (N, slots, K, D) memory tokens.
        frames: (N, slots) number of the frame in each slot, or -1.
        pointers: (N, conditioning + pointers, C) object pointers.
        pointer_frames: (N, conditioning + pointers) number of the frame of each pointer, or -1.
    """

    size: BankSize
    values: Tensor
    frames: Tensor
    pointers: Tensor
    pointer_frames: Tensor

    @classmethod
    def empty(cls, size: BankSize, objects: int, tokens: int, width: int, pointer_width: int, like: Tensor) -> Self:
        """A bank without any memory, on the device and in the type of `like`."""
        slots, pointers = size.conditioning + size.recent, size.conditioning + size.pointers
        nothing = {"device": like.device, "dtype": torch.long}
        return cls(
            size,
            like.new_zeros(objects, slots, tokens, width),
            torch.full((objects, slots), EMPTY, **nothing),
            like.new_zeros(objects, pointers, pointer_width),
            torch.full((objects, pointers), EMPTY, **nothing),
        )

    def __len__(self) -> int:
        return len(self.values)

    def write(
        self, frame: int | Tensor, values: Tensor, pointers: Tensor, conditioning: Tensor, rows: Tensor
    ) -> MemoryBank:
        """The bank with one frame more, in the bank's type: under autocast some parts answer in fp32.

        Args:
            frame: Its number, not before any that was written; or (n,), where each object counts for itself.
            values: (n, K, D) tokens of the objects that were seen.
            pointers: (n, C) their pointers.
            conditioning: (n,) bool, whether the object was prompted in this frame.
            rows: (n,) which objects they are.
        """
        number = frame if isinstance(frame, Tensor) else torch.full_like(rows, frame)
        slots = self._slots(self.frames, self.size.recent, number, conditioning, rows)
        places = self._slots(self.pointer_frames, self.size.pointers, number, conditioning, rows)
        return replace(
            self,
            values=self.values.index_put((rows, slots), values.to(self.values.dtype)),
            frames=self.frames.index_put((rows, slots), number),
            pointers=self.pointers.index_put((rows, places), pointers.to(self.pointers.dtype)),
            pointer_frames=self.pointer_frames.index_put((rows, places), number),
        )

    def _slots(self, frames: Tensor, ring: int, number: Tensor, conditioning: Tensor, rows: Tensor) -> Tensor:
        """Where each object writes: over the oldest conditioning frame (an empty slot is older), or on the ring."""
        held = frames[rows, : self.size.conditioning]
        same = held == number[:, None]  # prompted again in the same frame
        slot = torch.where(same.any(1), same.int().argmax(1), held.argmin(1))
        return torch.where(conditioning, slot, self.size.conditioning + number % ring)

    def coming(self) -> Tensor:
        """(N,) number of the next frame of each object, where it counts those that it remembers; 0 for a new one."""
        return self.frames.amax(1) + 1

    def age(self, frame: int | Tensor) -> tuple[Tensor, Tensor]:
        """Frames since each slot was written, 0 for conditioning frames, and which slots count.

        Args:
            frame: The number of the frame that reads; or (N,), where each object counts for itself.

        Returns:
            (N, slots) long and (N, slots) bool.
        """
        age = _column(frame) - self.frames
        conditioning = torch.arange(age.shape[1], device=age.device) < self.size.conditioning
        held = (self.frames != EMPTY) & (age > 0)
        valid = held & (conditioning | (age <= self.size.recent))
        return torch.where(conditioning, 0, age), valid

    def pointer_age(self, frame: int | Tensor) -> tuple[Tensor, Tensor]:
        """Frames since each pointer was written, and which pointers count; as `age`."""
        age = _column(frame) - self.pointer_frames
        conditioning = torch.arange(age.shape[1], device=age.device) < self.size.conditioning
        held = (self.pointer_frames != EMPTY) & (age > 0)
        return age, held & (conditioning | (age <= self.size.pointers))

    def of(self, rows: Tensor) -> MemoryBank:
        """The memory of some of the objects."""
        names = ("values", "frames", "pointers", "pointer_frames")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def grown(self, objects: int) -> MemoryBank:
        """The bank with empty rows for further objects."""
        more = MemoryBank.empty(
            self.size, objects, self.values.shape[2], self.values.shape[3], self.pointers.shape[2], self.values
        )
        names = ("values", "frames", "pointers", "pointer_frames")
        return replace(self, **{name: torch.cat([getattr(self, name), getattr(more, name)]) for name in names})

    def detached(self) -> MemoryBank:
        """The bank cut off from the graph: gradients go no further back."""
        return replace(self, values=self.values.detach(), pointers=self.pointers.detach())


def _column(frame: int | Tensor) -> int | Tensor:
    return frame.unsqueeze(1) if isinstance(frame, Tensor) else frame
