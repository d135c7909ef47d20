"""Two commands at once in one folder of runs would take each other's half-made runs for their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from phd.errors import UserError

LOCK = ".lock"


@contextmanager
def only_command_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the system lets it go when the process ends, however it ends.

    Args:
        folder: Made where it is missing; its file `.lock` stays, and means nothing when nobody holds it.

    Raises:
        UserError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder}: another command is at work in it; wait for its end, or name another folder"
        ) from error
    with lock:
        yield
