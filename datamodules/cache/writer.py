"""Writes the features of one image shard, all of them or nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from tarfile import BLOCKSIZE, PAX_FORMAT, RECORDSIZE, TarInfo
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from datamodules.cache.layout import FORMAT, VERSION, Part
from datamodules.cache.recipe import Recipe
from datamodules.shards import write_atomically
from phd.batches import CachedTrunk
from phd.errors import UserError


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, not copied; numpy has no bfloat16, so they go as bytes."""
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data.cast("B")


def tar_bytes(samples: int, recipe: Recipe) -> int:
    """Size of a tar of so many samples, as long as no name needs a header of its own."""
    each = sum(BLOCKSIZE + -(-member.bytes // BLOCKSIZE) * BLOCKSIZE for member in recipe.members)
    return -(-(samples * each + 2 * BLOCKSIZE) // RECORDSIZE) * RECORDSIZE


class FeatureWriter:
    """A context: the shard appears at the end of the block, and not at all if the block fails.

    Args:
        root: Folder of the cache.
        part: The image shard.
        recipe: Of the cache.
        token: Of this process; two that write the same shard do not disturb each other.
    """

    def __init__(self, root: Path, part: Part, recipe: Recipe, token: str) -> None:
        self.root, self.part, self.recipe, self.token = root, part, recipe, token
        self._partial = root / f"{part.tar}.{token}.partial"
        self._samples: list[dict[str, object]] = []
        self._errors: list[Tensor] = []

    def __enter__(self) -> Self:
        try:
            self._stream = self._partial.open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def add(self, key: str, image: str, cached: CachedTrunk, row: int, errors: Tensor) -> None:
        """Append a sample.

        Args:
            key: Of the sample.
            image: Digest of the image file.
            cached: A batch as the cache stores it.
            row: Which sample of the batch.
            errors: (levels,) relative MSE of the sample.
        """
        levels = [level[row] for level in cached.levels]
        scales = [] if cached.scales is None else [scale[row] for scale in cached.scales]
        tensors = levels if not scales else [tensor for pair in zip(levels, scales, strict=True) for tensor in pair]
        places: dict[str, tuple[int, int]] = {}
        try:
            for member, tensor in zip(self.recipe.members, tensors, strict=True):
                assert tuple(tensor.shape) == member.shape, f"{member} against {tuple(tensor.shape)}"
                places[member.extension] = self._append(f"{key}.{member.extension}", raw(tensor))
        except OSError as error:
            raise self._failed(error) from error
        self._samples.append({"key": key, "image": image, "members": places})
        self._errors.append(errors.double().cpu())

    def _append(self, name: str, data: memoryview) -> tuple[int, int]:
        info = TarInfo(name)
        info.size, info.mode, info.uname, info.gname = len(data), 0o644, "phd", "phd"
        self._stream.write(info.tobuf(PAX_FORMAT))
        offset = self._stream.tell()
        self._stream.write(data)
        self._stream.write(bytes(-len(data) % BLOCKSIZE))
        return offset, len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as problem:
            raise self._failed(problem) from problem
        finally:
            with contextlib.suppress(OSError):  # a full disk must not keep us from removing what fills it
                self._stream.close()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._stream.write(bytes(2 * BLOCKSIZE))
        self._stream.write(bytes(-self._stream.tell() % RECORDSIZE))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        size = self._stream.tell()
        try:
            self._partial.replace(self.root / self.part.tar)
            write_atomically(self.root / self.part.index, self._index(size), self.token)
        except FileNotFoundError:
            return  # we were taken for dead, and another builder makes this shard

    def _index(self, size: int) -> bytes:
        errors = torch.stack(self._errors)
        index = {
            "format": FORMAT,
            "version": VERSION,
            "tar": self.part.tar,
            "bytes": size,
            "recipe_sha256": self.recipe.sha256,
            "images_index_sha256": self.part.index_sha256,
            "relative_mse": summary(errors.mean(dim=0).tolist(), errors.amax(dim=0).tolist()),
            "samples": self._samples,
        }
        return json.dumps(index, separators=(",", ":")).encode()

    def _failed(self, error: OSError) -> UserError:
        return UserError(
            f"{self.root}: {self.part.tar} cannot be written ({error.strerror}); make room or name another folder, "
            f"then run `phd cache build` again: finished shards are kept"
        )


def summary(means: Sequence[float], largest: Sequence[float]) -> dict[str, dict[str, float]]:
    """Relative errors by level, as index and manifest keep them."""
    pairs = enumerate(zip(means, largest, strict=True))
    return {f"level{number}": {"mean": mean, "max": most} for number, (mean, most) in pairs}
