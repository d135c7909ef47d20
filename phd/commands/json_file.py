"""The option `--json FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phd.errors import UserError


def write_json(path: Path | None, value: Any) -> None:
    """Write the numbers where a file is asked for, whole or not at all; its folder is made.

    Raises:
        UserError: The file cannot be written.
    """
    from datamodules.shards import write_atomically

    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
