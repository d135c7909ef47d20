"""Is a shard a sound tar that fits its index and the manifest?"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from datamodules.shards import MANIFEST, Places, Shard, index_of, sha256
from datamodules.tar_members import tar_members


def check_structure(root: Path, shard: Shard) -> tuple[Places, list[str]]:
    """Where the members of a shard's tar really lie, as far as it can be read, and what is wrong with tar and index."""
    tar, index = root / f"{shard.name}.tar", root / f"{shard.name}.index.json"
    problems = [f"{path.name} is missing" for path in (tar, index) if not path.is_file()]
    if not tar.is_file():
        return {}, problems
    if tar.stat().st_size != shard.bytes:
        problems.append(f"has {tar.stat().st_size} bytes where {MANIFEST} says {shard.bytes}")
    places, wrong = walk(tar)
    problems += wrong
    if len(places) != shard.samples:
        problems.append(f"holds {len(places)} samples where {MANIFEST} says {shard.samples}")
    if index.is_file():
        data = index.read_bytes()
        if sha256(data) != shard.index_sha256:
            problems.append(f"{index.name} is not the one that {MANIFEST} lists")
        elif data != index_of(shard.name, places):
            problems.append(f"{index.name} does not fit the tar{_difference(data, places)}")
    return places, problems


def walk(tar: Path) -> tuple[Places, list[str]]:
    """The members of a tar up to where it is damaged, and everything about it that no shard may have."""
    places: Places = {}
    problems: list[str] = []
    last = "the start"
    try:
        for member in tar_members(tar):
            key, _, extension = member.name.partition(".")
            # Unpacked, such a member would be written, or would lead, out of the folder.
            if not member.isreg() or not key or "/" in member.name:
                problems.append(f"{member.name}: {_kind(member)}; a shard holds plain files only")
            elif extension in places.get(key, {}):
                problems.append(f"{key}: {member.name} is there twice")
            else:
                places.setdefault(key, {})[extension] = (member.offset_data, member.size)
            last = member.name
    except (tarfile.TarError, OSError) as error:
        problems.append(f"the tar is damaged after {last} ({error})")
    return places, problems


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname}"
    if not member.isreg():
        return "is a folder" if member.isdir() else "is no file"
    return "lies outside the folder" if member.name.startswith(("/", "..")) else "lies in another folder"


def _difference(data: bytes, places: Places) -> str:
    """The first sample about which an index and its tar disagree."""
    try:
        said = {entry["key"]: entry["members"] for entry in json.loads(data)["samples"]}
    except (ValueError, KeyError, TypeError):
        return ": it is damaged"
    really = {key: {name: list(place) for name, place in members.items()} for key, members in places.items()}
    for key in [*really, *said]:
        if said.get(key) != really.get(key):
            return f": they differ at {key}; is it older than the tar?"
    return ": it has another order"
