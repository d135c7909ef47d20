"""A folder of runs belongs to one command, with one set of settings, and to one process at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.shards import write_atomically
from phd.errors import UserError

LOCK = ".lock"


@contextmanager
def only_command_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process: two at once would take each other's half-made runs for their own.

    The system lets it go when the process ends, however it ends.

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


def claim(file: Path, settings: dict[str, Any]) -> None:
    """Make the folder of this JSON file that of these settings; results of others must not share its table.

    Raises:
        UserError: It holds results of other settings.
    """
    mine = json.loads(json.dumps(settings, default=str))
    if file.exists():
        held = json.loads(file.read_text(encoding="utf-8"))
        for name in sorted({*held, *mine}):
            if held.get(name) != mine.get(name):
                raise UserError(
                    f"{file.parent}: holds results of {name} {held.get(name)}, not {mine.get(name)}; name another "
                    f"folder, or delete this one"
                )
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(mine, indent=1) + "\n").encode())
