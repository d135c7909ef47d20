"""Opens a folder of shards: its manifest and the indices that it lists, all of them checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from datamodules.folder import Folder, LocalFolder, open_folder
from datamodules.member_index import MemberIndex
from datamodules.shards import FORMAT, JOURNAL, MANIFEST, VERSION, Shard, sha256
from phd.errors import UserError

# Opening more shards than this shows its progress.
MANY_SHARDS = 200


def read_manifest(root: str | Path, folder: Folder | None = None) -> dict[str, Any]:
    """The manifest of a folder of shards, checked.

    Args:
        root: Path or URL.
        folder: The same, opened already.

    Raises:
        UserError: There is none, or it is of another format.
    """
    folder = folder or open_folder(root)
    path = folder.address(MANIFEST)
    try:
        manifest = json.loads(folder.whole(MANIFEST))
    except FileNotFoundError as error:
        raise UserError(f"{folder.where}: {_state(folder)}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); convert again with `phd shards convert`") from error
    stamp = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else None
    if stamp != (FORMAT, VERSION):
        raise UserError(f"{path}: not a manifest of {FORMAT} version {VERSION}; convert again")
    return manifest


def _state(folder: Folder) -> str:
    """Why a folder without a manifest has none."""
    try:
        folder.whole(JOURNAL)
    except FileNotFoundError:
        absent = isinstance(folder, LocalFolder) and not folder.root.is_dir()
        state = "no such folder" if absent else f"has no {MANIFEST}"
        return f"{state}: no finished shards; make them with `phd shards convert`"
    return (
        f"its conversion is unfinished ({JOURNAL} but no {MANIFEST}); "
        f"go on with the same `phd shards convert` and --resume"
    )


def indices(folder: Folder, shards: list[Shard]) -> Iterator[MemberIndex]:
    """The index of every shard, many read at once where the storage is far away.

    Raises:
        UserError: A file is missing, damaged, or not the one that the manifest lists.
    """
    pool = ThreadPoolExecutor(folder.threads)
    many = len(shards) >= MANY_SHARDS
    try:
        with Progress(console=Console(stderr=True), transient=True, disable=not many) as progress:
            found = pool.map(partial(_index, folder), shards)
            yield from progress.track(found, len(shards), description="open shards")
    finally:
        pool.shutdown(cancel_futures=True)


def _index(folder: Folder, shard: Shard) -> MemberIndex:
    """A shard's index, checked against the manifest."""
    tar, path = folder.address(f"{shard.name}.tar"), folder.address(f"{shard.name}.index.json")
    try:
        size = folder.size(f"{shard.name}.tar")
    except FileNotFoundError as error:
        raise UserError(_missing(tar)) from error
    try:
        text = folder.whole(f"{shard.name}.index.json")
    except FileNotFoundError as error:
        raise UserError(_missing(path)) from error
    if size is not None and size != shard.bytes:
        raise UserError(
            f"{tar}: has {size} bytes where {MANIFEST} says {shard.bytes}; "
            f"copy it again or convert again with `phd shards convert`"
        )
    if sha256(text) != shard.index_sha256:
        raise UserError(f"{path}: not the index that {MANIFEST} lists; copy it again or convert again")
    try:
        index = MemberIndex.of_shard(json.loads(text)["samples"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no index of {FORMAT} ({error!r}); convert again") from error
    if len(index) != shard.samples or index.end > shard.bytes:
        raise UserError(f"{path}: does not fit its tar and {MANIFEST}; copy them again or convert again")
    return index


def _missing(path: str) -> str:
    return f"{path}: missing though {MANIFEST} lists it; copy it again or convert again"
