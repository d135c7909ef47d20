"""Clips of moving squares as a batch, and as shards; and a tiny student with a compressed memory."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from moving_videos import moving
from record_samples import write

from phd.batches import ClipBatch
from phd.contract import Contract
from phd.heads.memory.compressors import MemorySettings
from phd.student import Student
from phd.teachers import Teacher, new_toy

SIDE = 64
MEMORY = MemorySettings("both", num_global=3, windows=2, depth=1)


def tiny_teacher() -> Teacher:
    """The toy's architecture at 64 pixels."""
    return new_toy(SIDE).eval()


def tiny_student(teacher: Teacher, memory: MemorySettings | None = MEMORY) -> Student:
    """A student with a memory of seven tokens for each frame."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = Student.create("efficientvit_b0", teacher, pretrained=False)
        if memory is not None:
            student.set_memory(memory)
    return student


def squares(contract: Contract, objects: tuple[int, ...] = (2, 1), frames: int = 3) -> ClipBatch:
    """Clips of noise in which squares of their own colour move to the right; so many objects in each clip."""
    generator = torch.Generator().manual_seed(1)
    clips, places, side, grid = len(objects), max(1, *objects), contract.image_size, contract.mask_size
    pixels = torch.randint(0, 100, (clips, frames, 3, side, side), generator=generator).to(torch.uint8)
    masks = torch.zeros(clips, frames, places, grid, grid, dtype=torch.uint8)
    for clip, count in enumerate(objects):
        for item in range(count):
            for frame in range(frames):
                top, left = 2 + 12 * item, 3 + 2 * frame + 4 * clip
                masks[clip, frame, item, top : top + 8, left : left + 8] = 1
    shown = masks.flatten(0, 1).amax(1, keepdim=True)
    scale = side // grid
    shown = shown.repeat_interleave(scale, 2).repeat_interleave(scale, 3).view(clips, frames, 1, side, side)
    return ClipBatch(
        frames=torch.where(shown > 0, 220, pixels).to(torch.uint8),
        content=torch.full((clips, 2), side),
        masks=masks,
        labelled=torch.ones(clips, frames, dtype=torch.bool),
        valid=torch.arange(places) < torch.tensor(objects)[:, None],
        void=torch.zeros(clips, frames, grid, grid, dtype=torch.bool),
        numbers=torch.arange(frames).repeat(clips, 1),
        keys=[f"clip{number}" for number in range(clips)],
    )


def clip_shards(root: Path, videos: int = 6, frames: int = 5) -> Path:
    """Shards of videos of a moving square and a still one."""
    samples = {}
    for number in range(videos):
        record, members = moving(frames)
        samples[f"v{number}"] = {**members, "json": json.dumps(record).encode()}
    return write(root, samples, form="video")
