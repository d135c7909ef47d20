"""Writes shards, all of them or nothing, or those that a journal lists."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from webdataset.writer import TarWriter

from datamodules.shards import (
    FORMAT,
    LONGEST_KEY,
    MANIFEST,
    VERSION,
    Shard,
    index_of,
    members_of,
    sha256,
    write_atomically,
)
from phd.errors import UserError

# Fixed, so that the same input gives the same bytes.
MTIME = 0.0
OWNER = "phd"


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt while the block runs, so that it cleans up."""
    numbers = (signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # the clean-up is not to be interrupted again
        raise KeyboardInterrupt("terminated")

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def files_of(shards: Iterable[Shard]) -> set[str]:
    """Names of the files of complete shards."""
    return {f"{shard.name}.{suffix}" for shard in shards for suffix in ("tar", "index.json")}


class ShardWriter:
    """Appends samples to shards; made by `new_shards`, which cleans up where it fails.

    Attributes:
        shards: The shards that are complete.
        details: Further entries of the manifest, to be filled by whoever writes.
        bytes: Written so far, contents only.
    """

    def __init__(self, root: Path, kind: str, samples_per_shard: int, finished: Iterable[Shard] = ()) -> None:
        self.root, self.kind, self.samples_per_shard = root, kind, samples_per_shard
        self.shards: list[Shard] = list(finished)
        self.details: dict[str, Any] = {}
        self.bytes = sum(shard.bytes for shard in self.shards)
        self._keys = {key for shard in self.shards for key in self._keys_of(shard)}
        self._in_shard = 0
        self._stream: BinaryIO | None = None
        self._tar: TarWriter | None = None

    @property
    def samples(self) -> int:
        """Samples written so far."""
        return len(self._keys)

    def write(self, key: str, members: dict[str, bytes]) -> bool:
        """Append a sample; `members` maps extensions to contents. Says whether that completed a shard.

        Raises:
            UserError: The key is used already, or cannot be the name of a member.
        """
        if key in self._keys:
            raise UserError(f"{key}: two samples have this key; rename one of the files")
        if not key or "." in key or "/" in key or len(key.encode()) > LONGEST_KEY:
            raise UserError(f"{key!r}: cannot name a sample; use 1 to {LONGEST_KEY} bytes, no dot, no slash")
        tar = self._tar or self._open_shard()
        self.bytes += tar.write({"__key__": key, **members})
        self._keys.add(key)
        self._in_shard += 1
        full = self._in_shard == self.samples_per_shard
        if full:
            self._close_shard()
        return full

    def _keys_of(self, shard: Shard) -> list[str]:
        index = json.loads((self.root / f"{shard.name}.index.json").read_bytes())
        return [sample["key"] for sample in index["samples"]]

    @property
    def _name(self) -> str:
        return f"shard-{len(self.shards):06d}"

    @property
    def _partial(self) -> Path:
        return self.root / f"{self._name}.tar.partial"

    def _open_shard(self) -> TarWriter:
        self._stream = self._partial.open("wb")
        self._tar = TarWriter(self._stream, user=OWNER, group=OWNER, mtime=MTIME, encoder=False, compress=False)
        return self._tar

    def _close_shard(self) -> None:
        if self._tar is None or self._stream is None:
            return
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._tar = self._stream = None
        tar = self.root / f"{self._name}.tar"
        size = self._partial.stat().st_size
        index = index_of(self._name, members_of(self._partial))
        self._partial.replace(tar)
        write_atomically(self.root / f"{self._name}.index.json", index)
        self.shards.append(Shard(self._name, self._in_shard, size, sha256(index)))
        self._in_shard = 0

    def finish(self) -> None:
        """Complete the last shard and write the manifest.

        Raises:
            UserError: No sample was written.
        """
        self._close_shard()
        if not self.shards:
            raise UserError(f"{self.root}: no sample to write; look at the folder of the raw data")
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "samples": self.samples,
            **self.details,
            "shards": [vars(shard) for shard in self.shards],
        }
        write_atomically(self.root / MANIFEST, json.dumps(manifest, indent=1).encode())

    def abandon(self) -> None:
        """Close the files, whatever state they are in."""
        # A full disk must not keep us from removing what fills it.
        if self._tar is not None:
            with contextlib.suppress(OSError):
                self._tar.close()
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()


def require_empty(root: Path, but: Collection[str] = ()) -> None:
    """Check that a folder is new, or holds nothing but files of these names.

    Raises:
        UserError: It is a file, or holds something else.
    """
    if root.exists() and (not root.is_dir() or any(path.name not in but for path in root.iterdir())):
        raise UserError(f"{root}: not an empty folder; remove what it holds or name another one")


@contextlib.contextmanager
def new_shards(
    root: Path,
    kind: str,
    samples_per_shard: int = 1000,
    finished: Iterable[Shard] = (),
    beside: Collection[str] = (),
    keep: Callable[[], Collection[str]] = set,
) -> Iterator[ShardWriter]:
    """A writer to a folder; on any error or interrupt only what `keep` names stays in it.

    Args:
        root: Folder to fill; new or empty, but for the shards that are finished.
        kind: What is converted ("sa1b", "coco").
        samples_per_shard: Samples in each tar but the last.
        finished: Shards to append to, by an earlier writer.
        beside: Names of further files that may be there.
        keep: Names the files that stay when an error or an interrupt ends the writing.

    Raises:
        UserError: The folder holds something already or cannot be written, or no sample came.
    """
    if samples_per_shard < 1:
        raise UserError(f"samples per shard is {samples_per_shard}; give at least 1")
    finished = list(finished)
    require_empty(root, files_of(finished) | set(beside))
    made = [path for path in (root, *root.parents) if not path.exists()]
    writer = ShardWriter(root, kind, samples_per_shard, finished)
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield writer
        writer.finish()
    except BaseException as error:
        writer.abandon()
        # The folder held nothing else when we came: all that is in it is ours.
        kept = keep() if root.is_dir() else set()
        for path in list(root.iterdir()) if root.is_dir() else []:
            if path.name not in kept:
                path.unlink()
        for folder in made if not kept else []:
            if folder.is_dir():
                folder.rmdir()
        if isinstance(error, OSError):
            raise UserError(
                f"{root}: cannot be written ({error.strerror or error}); make room or name another folder, "
                f"{'the complete shards were kept' if kept else 'nothing was kept'}"
            ) from error
        raise
