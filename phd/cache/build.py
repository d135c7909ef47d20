"""Builds a cache shard by shard; any number of builders may work on the same folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from datamodules.cache.claims import STALE_AFTER, Claims
from datamodules.cache.layout import MANIFEST, Manifest, Part, read_index, read_manifest
from datamodules.cache.quantise import LIMIT, errors, pack
from datamodules.cache.recipe import Recipe
from datamodules.cache.writer import FeatureWriter, summary
from datamodules.reader import ShardReader
from datamodules.shards import MANIFEST as SHARDS
from datamodules.shards import write_atomically
from phd.cache.live import CanvasLoader, LiveTrunk, require_images
from phd.errors import UserError

MOST_SECONDS_ASLEEP = 2.0
# What a builder reports: images of finished shards, images of the shard in hand, what it waits for.
Report = Callable[[int, int, str], None]


def new_manifest(reader: ShardReader, recipe: Recipe) -> Manifest:
    """The manifest of a cache that is to be built."""
    parts = tuple(Part(shard.name, shard.samples, shard.index_sha256) for shard in reader.shards)
    return Manifest(recipe, str(reader.root), parts)


def names_in(folder: Path) -> set[str]:
    """Names of all files; one question to a file system that may be slow and hold many."""
    return {path.name for path in folder.iterdir()}


class Builder:
    """One of the processes that build a cache.

    Args:
        root: Folder of the cache; made where it is not there.
        reader: Of the images.
        recipe: Of the cache.
        rank: Which shards to begin with: every `world_size`-th one. Whoever is done with these takes any other that is
            left, so that a slow or dead process does not leave a hole.
        world_size: See `rank`.
        stale_after: Seconds after which a builder without a sign of life counts as dead.

    Raises:
        UserError: The folder holds a cache of something else, or shards, or cannot be written; or there are no images.
    """

    def __init__(
        self,
        root: Path,
        reader: ShardReader,
        recipe: Recipe,
        rank: int = 0,
        world_size: int = 1,
        stale_after: float = STALE_AFTER,
    ) -> None:
        self.root, self.reader, self.recipe = root, reader, recipe
        self.rank, self.world_size = rank, world_size
        require_images(reader)
        self.manifest = new_manifest(reader, recipe)
        if (root / SHARDS).exists():
            raise UserError(f"{root}: holds image shards; name a folder of its own for the cache")
        self.poll = min(MOST_SECONDS_ASLEEP, stale_after / 4)
        try:
            root.mkdir(parents=True, exist_ok=True)
            self.claims = Claims(root, stale_after)
            if not (root / MANIFEST).exists():
                write_atomically(root / MANIFEST, self.manifest.to_json(), self.claims.token)
        except OSError as error:
            raise UserError(f"{root}: cannot be written ({error.strerror}); name another folder") from error
        there = read_manifest(root)
        self._require_same(there)
        if there.finished and self.left():
            write_atomically(root / MANIFEST, self.manifest.to_json(), self.claims.token)

    def left(self) -> list[Part]:
        """The shards that are not there yet, our own first."""
        parts = self.manifest.parts
        own = parts[self.rank :: self.world_size]
        others = [part for number, part in enumerate(parts) if number % self.world_size != self.rank]
        there = names_in(self.root)
        return [part for part in (*own, *others) if not there.issuperset((part.tar, part.index))]

    def finished_images(self) -> int:
        """Images of the shards that are there."""
        there = names_in(self.root)
        return sum(part.samples for part in self.manifest.parts if there.issuperset((part.tar, part.index)))

    def run(self, trunk: LiveTrunk, batch_size: int, threads: int, report: Report) -> Manifest:
        """Build until every shard is there, those of other builders included; return the finished manifest.

        Raises:
            UserError: An image cannot be decoded, the features cannot be stored closely enough, or the disk is full.
        """
        loader = CanvasLoader(self.reader, self.recipe.contract, threads)
        try:
            while left := self.left():
                built = sum(self._build_if_free(part, loader, trunk, batch_size, report) for part in left)
                if not built and (left := self.left()):
                    report(self.finished_images(), 0, f"{len(left)} shards are with other builders")
                    time.sleep(self.poll)
            report(self.finished_images(), 0, "")
            manifest = self.finish()
            self.claims.sweep()
        except OSError as error:
            raise UserError(
                f"{self.root}: cannot be written ({error.strerror}); mend that and run `phd cache build` again: "
                f"finished shards are kept"
            ) from error
        return manifest

    def _build_if_free(
        self, part: Part, loader: CanvasLoader, trunk: LiveTrunk, batch_size: int, report: Report
    ) -> bool:
        """Build a shard unless it is there or with another builder; whether we built it."""
        if part.done(self.root):
            return False
        with self.claims.claimed(part.name) as ours:
            if not ours or part.done(self.root):
                return False
            self._build(part, loader, trunk, batch_size, report)
        return True

    def finish(self) -> Manifest:
        """Merge what the indices say into the manifest; several builders may do this, to the same end.

        Raises:
            UserError: A shard is missing, damaged, or made from something else.
        """
        if left := self.left():
            raise UserError(
                f"{self.root}: {len(left)} shards are missing, the first is {left[0].tar}; build them first"
            )
        there = read_manifest(self.root)
        self._require_same(there)
        if there.finished:
            return there
        indices = [read_index(self.root, part, self.recipe) for part in self.manifest.parts]
        names = list(indices[0]["relative_mse"])
        means, largest = (
            np.array([[index["relative_mse"][name][kind] for name in names] for index in indices])
            for kind in ("mean", "max")
        )
        weights = [part.samples for part in self.manifest.parts]
        finished = replace(
            self.manifest,
            finished=True,
            bytes=sum(index["bytes"] for index in indices),
            relative_mse=summary(np.average(means, axis=0, weights=weights).tolist(), largest.max(axis=0).tolist()),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_atomically(self.root / MANIFEST, finished.to_json(), self.claims.token)
        return finished

    def _build(self, part: Part, loader: CanvasLoader, trunk: LiveTrunk, batch_size: int, report: Report) -> None:
        first = self.reader.first([shard.name for shard in self.reader.shards].index(part.name))
        before, done = self.finished_images(), 0
        with FeatureWriter(self.root, part, self.recipe, self.claims.token) as writer:
            for canvases in loader.batches(range(first, first + part.samples), batch_size):
                levels = trunk(canvases)
                cached = pack(levels, self.recipe.dtype)
                error = errors(levels, cached).cpu()
                self._require_close(error, canvases.keys)
                cached = cached.to("cpu")
                for row, (key, digest) in enumerate(zip(canvases.keys, canvases.digests, strict=True)):
                    writer.add(key, digest, cached, row, error[row])
                done += len(canvases.keys)
                report(before, done, "")

    def _require_close(self, error: torch.Tensor, keys: list[str]) -> None:
        worst = error.amax(dim=1)
        for key, value in zip(keys, worst.tolist(), strict=True):
            if not value <= LIMIT:  # not a number is not close either
                dtype = self.recipe.dtype
                others = " or ".join(f"--dtype {name}" for name in ("bf16", "fp16") if name != dtype)
                raise UserError(
                    f"{key}: stored as {dtype} its features have a relative MSE of {value:.2e}, where {LIMIT:.0e} is "
                    f"allowed; build with {others} into a new folder"
                )

    def _require_same(self, there: Manifest) -> None:
        differing = there.recipe.differences(self.recipe)
        if not differing and there.parts != self.manifest.parts:
            differing = [f"data: the shards of {there.data} against those of {self.manifest.data}"]
        if differing:
            raise UserError(
                f"{self.root}: holds a cache of something else ({'; '.join(differing[:3])}); name another folder, or "
                f"remove this one"
            )
