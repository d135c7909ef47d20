"""Members of tars as they were published, read in place."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from datamodules.tar_members import tar_members
from phd.errors import UserError


def members_of_tar(path: Path) -> Iterator[tarfile.TarInfo]:
    """The plain files in an uncompressed tar.

    Raises:
        UserError: The tar is damaged or cut short, or a member is a link or lies outside the folder of the tar.
    """
    try:
        for member in tar_members(path):
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{path}: member {member.name} points outside the folder; download the tar again")
            if not member.isreg() and not member.isdir():
                raise UserError(f"{path}: member {member.name} is no plain file; download the tar again")
            if member.isreg():
                yield member
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a tar ({error}); download it again") from error
