"""How fast stage 1's samples are loaded, as ratios that hold on any machine.

All variants run in one process on one core and take turns on the same images. A sample is what `datamodules.SA1B` makes
in training, without augmentation: shard read by offset, JPEG decoded, antialiased resize, 16 masks from their runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from torchvision.io import ImageReadMode, decode_image

from datamodules.cache.reader import CacheReader
from datamodules.convert.sa1b import convert_sa1b
from datamodules.reader import ShardReader
from datamodules.transforms import Example, ImageTransform
from phd.bench.feature_files import write_cache
from phd.bench.jpegs import write_raw
from phd.bench.plain_folder import PlainFolder
from phd.bench.timing import Times, by_turns, environment, one_core
from phd.contract import Contract, Level
from phd.errors import UserError

# What the ratios should reach at least.
GOALS = {"over_jpeg_limit": 0.55, "over_pil_folder": 5.0, "resized_over_original": 2.0, "cache_gb_per_s": 1.0}
SETTINGS = "bench.json"
TRUNK = Level(1024, 72)  # of SAM 3


@dataclass(frozen=True)
class LoaderBench:
    """Sizes of the benchmark; the defaults are those of SA-1B and of SAM 3's trunk.

    Attributes:
        images: How many are made.
        height: Of the images, pixels.
        width: Of the images, pixels.
        masks: In each image.
        image_size: Side of the canvas, and of the shards at the working resolution.
        mask_size: Side of the mask grid.
        max_masks: Masks of a sample.
        features: Cached samples.
        level: Of the cached trunk.
        batch: Samples whose features are read at once.
        seed: Of the images.
    """

    images: int = 24
    height: int = 1500
    width: int = 2250
    masks: int = 100
    image_size: int = 1024
    mask_size: int = 256
    max_masks: int = 16
    features: int = 32
    level: Level = TRUNK
    batch: int = 8
    seed: int = 0

    @property
    def contract(self) -> Contract:
        """Squashed canvases, as SAM 2 and SAM 3 have them."""
        mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        levels = (self.level,)
        return Contract("sam3", self.image_size, "squash", mean, std, levels, (), levels, self.mask_size)

    def write(self, root: Path) -> None:
        """Make the data, or take what an earlier run with the same sizes made.

        Raises:
            UserError: The folder holds something else, or cannot be written.
        """
        try:
            self._write(root)
        except OSError as error:
            where = error.filename or root
            raise UserError(f"{where}: cannot be written ({error.strerror}); name another --data-dir") from error

    def _write(self, root: Path) -> None:
        settings = root / SETTINGS
        mine = json.loads(json.dumps(asdict(self)))
        if settings.is_file():
            try:
                theirs = dict(json.loads(settings.read_text()))
            except (ValueError, TypeError) as error:
                raise UserError(f"{settings}: damaged ({error}); name another --data-dir") from error
            if theirs != mine:
                other = next(name for name in mine if mine[name] != theirs.get(name))
                raise UserError(
                    f"{root}: holds data of another benchmark ({other}: {theirs.get(other)}, not {mine[other]}); "
                    f"name another --data-dir"
                )
            return
        if root.is_dir() and any(root.iterdir()):
            raise UserError(f"{root}: is not empty; name another --data-dir")
        write_raw(root / "raw", self.images, self.height, self.width, self.masks, self.seed)
        convert_sa1b(root / "raw", root / "original")
        convert_sa1b(root / "raw", root / "resized", resize=self.image_size)
        write_cache(root / "cache", self.features, self.contract)
        settings.write_text(json.dumps(mine))

    def measure(self, root: Path, rounds: int) -> dict[str, Any]:
        """Time all variants on the data in a folder.

        Args:
            root: Where `write` put it.
            rounds: How often each variant loads each image.

        Returns:
            Rate, ratios, environment, data, and what every call took in milliseconds.
        """
        original, resized = (self.shards(root / name) for name in ("original", "resized"))
        sizes = (self.image_size, self.mask_size, self.max_masks)
        keys = [original.reader.key(number) for number in range(self.images)]
        jpegs = [original.reader.member(number, "jpg") for number in range(self.images)]
        with one_core():
            times = by_turns(
                {
                    "ours": original.__getitem__,
                    "jpeg_alone": lambda number: decode(jpegs[number]),
                    "pil_folder": PlainFolder(root / "raw", keys, *sizes).__getitem__,
                    "pil_folder_tensor_masks": PlainFolder(root / "raw", keys, *sizes, tensors_only=True).__getitem__,
                    "ours_resized": resized.__getitem__,
                },
                self.images,
                rounds,
            )
            times |= by_turns({"cache": self.cache_batches(root / "cache")}, self.features // self.batch, rounds)
        features = self.batch * self.level.channels * self.level.size**2
        return {
            **ratios(times, features),
            "environment": {**environment(), "torchvision": torchvision.__version__, "pillow": PIL.__version__},
            "data": {**asdict(self), "rounds": rounds, "jpeg_bytes": sum(map(len, jpegs)) // len(jpegs)},
            "milliseconds": {name: asdict(each) for name, each in times.items()},
        }

    def shards(self, folder: Path) -> Shards:
        """The samples of converted shards."""
        return Shards(ShardReader(folder), ImageTransform(self.contract, None, self.max_masks))

    def cache_batches(self, folder: Path) -> Callable[[int], object]:
        """Reads a batch of features by its number."""
        reader, keys = CacheReader(folder), [f"sa_{number}" for number in range(self.features)]
        return lambda number: reader.read(keys[number * self.batch : (number + 1) * self.batch])


@dataclass(frozen=True)
class Shards:
    """Samples as `datamodules.SA1B` reads them; its own class would bring Lightning along."""

    reader: ShardReader
    transform: ImageTransform

    def __getitem__(self, number: int) -> Example:
        sample = self.reader.read(number)
        return self.transform(sample.jpg, sample.record, sample.key, 0, sample.where)


def decode(jpeg: bytes) -> torch.Tensor:
    """The least a loader can do: libjpeg-turbo, which torchvision brings."""
    return decode_image(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode=ImageReadMode.RGB)


def ratios(times: dict[str, Times], cache_batch_bytes: int) -> dict[str, float]:
    """Rate of the full sample and what it is compared with, by medians of CPU time."""
    ours = times["ours"].rate
    return {
        "samples_per_s": ours,
        "over_jpeg_limit": ours / times["jpeg_alone"].rate,
        "over_pil_folder": ours / times["pil_folder"].rate,
        "over_pil_folder_tensor_masks": ours / times["pil_folder_tensor_masks"].rate,
        "resized_over_original": times["ours_resized"].rate / ours,
        "cache_gb_per_s": times["cache"].rate * cache_batch_bytes / 1e9,
    }
