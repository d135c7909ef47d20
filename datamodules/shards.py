"""The shard format: WebDataset tars, an index beside each, one manifest.

- `shard-000000.tar`: key.jpg, key.json, ... as any WebDataset reader expects them
- `shard-000000.index.json`: where each member lies, so that a sample is one seek and one read
- `shards.json`: the manifest, written last; a folder without it is not finished
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.tar_members import tar_members
from phd.errors import UserError

FORMAT, VERSION, MANIFEST = "phd-shards", 1, "shards.json"
# What a conversion that was killed leaves in place of a manifest.
JOURNAL = "convert.journal.json"
# Of one shard: key -> extension -> (offset, size) in bytes, in the order of the tar.
Places = dict[str, dict[str, tuple[int, int]]]
# A ustar header holds 100 bytes of name; the longest extension, `.000000.jpg`, takes 11 of them.
LONGEST_KEY = 89


@dataclass(frozen=True)
class Shard:
    """One tar as the manifest lists it; `name` without extension."""

    name: str
    samples: int
    bytes: int
    index_sha256: str


FIELDS = {"name": str, "samples": int, "bytes": int, "index_sha256": str}


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def shards_of(manifest: dict[str, Any], where: str) -> list[Shard]:
    """The shards that a manifest lists.

    Raises:
        UserError: It lists none, or an entry is not of this format or names a file elsewhere.
    """
    try:
        shards = [Shard(**entry) for entry in manifest["shards"]]
        sound = all(type(getattr(shard, name)) is kind for shard in shards for name, kind in FIELDS.items())
        if not shards or not sound or any("/" in shard.name for shard in shards):
            raise ValueError("no shards, or an entry that is none")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: its list of shards is damaged ({error}); copy it again or convert again") from error
    return shards


def members_of(tar: Path) -> Places:
    """Where each member of a tar lies.

    Raises:
        UserError: The tar is damaged or cut short, or holds a member twice, or one that is a link or lies in a folder.
    """
    samples: Places = {}
    try:
        for member in tar_members(tar):
            key, _, extension = member.name.partition(".")
            if not member.isreg() or not key or "/" in member.name:
                raise UserError(f"{tar}: {member.name} is no plain file of a shard; convert the raw data again")
            places = samples.setdefault(key, {})
            if extension in places:
                raise UserError(f"{tar}: holds {member.name} twice; convert the raw data again")
            places[extension] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{tar}: cannot be read as a tar ({error}); convert the raw data again") from error
    return samples


def write_atomically(path: Path, data: bytes, token: str = "") -> None:
    """Write a file under a temporary name and rename it, so that it is there whole or not at all.

    Args:
        path: Final name.
        data: Content.
        token: Of the writing process, where several may write this file: they never share a temporary name.
    """
    partial = path.with_name(f"{path.name}.{token}.partial" if token else f"{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def to_json(value: Any) -> bytes:
    """Compact JSON in a fixed order of keys."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def index_of(name: str, places: Places) -> bytes:
    """The index file of the shard with this name."""
    samples = [{"key": key, "members": members} for key, members in places.items()]
    return to_json({"format": FORMAT, "version": VERSION, "tar": f"{name}.tar", "samples": samples})
