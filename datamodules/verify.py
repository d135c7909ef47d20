"""Reads everything in a folder of shards and lists what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from datamodules.reader import read_manifest
from datamodules.record import check_annotation, check_form, check_size, decode_rgb
from datamodules.shards import MANIFEST, Places, Shard, index_of, members_of, sha256
from phd.errors import UserError


@dataclass
class VerifyReport:
    """What was read, and one line `shard: key: what` for each problem."""

    samples: int = 0
    masks: int = 0
    crowds: int = 0
    shards: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(root: Path) -> VerifyReport:
    """Read every byte of a folder of shards.

    Raises:
        UserError: It has no manifest, so there is nothing to verify.
    """
    manifest = read_manifest(root)
    report = VerifyReport()
    keys: dict[str, str] = {}
    shards = [Shard(**shard) for shard in manifest["shards"]]
    expected = {MANIFEST} | {f"{shard.name}.{suffix}" for shard in shards for suffix in ("tar", "index.json")}
    report.problems += [
        f"{name}: not listed in {MANIFEST}; left by a conversion that was killed?"
        for name in sorted({path.name for path in root.iterdir()} - expected)
    ]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("verify", total=manifest["samples"])
        for shard in shards:
            report.shards += 1
            places, wrong = _structure(root, shard)
            report.problems += [f"{shard.name}: {problem}" for problem in wrong]
            for key, problems, annotations in _samples(root / f"{shard.name}.tar", places):
                if key in keys:
                    problems.append(f"the key is also in {keys[key]}")
                keys[key] = shard.name
                report.problems += [f"{shard.name}: {key}: {problem}" for problem in problems]
                report.samples += 1
                crowds = sum(bool(item.get("iscrowd")) for item in annotations)
                report.crowds += crowds
                report.masks += len(annotations) - crowds
                progress.advance(task)
    if report.samples != manifest["samples"]:
        report.problems.append(f"{MANIFEST}: says {manifest['samples']} samples, {report.samples} were read")
    return report


def _structure(root: Path, shard: Shard) -> tuple[Places, list[str]]:
    """Where the members of a tar really lie, and what is wrong with the tar and its index."""
    tar, index = root / f"{shard.name}.tar", root / f"{shard.name}.index.json"
    problems = [f"{path.name} is missing" for path in (tar, index) if not path.is_file()]
    if not tar.is_file():
        return {}, problems
    if tar.stat().st_size != shard.bytes:
        problems.append(f"has {tar.stat().st_size} bytes where {MANIFEST} says {shard.bytes}")
    try:
        places = members_of(tar)
    except UserError as error:
        return {}, [*problems, str(error)]
    if len(places) != shard.samples:
        problems.append(f"holds {len(places)} samples where {MANIFEST} says {shard.samples}")
    if index.is_file():
        data = index.read_bytes()
        if sha256(data) != shard.index_sha256:
            problems.append(f"{index.name} is not the one that {MANIFEST} lists")
        elif data != index_of(shard.name, places):
            problems.append(f"{index.name} does not fit the tar")
    return places, problems


def _samples(tar: Path, places: Places) -> Iterator[tuple[str, list[str], list[dict[str, Any]]]]:
    """Key, problems and annotations of each sample of a tar."""
    if not places:
        return
    with tar.open("rb") as stream:
        for key, members in places.items():
            if members.keys() != {"jpg", "json"}:
                yield key, [f"has the members {sorted(members)}, not jpg and json"], []
                continue
            contents: dict[str, bytes] = {}
            for extension, (offset, size) in members.items():
                stream.seek(offset)
                contents[extension] = stream.read(size)
            yield key, *_check(contents["jpg"], contents["json"])


def _check(jpg: bytes, text: bytes) -> tuple[list[str], list[dict[str, Any]]]:
    """What is wrong with a sample, and its annotations."""
    try:
        record = json.loads(text)
        check_form(record, "its JSON")
    except ValueError as error:
        return [f"its JSON cannot be parsed ({error})"], []
    except UserError as error:
        return [str(error)], []
    annotations = record["annotations"]
    problems: list[str] = []
    try:
        _, height, width = decode_rgb(jpg, "its image").shape
        check_size(record, height, width, "its image")
    except UserError as error:
        return [str(error)], annotations
    for annotation in annotations:
        try:
            check_annotation(annotation, height, width, "its JSON")
        except UserError as error:
            problems.append(str(error))
    return problems, annotations
