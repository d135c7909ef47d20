"""Reads features by key, straight into the tensors of a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.cache.layout import Part, read_index, read_manifest
from datamodules.cache.pages import empty
from datamodules.cache.recipe import Recipe, transform_sha256
from datamodules.open_files import OpenFiles
from phd.batches import CachedTrunk
from phd.contract import Contract
from phd.errors import UserError

AGAIN = "remove both files of this shard and run `phd cache build` again"


class CacheReader:
    """A teacher feature cache.

    Cheap to send to a worker: files are opened when first read, in the process that reads them.

    Args:
        root: Folder with `cache.json`.
        partial: Also take a cache that is not finished; without it every shard must be there.

    Attributes:
        recipe: How the features were made.
        bound: SHA-256 of the indices of the image shards whose features are here.

    Raises:
        UserError: No cache, not finished, or damaged.
    """

    def __init__(self, root: str | Path, partial: bool = False) -> None:
        self.root = Path(root)
        manifest = read_manifest(self.root)
        self.recipe: Recipe = manifest.recipe
        parts = [part for part in manifest.parts if part.done(self.root)]
        if len(parts) < len(manifest.parts) and not partial:
            absent = next(part for part in manifest.parts if part not in parts)
            raise UserError(
                f"{self.root}: {len(manifest.parts) - len(parts)} of {len(manifest.parts)} shards are not cached, the "
                f"first is {absent.tar}; run `phd cache build` again"
            )
        self.bound = {part.index_sha256 for part in parts}
        self._tars = [part.tar for part in parts]
        self._load(parts)
        self._open_files = OpenFiles(self.root)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return self._places([key]) is not None

    def digest(self, key: str) -> str:
        """Digest of the image file that the features of this key were made from."""
        places = self._places([key])
        assert places is not None, f"{key} is not in the cache"
        return bytes(self._digests[places[0]]).decode()

    def read(self, keys: Sequence[str]) -> CachedTrunk | None:
        """The features of a batch in the order of the keys, or None where one of them is not cached.

        Raises:
            UserError: A tar has become shorter than its index says.
        """
        places = self._places(keys)
        if places is None:
            return None
        members = self.recipe.members
        tensors = [empty((len(keys), *member.shape), member.dtype) for member in members]
        for row, place in enumerate(places):
            shard, offsets = int(self._shards[place]), self._offsets[place].tolist()
            for member, tensor, offset in zip(members, tensors, offsets, strict=True):
                self._fill(tensor[row], shard, offset, f"{keys[row]}.{member.extension}")
        if self.recipe.dtype == "int8":
            return CachedTrunk(tuple(tensors[0::2]), tuple(tensors[1::2]))
        return CachedTrunk(tuple(tensors), None)

    def require_contract(self, contract: Contract) -> None:
        """Raise unless the cache was made for this contract and this way to draw the canvas.

        Raises:
            UserError: Names what differs.
        """
        mine, theirs = self.recipe.contract.to_dict(), contract.to_dict()
        differing = [f"{name}: {mine[name]} against {theirs[name]}" for name in mine if mine[name] != theirs[name]]
        if not differing and self.recipe.transform_sha256 != transform_sha256(contract):
            made, now = self.recipe.transform_sha256[:12], transform_sha256(contract)[:12]
            differing = [f"transform: {made} against {now}, as another version draws the canvas"]
        if differing:
            raise UserError(
                f"{self.root}: the cache was made for another contract than the model's ({'; '.join(differing[:3])}); "
                f"build a cache with the teacher of this run"
            )

    def require_weights(self, weights_sha256: str, teacher: str) -> None:
        """Raise unless the cache was made by a teacher whose trunk has these weights.

        Raises:
            UserError: Names both teachers.
        """
        if weights_sha256 != self.recipe.weights_sha256:
            raise UserError(
                f"{self.root}: the cache was made by another teacher, {self.recipe.teacher} with weights "
                f"{self.recipe.weights_sha256[:12]}, than the run's, {teacher} with weights {weights_sha256[:12]}; "
                f"build a cache with the teacher of this run"
            )

    def _places(self, keys: Sequence[str]) -> np.ndarray | None:
        """Where the keys are in the sorted list, or None where one of them is not."""
        wanted = np.array([key.encode() for key in keys])
        places = np.searchsorted(self._keys, wanted)
        found = places < len(self._keys)
        found[found] = self._keys[places[found]] == wanted[found]
        return places if found.all() else None

    def _fill(self, tensor: Tensor, shard: int, offset: int, name: str) -> None:
        """Read a member into a tensor's own memory, and its header beside it."""
        header, tar = bytearray(BLOCKSIZE), self._tars[shard]
        descriptor = self._open_files.descriptor(tar)
        rest = tensor.view(torch.uint8).numpy().data.cast("B")
        count = os.preadv(descriptor, [header, rest], offset - BLOCKSIZE) - BLOCKSIZE
        while 0 <= count < len(rest):  # a network file system may answer in parts
            rest, offset = rest[count:], offset + count
            count = os.preadv(descriptor, [rest], offset) or -1
        if count < 0:
            raise UserError(f"{self.root / tar}: {name} is cut short; {AGAIN}")
        # Only the first 100 bytes of a name are in this header; letters beyond ASCII are question marks in it.
        if header[:100].rstrip(b"\0") != name.encode("ascii", "replace")[:100]:
            raise UserError(f"{self.root / tar}: {name} does not lie where the index says; {AGAIN}")

    def _load(self, parts: Sequence[Part]) -> None:
        """Read the indices into arrays; millions of strings and dicts would not fit beside many workers."""
        keys, digests = [np.empty(0, "S1")], [np.empty(0, "S1")]
        shards, offsets = [np.empty(0, np.int32)], [np.empty((0, len(self.recipe.members)), np.int64)]
        for number, part in enumerate(parts):
            samples = read_index(self.root, part, self.recipe)["samples"]
            try:
                keys.append(np.array([sample["key"].encode() for sample in samples]))
                digests.append(np.array([sample["image"].encode() for sample in samples]))
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{self.root / part.index}: a sample is damaged ({error}); {AGAIN}") from error
            shards.append(np.full(len(samples), number, np.int32))
            offsets.append(self._member_offsets(part, samples))
        order = np.argsort(np.concatenate(keys), kind="stable")
        self._keys, self._digests = np.concatenate(keys)[order], np.concatenate(digests)[order]
        self._shards, self._offsets = np.concatenate(shards)[order], np.concatenate(offsets)[order]
        twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if len(twice):
            raise UserError(f"{self.root}: holds {bytes(self._keys[twice[0]]).decode()} twice; build the cache again")

    def _member_offsets(self, part: Part, samples: list[dict[str, Any]]) -> np.ndarray:
        """Where the members of the samples of a shard begin, (samples, members)."""
        members = self.recipe.members
        try:
            places = np.array([[sample["members"][m.extension] for m in members] for sample in samples], np.int64)
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{self.root / part.index}: lacks a member of a sample ({error}); {AGAIN}") from error
        if (places[:, :, 1] != [member.bytes for member in members]).any():
            raise UserError(f"{self.root / part.index}: a member has not the size that the contract gives it; {AGAIN}")
        return places[:, :, 0]
