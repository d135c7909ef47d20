"""What a compressed memory saves, as ratios of the time of one frame that hold on any machine.

A tracker of SAM 3's real class and size with random weights: 72 x 72 cells, memory attention of 4 layers, 7 frames in
memory and their object pointers. One process, one core; the variants take turns. A frame is the memory attention, the
compression of the frame's own map and its writing into the bank. The memory encoder before the compression is the same
in all of them; it is timed too, and ratios with it are given beside.
"""

from __future__ import annotations

import copy
import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import transformers
from transformers import Sam3TrackerVideoConfig
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoModel

from phd.bench.memory_work import MemoryWork
from phd.bench.timing import Times, by_turns, environment, one_core
from phd.errors import UserError
from phd.heads import TrackerHeads
from phd.heads.memory.compressors import MemorySettings, build_compressor
from phd.heads.memory.tokens import Compressor

# What the ratios should reach at least.
GOALS = {"dense_over_compressed": 4.5, "dense_over_compressed_half_layers": 9.0}
DENSE, COMPRESSED, HALF, ENCODER = "dense", "compressed", "compressed_half_layers", "memory_encoder"


@dataclass(frozen=True)
class MemoryBench:
    """Sizes of the benchmark; the defaults are SAM 3's.

    Attributes:
        objects: Tracked at once.
        frames: Memory frames: one conditioning frame, the others recent.
        settings: Of the compressed memory.
        tracker: Other values of the tracker's configuration than SAM 3's, by name.
        seed: Of weights and values.
    """

    objects: int = 1
    frames: int = 7
    settings: MemorySettings = field(default_factory=MemorySettings)
    tracker: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def works(self) -> tuple[dict[str, MemoryWork], dict[str, MemorySettings]]:
        """The variants ready to be timed, and their settings.

        Raises:
            UserError: A number is out of range, or the windows do not divide the grid.
        """
        if self.objects < 1 or self.frames < 2:
            raise UserError(f"{self.objects} objects and {self.frames} memory frames; give at least 1 and 2")
        # One conditioning frame and `num_maskmem - 1` others, as in a video whose first frame alone was prompted.
        slots = {"num_maskmem": self.frames, "max_cond_frame_num": 1}
        config = Sam3TrackerVideoConfig(**{**self.tracker, **slots})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            heads = TrackerHeads(Sam3TrackerVideoModel(config, remove_vision_encoder=True)).eval()
            side, dim = heads.tracker_model.backbone_feature_sizes[-1][0], heads.tracker_model.mem_dim
            small = build_compressor(self.settings, side, dim)
        layers = len(heads.tracker_model.memory_attention.layers)
        settings = {DENSE: replace(self.settings, kind="none"), COMPRESSED: self.settings, HALF: self.settings}
        variants = {
            DENSE: heads,
            COMPRESSED: with_memory(heads, small, layers),
            HALF: with_memory(heads, small, max(1, layers // 2)),
        }
        return {name: MemoryWork(each, self.objects, self.seed) for name, each in variants.items()}, settings

    def measure(self, rounds: int) -> dict[str, Any]:
        """Time the variants by turns.

        Args:
            rounds: How often each does a frame, after one that does not count.

        Returns:
            Ratios, tokens, GMACs, environment, sizes, and what every call took in milliseconds.
        """
        works, settings = self.works()
        dense = works[DENSE]
        with one_core():
            calls = {name: work.read_and_write for name, work in works.items()}
            times = by_turns({**calls, ENCODER: lambda item: dense.encode()}, 1, rounds)
        gmacs = {name: work.gmacs(settings[name]) for name, work in works.items()}
        return {
            **ratios(times),
            "tokens_per_frame": works[COMPRESSED].heads.compressor.num_tokens,
            "gmacs": gmacs,
            "gmacs_ratios": {name: _total(gmacs[DENSE]) / _total(gmacs[name]) for name in (COMPRESSED, HALF)},
            "environment": {**environment(), "transformers": transformers.__version__},
            "sizes": {
                "objects": self.objects,
                "grid": dense.grid,
                "memory_frames": self.frames,
                "layers": {name: len(each.heads.tracker_model.memory_attention.layers) for name, each in works.items()},
                "tokens_per_frame": {name: each.heads.compressor.num_tokens for name, each in works.items()},
                "keys": {name: each.keys for name, each in works.items()},
                "bank_mb": {name: each.bank.values.nbytes / 1e6 for name, each in works.items()},
                "memory": asdict(self.settings),
                "rounds": rounds,
            },
            "milliseconds": {name: asdict(each) for name, each in times.items()},
        }


def with_memory(heads: TrackerHeads, compressor: Compressor, layers: int) -> TrackerHeads:
    """The same weights behind another compressor, and with the first layers of the memory attention only."""
    mine = copy.deepcopy(heads)
    mine.compressor = copy.deepcopy(compressor)
    attention = mine.tracker_model.memory_attention
    attention.layers = attention.layers[:layers]
    return mine


def ratios(times: dict[str, Times]) -> dict[str, float]:
    """Medians over the rounds of dense over compressed CPU time within a round, without and with the encoder."""
    encoder = times[ENCODER].cpu
    found: dict[str, float] = {}
    for suffix, added in (("", [0.0] * len(encoder)), ("_with_encoder", encoder)):
        for name, variant in (("dense_over_compressed", COMPRESSED), ("dense_over_compressed_half_layers", HALF)):
            rounds = zip(times[DENSE].cpu, times[variant].cpu, added, strict=True)
            found[name + suffix] = statistics.median((dense + more) / (small + more) for dense, small, more in rounds)
    return found


def _total(gmacs: dict[str, float]) -> float:
    return gmacs["read"] + gmacs["write"]
