"""What a cache will cost, before anything is built."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from datamodules.cache.quantise import TORCH_TYPES, errors, pack
from datamodules.cache.recipe import Recipe
from datamodules.cache.writer import tar_bytes
from datamodules.reader import ShardReader
from phd.cache.live import CanvasLoader, LiveTrunk


@dataclass(frozen=True)
class Estimate:
    """Costs of a cache.

    Attributes:
        images: How many.
        shards: Tars.
        files: Tars, their indices, and the manifest.
        bytes: Of all tars, exact unless a name is longer than 100 bytes.
        bytes_by_dtype: The same for every way to store a number.
        image_bytes: Of the features of one image.
        tried: Images that were timed, after one batch to warm up.
        seconds: For one of them: read, decoded, through the trunk, quantised.
        relative_mse: Largest of those images, over all levels.
    """

    images: int
    shards: int
    files: int
    bytes: int
    bytes_by_dtype: dict[str, int]
    image_bytes: int
    tried: int
    seconds: float
    relative_mse: float

    @property
    def hours(self) -> float:
        """On one device like this one."""
        return self.images * self.seconds / 3600


def estimate(reader: ShardReader, recipe: Recipe, trunk: LiveTrunk, tries: int, batch_size: int) -> Estimate:
    """Count the bytes, and time the teacher on a few images spread over the data.

    Args:
        reader: Of the images.
        recipe: Of the cache.
        trunk: The teacher's.
        tries: Images to time.
        batch_size: Images at once.
    """
    sizes = {
        dtype: sum(tar_bytes(shard.samples, Recipe(**{**vars(recipe), "dtype": dtype})) for shard in reader.shards)
        for dtype in TORCH_TYPES
    }
    tries = min(tries, len(reader))
    numbers = [place * len(reader) // tries for place in range(tries)]
    loader = CanvasLoader(reader, recipe.contract, threads=1)
    worst, begin, seen = 0.0, 0.0, 0
    for number, canvases in enumerate(loader.batches([*numbers[:batch_size], *numbers], batch_size)):
        levels = trunk(canvases)
        cached = pack(levels, recipe.dtype)
        worst = max(worst, float(errors(levels, cached).max()))
        cached.to("cpu")  # waits for the device
        if number == 0:
            begin = time.perf_counter()
        else:
            seen += len(canvases.keys)
    return Estimate(
        images=len(reader),
        shards=len(reader.shards),
        files=2 * len(reader.shards) + 1,
        bytes=sizes[recipe.dtype],
        bytes_by_dtype=dict(sizes),
        image_bytes=sum(member.bytes for member in recipe.members),
        tried=seen,
        seconds=(time.perf_counter() - begin) / seen,
        relative_mse=worst,
    )


def free_bytes(folder: Path) -> int:
    """What is free where a folder lies, or will lie."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def best_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
