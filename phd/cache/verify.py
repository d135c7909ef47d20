"""Checks a cache: every size and every place, and the features of a sample against the teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from datamodules.cache.layout import Manifest, Part, read_index, read_manifest
from datamodules.cache.quantise import LIMIT, errors
from datamodules.cache.reader import CacheReader
from datamodules.reader import ShardReader
from phd.cache.live import CanvasLoader, LiveTrunk
from phd.errors import UserError

# Another device rounds otherwise; under autocast to bfloat16 it does so by much more.
ALLOWED = {"32-true": 2 * LIMIT, "bf16-mixed": 10 * LIMIT}


@dataclass
class VerifyReport:
    """What was compared, and one line for each problem.

    Attributes:
        shards: Shards whose sizes were checked.
        images: Images whose features were made again.
        mean: Relative MSE by level.
        largest: The same, the worst image.
        problems: What is wrong.
    """

    shards: int = 0
    images: int = 0
    mean: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def chosen(key: str, share: float) -> bool:
    """Whether a key belongs to the sample: always the same keys, and a larger share holds a smaller one."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") < share * 2**64


def verify(
    root: Path,
    images: ShardReader,
    trunk: LiveTrunk,
    share: float,
    batch_size: int,
    threads: int,
    progress: Callable[[int, int], None],
) -> VerifyReport:
    """Check a finished cache; who calls has compared the teacher's weights.

    Args:
        root: Of the cache.
        images: What it was made from.
        trunk: The teacher's.
        share: Which part of the images to run the teacher on; at least one image.
        batch_size: Images at once.
        threads: For decoding.
        progress: Called with the images done and all of the sample.

    Raises:
        UserError: No cache, or one of another contract.
    """
    manifest, report = read_manifest(root), VerifyReport()
    for part in manifest.parts:
        report.shards += 1
        report.problems += _structure(root, part, manifest)
    if not manifest.finished:
        report.problems.append(f"{root}: not finished; run `phd cache build` again")
    if report.problems:
        return report
    cache = CacheReader(root)
    cache.require_contract(trunk.contract)
    absent = [number for number in range(len(images)) if images.key(number) not in cache]
    if absent:
        report.problems.append(f"{len(absent)} images have no features, the first is {images.where(absent[0])}")
    there = sorted(set(range(len(images))).difference(absent))
    if not there:
        return report
    numbers = [number for number in there if chosen(images.key(number), share)] or there[:1]
    compared: list[torch.Tensor] = []
    limit = ALLOWED[manifest.recipe.precision]
    for canvases in CanvasLoader(images, trunk.contract, threads).batches(numbers, batch_size):
        cached = cache.read(canvases.keys)
        assert cached is not None, "all of these keys are in the cache"
        batch = errors(trunk(canvases), cached.to(trunk.device)).cpu()
        compared.append(batch)
        for key, digest, values in zip(canvases.keys, canvases.digests, batch.tolist(), strict=True):
            if digest != cache.digest(key):
                report.problems.append(f"{key}: its features were made from another image")
            elif not max(values) <= limit:
                report.problems.append(f"{key}: relative MSE {max(values):.2e}, where {limit:.0e} is allowed")
        report.images += len(batch)
        progress(report.images, len(numbers))
    together = torch.cat(compared)
    report.mean, report.largest = together.mean(dim=0).tolist(), together.amax(dim=0).tolist()
    return report


def _structure(root: Path, part: Part, manifest: Manifest) -> list[str]:
    if not part.done(root):
        return [f"{root / part.tar}: the shard is missing; run `phd cache build` again"]
    try:
        read_index(root, part, manifest.recipe)
    except UserError as error:
        return [str(error)]
    return []
