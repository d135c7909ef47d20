"""A teacher cache of random features, in the format of a real one."""

from __future__ import annotations

from pathlib import Path

import torch

from datamodules.cache.layout import MANIFEST, Manifest, Part
from datamodules.cache.recipe import Recipe, transform_sha256
from datamodules.cache.writer import FeatureWriter
from datamodules.shards import write_atomically
from phd.batches import CachedTrunk
from phd.contract import Contract

NOBODY = "0" * 64  # in place of the hash of weights and of images
TOKEN = "bench"


def write_cache(root: Path, samples: int, contract: Contract) -> list[str]:
    """Write int8 features for each level of the contract's trunk; the manifest comes last.

    Args:
        root: Made where it is not there.
        samples: How many.
        contract: Names the levels.

    Returns:
        The keys.
    """
    root.mkdir(parents=True, exist_ok=True)
    recipe = Recipe("random numbers", NOBODY, contract, transform_sha256(contract))
    part, keys = Part("bench-000000", samples, NOBODY), [f"sa_{number}" for number in range(samples)]
    rng = torch.Generator().manual_seed(0)
    levels = contract.trunk
    with FeatureWriter(root, part, recipe, TOKEN) as writer:
        for key in keys:
            maps = [
                torch.randint(-127, 128, (1, level.channels, level.size, level.size), generator=rng, dtype=torch.int8)
                for level in levels
            ]
            scales = [torch.rand(1, level.channels, generator=rng).half() for level in levels]
            writer.add(key, NOBODY, CachedTrunk(tuple(maps), tuple(scales)), 0, torch.zeros(len(levels)))
    manifest = Manifest(recipe, "random numbers", (part,), finished=True, bytes=(root / part.tar).stat().st_size)
    write_atomically(root / MANIFEST, manifest.to_json(), TOKEN)
    return keys
