"""The files of a folder that were read last, kept open."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from phd.errors import UserError

OPEN_FILES = 64


class OpenFiles:
    """Descriptors by file name; the one that was not asked for longest is closed for a new one.

    Cheap to send to a worker: files are opened when first read, in the process that reads them. Not for several
    threads of one process at once: one may close the file that another reads.

    Args:
        root: The folder.

    Attributes:
        descriptors: File name -> descriptor, the latest last.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.descriptors: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "descriptors": OrderedDict()}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading goes on to work."""
        while self.__dict__.get("descriptors"):
            os.close(self.descriptors.popitem()[1])

    def descriptor(self, name: str) -> int:
        """The descriptor of a file, for `os.pread`; valid until OPEN_FILES others were asked for.

        Raises:
            UserError: It cannot be opened.
        """
        if name in self.descriptors:
            self.descriptors.move_to_end(name)
            return self.descriptors[name]
        if len(self.descriptors) >= OPEN_FILES:
            os.close(self.descriptors.popitem(last=False)[1])
        try:
            self.descriptors[name] = os.open(self.root / name, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{self.root / name}: cannot be opened ({error.strerror}); check the file") from error
        return self.descriptors[name]
