"""The files of a folder of shards on a mounted disk; `datamodules.remote` has the same for other storage."""

from __future__ import annotations

import os
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Protocol

from datamodules.open_files import OpenFiles
from phd.errors import UserError

# Of a member: offset and size in bytes.
Place = tuple[int, int]


class Folder(Protocol):
    """Where shards lie. Names are file names inside the folder."""

    where: str  # path or URL, for messages
    threads: int  # how many requests at once pay when many small files are read

    def address(self, name: str) -> str:
        """Path or URL of a file, for messages."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where the storage does not say; FileNotFoundError where there is none."""
        ...

    def whole(self, name: str) -> bytes:
        """Contents of a file; FileNotFoundError where there is none."""
        ...

    def names(self) -> list[str]:
        """Names of the files, sorted; none where the storage cannot list them or there is no such folder."""
        ...

    def members(self, name: str, places: list[Place]) -> list[tuple[bytes, bytes]]:
        """Header and contents of members of a tar, either of them shorter where the tar is cut."""
        ...

    def close(self) -> None:
        """Let go of connections and open files; reading goes on to work."""
        ...


class LocalFolder:
    """A folder that the operating system can open; sent to workers and closed to threads as `OpenFiles` is."""

    threads = 1

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)
        self.open_files = OpenFiles(root)

    def close(self) -> None:
        """Close the files."""
        self.open_files.close()

    def address(self, name: str) -> str:
        """Path of a file."""
        return str(self.root / name)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        path = self.root / name
        if not path.is_file():
            raise FileNotFoundError(path)
        return path.stat().st_size

    def whole(self, name: str) -> bytes:
        """Contents of a file.

        Raises:
            UserError: It cannot be read.
        """
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(name) from error
        except OSError as error:
            raise UserError(f"{self.address(name)}: cannot be read ({error.strerror}); check the file") from error

    def names(self) -> list[str]:
        """Names of the files."""
        return sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []

    def members(self, name: str, places: list[Place]) -> list[tuple[bytes, bytes]]:
        """Header and contents of members.

        Raises:
            UserError: The tar cannot be opened or read.
        """
        descriptor = self.open_files.descriptor(name)
        try:
            return [
                (os.pread(descriptor, BLOCKSIZE, offset - BLOCKSIZE), os.pread(descriptor, size, offset))
                for offset, size in places
            ]
        except OSError as error:
            raise UserError(f"{self.address(name)}: cannot be read ({error.strerror}); check the disk") from error


def open_folder(root: str | Path) -> Folder:
    """The folder at a path, or at a URL that fsspec knows (https, s3, gs, memory, ...)."""
    if isinstance(root, str) and "://" in root and not root.startswith("file://"):
        from datamodules.remote import RemoteFolder

        return RemoteFolder(root)
    return LocalFolder(Path(root.removeprefix("file://") if isinstance(root, str) else root))
