"""Caches of the embedded world for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datamodules.cache.layout import Manifest
from datamodules.reader import ShardReader
from phd.cache import Builder, LiveTrunk, recipe_of
from phd.cache.live import Canvases
from phd.teachers import Teacher


class Counting(LiveTrunk):
    """A trunk that remembers what it saw, may stop after so many images, and may make one place stick out."""

    def __init__(self, teacher: Teacher, stop_after: int | None = None, outlier: float | None = None) -> None:
        super().__init__(teacher, torch.device("cpu"), "32-true")
        self.keys: list[str] = []
        self.stop_after, self.outlier = stop_after, outlier

    def __call__(self, canvases: Canvases) -> tuple[torch.Tensor, ...]:
        if self.stop_after is not None and len(self.keys) >= self.stop_after:
            raise KeyboardInterrupt
        self.keys += canvases.keys
        levels = [level.clone() for level in super().__call__(canvases)]
        if self.outlier is not None:
            levels[0][:, :, 0, 0] = self.outlier
        return tuple(levels)


def silent(*_: object) -> None:
    """No report."""


def builder(shards: Path, out: Path, teacher: Teacher, dtype: str = "int8", **settings: Any) -> Builder:
    """One of the processes that build a cache."""
    return Builder(out, ShardReader(shards), recipe_of(teacher, dtype, "32-true"), **settings)


def build(shards: Path, out: Path, teacher: Teacher, dtype: str = "int8", **settings: Any) -> Manifest:
    """A whole cache."""
    return builder(shards, out, teacher, dtype, **settings).run(Counting(teacher), 4, 1, silent)


def tars(folder: Path) -> dict[str, bytes]:
    """The tars of a cache by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def names(folder: Path) -> list[str]:
    """All files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def whole(shards: Sequence[str]) -> list[str]:
    """The files of a finished cache of these shards."""
    return sorted(["cache.json", *(f"features-{name}.{suffix}" for name in shards for suffix in ("index.json", "tar"))])
