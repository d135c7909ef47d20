"""The files of a folder of shards behind a URL: https, s3, gs and whatever else fsspec reads."""

from __future__ import annotations

import os
from tarfile import BLOCKSIZE
from typing import Any

import fsspec

from datamodules.folder import Place
from datamodules.storage import file_system, patiently
from phd.errors import UserError

# Members closer than this are read together: a request costs more than these bytes.
GAP = 64 * 1024
# Bytes of the first request that shows whether the server knows ranges.
PROBE = 16
# File systems of a parent process: never closed here, for the parent uses their connections.
_inherited: list[fsspec.AbstractFileSystem] = []


class RemoteFolder:
    """A folder behind a URL.

    Safe to fork and cheap to send to a worker: every process makes its own connections when it first reads.

    Args:
        url: What follows a question mark, as a signature of the access, is kept for every file.
    """

    threads = 16

    def __init__(self, url: str) -> None:
        base, mark, query = url.partition("?")
        self.where, self.query = base.rstrip("/"), mark + query
        self._made: tuple[int, fsspec.AbstractFileSystem, str] | None = None
        self._knows_ranges = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    def close(self) -> None:
        """Let go of the connections."""
        self._made = None

    def address(self, name: str) -> str:
        """URL of a file, without the query."""
        return f"{self.where}/{name}"

    def size(self, name: str) -> int | None:
        """Bytes of a file; FileNotFoundError where there is none."""
        system, path = self._locate(name)
        return patiently(lambda: system.info(path)["size"], self.address(name))

    def whole(self, name: str) -> bytes:
        """Contents of a file; FileNotFoundError where there is none.

        Raises:
            UserError: It cannot be read, or the server does not know byte ranges. Asked once, with the first file, for
                that is a small one: such a server sends a whole tar where a member is asked for.
        """
        system, path = self._locate(name)
        where = self.address(name)
        contents = patiently(lambda: system.cat_file(path), where)
        if not self._knows_ranges and len(contents) > PROBE:
            check_range(
                0, PROBE, patiently(lambda: system.cat_file(path, 0, PROBE), where), f"{where}, bytes 0-{PROBE - 1}"
            )
            self._knows_ranges = True
        return contents

    def names(self) -> list[str]:
        """Names of the files; none where the server does not list them."""
        system, path = self._locate("")
        try:
            found = patiently(lambda: system.ls(path, detail=False), self.where)
        except FileNotFoundError:
            return []
        return sorted(name.partition("?")[0].rstrip("/").rpartition("/")[2] for name in found)

    def members(self, name: str, places: list[Place]) -> list[tuple[bytes, bytes]]:
        """Header and contents of members, by range requests.

        Raises:
            UserError: The storage cannot be reached, or does not answer with the ranges.
        """
        ranges = merged([(offset - BLOCKSIZE, offset + size) for offset, size in places])
        blobs = dict(zip(ranges, self._read(name, ranges), strict=True))
        found = []
        for offset, size in places:
            first, blob = next((start, blobs[start, end]) for start, end in ranges if start <= offset - BLOCKSIZE < end)
            at = offset - first
            found.append((blob[at - BLOCKSIZE : at], blob[at : at + size]))
        return found

    def _read(self, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        system, path = self._locate(name)
        where = f"{self.address(name)}, bytes {', '.join(f'{start}-{end - 1}' for start, end in ranges)}"
        starts, ends = zip(*ranges, strict=True)

        def request() -> list[bytes]:
            return system.cat_ranges([path] * len(ranges), list(starts), list(ends), on_error="raise")

        try:
            blobs = patiently(request, where)
        except FileNotFoundError as error:
            raise UserError(f"{where}: the file is gone; copy it again or convert again") from error
        for (start, end), blob in zip(ranges, blobs, strict=True):
            check_range(start, end, blob, where)
        return blobs

    def _locate(self, name: str) -> tuple[fsspec.AbstractFileSystem, str]:
        """This process's file system, and the path of a file in it."""
        if self._made is not None and self._made[0] != os.getpid():
            _inherited.append(self._made[1])
            self._made = None
        if self._made is None:
            self._made = (os.getpid(), *file_system(self.where))
        _, system, path = self._made
        return system, f"{path.rstrip('/')}/{name}{self.query}"


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in fewer ranges [start, end): those are joined that have less than GAP between them."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start - joined[-1][1] < GAP:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def check_range(start: int, end: int, blob: bytes, where: str) -> None:
    """Check that an answer has the length that was asked for.

    Raises:
        UserError: It is another one.
    """
    if len(blob) > end - start:
        raise UserError(
            f"{where}: the server answered with {len(blob)} bytes where {end - start} were asked for, "
            f"it ignores byte ranges; use a server that knows them, or copy the shards to a disk"
        )
    if len(blob) < end - start:
        raise UserError(f"{where}: only {len(blob)} bytes came; the tar is cut short: copy it again or convert again")
