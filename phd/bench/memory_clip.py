"""A long clip tracked frame by frame: does memory grow with its length?

Run as a program of its own (`python -m phd.bench.memory_clip`), so that the peak is that of tracking alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from phd.contract import ObjectPrompt
from phd.errors import UserError
from phd.heads.memory.bank import MemoryBank
from phd.heads.memory.compressors import MemorySettings, build_compressor
from phd.peak_memory import forget_peak, peak_bytes
from phd.segmenter import Segmenter
from phd.teachers import Teacher, new_toy

# The peak after the whole clip may be so much above that after its first frames.
MOST_GROWTH = 0.02
EARLY = 100
SIDE = 64
MEMORY = MemorySettings("both", num_global=16, windows=4)


def measure_clip(frames: int, early: int = EARLY, objects: int = 2) -> dict[str, Any]:
    """Track a clip in a new process.

    Args:
        frames: Of the clip.
        early: The frame after which the first peak is taken.
        objects: Tracked at once.

    Returns:
        Peaks in MB and their growth, the shapes of the bank and whether they ever changed.

    Raises:
        UserError: The clip is not longer than `early`, or the process fails.
    """
    if not 1 <= early < frames or objects < 1:
        raise UserError(
            f"a clip of {frames} frames with {objects} objects and a first peak after {early}; give a longer clip and "
            f"at least 1 of each"
        )
    numbers = {"frames": frames, "early": early, "objects": objects}
    command = [sys.executable, "-m", __name__, *(word for name, n in numbers.items() for word in (f"--{name}", str(n)))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"the clip of {frames} frames: its process ended with code {done.returncode}; see above")
    return json.loads(done.stdout)


def small_tracker() -> Teacher:
    """The embedded teacher's architecture at 64 pixels with new weights and a compressed memory of 32 tokens.

    By plain rules: with new weights few objects are seen, and a memory of what is seen would stay empty.
    """
    teacher = new_toy(SIDE).eval()
    heads: Any = teacher.heads
    heads.tracker_model.config.update({"use_memory_selection": False, "non_overlap_masks": False})
    heads.compressor = build_compressor(MEMORY, SIDE // 8, heads.tracker_model.mem_dim).eval()
    return teacher


def pictures(frames: int, side: int) -> Iterator[Tensor]:
    """Normalised images (1, 3, side, side) of noise in which a bright square moves."""
    generator = torch.Generator().manual_seed(0)
    for number in range(frames):
        image = 0.2 * torch.randn(1, 3, side, side, generator=generator)
        left = number % (side - 16)
        image[..., 20:36, left : left + 16] += 1.0
        yield image


def follow(model: Segmenter, frames: int, early: int, objects: int, peak: Callable[[], float]) -> dict[str, Any]:
    """Track squares through a clip.

    Args:
        model: With a memory.
        frames: Of the clip.
        early: The frame after which the first peak is taken.
        objects: Tracked at once, all from the first frame on.
        peak: Tells the most memory that the process has had, in MB.

    Returns:
        See `measure_clip`.
    """
    side = model.contract.image_size
    boxes = {1 + n: ObjectPrompt(box=torch.tensor([4.0 * n, 20.0, 4.0 * n + 16, 36.0])) for n in range(objects)}
    state, first, constant, peaks = None, {}, True, []
    clip = track(pictures(frames, side), "tracking", total=frames, console=Console(stderr=True), transient=True)
    with torch.inference_mode():
        for number, image in enumerate(clip):
            state = model.track(image, state, boxes if number == 0 else None)
            assert state.bank is not None
            first = first or shapes(state.bank)
            constant &= shapes(state.bank) == first
            if number + 1 in (early, frames):
                peaks.append(peak())
    return {
        "frames": frames,
        "objects": objects,
        "early": early,
        "early_peak_mb": peaks[0],
        "peak_mb": peaks[1],
        "growth": peaks[1] / peaks[0] - 1,
        "bank_shapes": first,
        "bank_shapes_constant": constant,
    }


def shapes(bank: MemoryBank) -> dict[str, list[int]]:
    """The shapes of all tensors of a bank."""
    return {name: list(getattr(bank, name).shape) for name in ("values", "frames", "pointers", "pointer_frames")}


def peak_mb() -> float:
    """The most resident memory that this process has had, in MB."""
    return peak_bytes() / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Track, and print the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m phd.bench.memory_clip", description="Track one long clip.")
    for name in ("frames", "early", "objects"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tracker = small_tracker()
    forget_peak()
    result = follow(tracker, options.frames, options.early, options.objects, peak_mb)
    print(json.dumps({**result, "image_size": SIDE, "memory": asdict(MEMORY)}))


if __name__ == "__main__":
    main()
