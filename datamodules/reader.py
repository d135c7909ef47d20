"""Random access to shards through their index."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.record import check_form
from datamodules.shards import FORMAT, MANIFEST, VERSION, Shard, sha256
from phd.errors import UserError

OPEN_FILES = 64


@dataclass(frozen=True)
class Sample:
    """One sample as stored: the bytes of its JPEG and its parsed JSON record."""

    key: str
    jpg: bytes
    record: dict[str, Any]


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a folder of shards, checked.

    Raises:
        UserError: There is none, or it is of another format.
    """
    path = root / MANIFEST
    if not path.is_file():
        state = "no such folder" if not root.is_dir() else f"has no {MANIFEST}"
        raise UserError(f"{root}: {state}: no finished shards; make them with `phd shards convert`")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); convert again with `phd shards convert`") from error
    stamp = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else None
    if stamp != (FORMAT, VERSION):
        raise UserError(f"{path}: not a manifest of {FORMAT} version {VERSION}; convert again")
    return manifest


class ShardReader:
    """Samples of a folder of shards by number, in the order in which they were written.

    Cheap to send to a worker: files are opened when first read, in the process that reads them.

    Args:
        root: Folder with `shards.json`.
        max_shards: Use only the first ones.

    Raises:
        UserError: The folder is not finished, damaged, or has fewer shards than asked for.
    """

    def __init__(self, root: str | Path, max_shards: int | None = None) -> None:
        self.root = Path(root)
        self.manifest = read_manifest(self.root)
        shards = [Shard(**shard) for shard in self.manifest["shards"]]
        if max_shards is not None and not 1 <= max_shards <= len(shards):
            raise UserError(
                f"{self.root}: max_shards is {max_shards} but the folder has {len(shards)} shards; "
                f"ask for 1 to {len(shards)}"
            )
        self.shards = shards[:max_shards]
        self._first = np.cumsum([0] + [shard.samples for shard in self.shards])
        self._load()
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_open", {}).values():
            os.close(descriptor)

    def key(self, number: int) -> str:
        """Key of a sample."""
        return self._keys[number].decode()

    def where(self, number: int) -> str:
        """Shard and key of a sample, for messages."""
        return f"{self._tar(self._shard_of(number))}: {self.key(number)}"

    def member(self, number: int, extension: str) -> bytes:
        """Bytes of one member of a sample.

        Raises:
            UserError: The tar has become shorter than its index says, or the sample has no such member.
        """
        if extension not in self.extensions:
            raise UserError(f"{self.root}: its samples have no .{extension}; name the folder of another kind")
        offset, size = self._places[number, self.extensions.index(extension)]
        data = os.pread(self._descriptor(self._shard_of(number)), int(size), int(offset))
        if len(data) != size:
            raise UserError(f"{self.where(number)}: .{extension} is cut short; convert again")
        return data

    def read(self, number: int) -> Sample:
        """One sample.

        Raises:
            UserError: Its JSON cannot be parsed, or a member is missing or cut short.
        """
        try:
            record = json.loads(self.member(number, "json"))
        except ValueError as error:
            raise UserError(f"{self.where(number)}: .json is no JSON ({error}); convert again") from error
        check_form(record, self.where(number))
        return Sample(self.key(number), self.member(number, "jpg"), record)

    def _shard_of(self, number: int) -> int:
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        return int(np.searchsorted(self._first, number, side="right")) - 1

    def _tar(self, shard: int) -> Path:
        return self.root / f"{self.shards[shard].name}.tar"

    def _descriptor(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        try:
            self._open[shard] = os.open(self._tar(shard), os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{self._tar(shard)}: cannot be opened ({error.strerror})") from error
        return self._open[shard]

    def _load(self) -> None:
        """Read the indices into arrays; millions of strings and dicts would not fit beside many workers."""
        keys: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for number, shard in enumerate(self.shards):
            samples = self._index(self._tar(number), shard)
            if number == 0:
                self.extensions = sorted(samples[0]["members"])
            keys.append(np.array([sample["key"].encode() for sample in samples]))
            places.append(np.array([[sample["members"][name] for name in self.extensions] for sample in samples]))
        self._keys = np.concatenate(keys)
        # (samples, extensions, 2): offset and size.
        self._places = np.concatenate(places)
        if len(np.unique(self._keys)) != len(self._keys):
            raise UserError(f"{self.root}: two samples have the same key; convert again")

    def _index(self, tar: Path, shard: Shard) -> list[dict[str, Any]]:
        """The entries of a shard's index, checked against the manifest."""
        path = tar.with_suffix(".index.json")
        for file in (tar, path):
            if not file.is_file():
                raise UserError(f"{file}: missing though {MANIFEST} lists it; copy it again or convert again")
        if tar.stat().st_size != shard.bytes:
            raise UserError(
                f"{tar}: has {tar.stat().st_size} bytes where {MANIFEST} says {shard.bytes}; "
                f"copy it again or convert again with `phd shards convert`"
            )
        index = path.read_bytes()
        if sha256(index) != shard.index_sha256:
            raise UserError(f"{path}: not the index that {MANIFEST} lists; copy it again or convert again")
        return json.loads(index)["samples"]
