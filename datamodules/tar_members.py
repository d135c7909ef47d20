"""Members of an uncompressed tar, to its true end."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path


def tar_members(tar: Path) -> Iterator[tarfile.TarInfo]:
    """All members in their order.

    `tarfile` takes a header that is damaged or cut for the end of the tar; the true end is a block of zeros.

    Raises:
        tarfile.TarError: The tar is damaged or breaks off; raised after the members before that place.
        OSError: It cannot be read.
    """
    with tarfile.open(tar, "r:") as archive:
        yield from archive
        end = archive.offset
    with tar.open("rb") as stream:
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"is cut short or damaged at byte {end}")
