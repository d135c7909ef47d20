"""What a tracker's memory does in one frame, ready to be timed: random values, a full bank."""

from __future__ import annotations

import torch

from phd.bench.memory_macs import ReadSize, read_macs, write_macs
from phd.heads.memory.bank import MemoryBank
from phd.heads.memory.compressors import MemorySettings
from phd.heads.memory.tokens import sine_positions, window_centres
from phd.heads.memory.video import VideoHeads


class MemoryWork:
    """The memory's part of tracking a further frame.

    Args:
        heads: Of a tracker, with the compressor and the layers that are to be timed; put into eval mode and frozen.
        objects: N, tracked at once.
        seed: Of all values.
    """

    def __init__(self, heads: VideoHeads, objects: int = 1, seed: int = 0) -> None:
        tracker = heads.tracker_model
        self.heads, self.objects = heads.eval().requires_grad_(False), objects
        self.grid, self.width, self.dim = tracker.backbone_feature_sizes[-1][0], tracker.hidden_dim, tracker.mem_dim
        generator = torch.Generator().manual_seed(seed)

        def values(*shape: int) -> torch.Tensor:
            return torch.randn(objects, *shape, generator=generator)

        self.coarse = values(self.width, self.grid, self.grid)
        self.memory = values(self.dim, self.grid, self.grid)
        cells = window_centres(self.grid, self.grid)
        self.positions = sine_positions(cells, self.grid, self.dim).T.view(1, self.dim, self.grid, self.grid)
        self.tokens, self.pointers = values(heads.compressor.num_tokens, self.dim), values(self.width)
        side = 4 * tracker.prompt_encoder.mask_input_size[0]
        self.drawn = values(1, side, side)
        self.rows = torch.arange(objects)
        self.bank, self.frame = self._full_bank()

    def _full_bank(self) -> tuple[MemoryBank, int]:
        """Every slot holds a frame that the next one reads."""
        bank, size = self.heads.new_bank(self.objects, self.coarse), self.heads.bank_size
        frames = size.conditioning + max(size.recent, size.pointers)
        for frame in range(frames):
            conditioning = torch.full((self.objects,), frame < size.conditioning)
            bank = bank.write(frame, self.tokens, self.pointers, conditioning, self.rows)
        assert bank.age(frames)[1].all()
        assert bank.pointer_age(frames)[1].all()
        return bank, frames

    @property
    def keys(self) -> int:
        """Tokens that an object's queries read, pointers among them."""
        _, slots, tokens, _ = self.bank.values.shape
        return slots * tokens + self.bank.pointers.shape[1] * (self.width // self.dim)

    def read(self) -> torch.Tensor:
        """The memory attention."""
        with torch.no_grad():
            return self.heads.read_memory(self.coarse, self.bank, self.frame)

    def write(self) -> MemoryBank:
        """Compression of a frame's map, and its place in the bank."""
        with torch.no_grad():
            tokens = self.heads.compressor(self.memory, self.positions).values
            recent = torch.zeros(self.objects, dtype=torch.bool)
            return self.bank.write(self.frame, tokens, self.pointers, recent, self.rows)

    def encode(self) -> torch.Tensor:
        """The memory encoder, which is the same with every compressor."""
        with torch.no_grad():
            return self.heads.tracker_model.memory_encoder(self.coarse, self.drawn)[0]

    def read_and_write(self, item: int) -> None:
        """A frame, without the encoder; the number is not used."""
        self.read()
        self.write()

    def gmacs(self, settings: MemorySettings) -> dict[str, float]:
        """Billions of multiply-accumulates of one frame, by part.

        Args:
            settings: Of the compressor.
        """
        config = self.heads.tracker_model.config
        size = ReadSize(
            queries=self.grid**2,
            keys=self.keys,
            width=self.width,
            memory_width=self.dim,
            hidden=config.memory_attention_feed_forward_hidden_size,
            layers=len(self.heads.tracker_model.memory_attention.layers),
        )
        read = {name: self.objects * macs / 1e9 for name, macs in read_macs(size).items()}
        write = self.objects * write_macs(settings, self.grid, self.dim) / 1e9
        return {**read, "read": sum(read.values()), "write": write}
