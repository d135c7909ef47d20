"""meta.json of YouTube-VOS and LVOS: what is known of each object beside its masks.

YouTube-VOS: `videos[name].objects[id] = {"category"?, "frames": [names of the frames to segment]}`.
LVOS: `videos[name].objects[id] = {"frame_range": {"start", "end", "frame_nums"}}`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datamodules.convert.frame_folder import base_of
from datamodules.convert.raw import read_file, read_json
from phd.errors import UserError

FLAG: tuple[str, dict[str, Any]] = ("--meta", {"metavar": "FILE", "help": "meta.json (default: looked for in ROOT)"})
# Video -> object id -> fields.
Meta = dict[str, dict[int, dict[str, Any]]]


def _numbers(value: Any) -> Any:
    """Frame names ("00005") as the numbers that the record uses."""
    if isinstance(value, dict):
        return {name: _numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def find_meta(options: argparse.Namespace) -> Path:
    """The file that is named, or `meta.json`, or the only `*_meta.json` (LVOS: `valid_meta.json`).

    Raises:
        UserError: There is none, or more than one.
    """
    if options.meta:
        return Path(options.meta)
    base = base_of(Path(options.root), options.split)
    if (base / "meta.json").is_file():
        return base / "meta.json"
    named = [
        base / f"{name}_meta.json" for name in (options.split, base.name) if (base / f"{name}_meta.json").is_file()
    ]
    found = named[:1] or sorted(base.glob("*_meta.json"))
    if len(found) != 1:
        have = ", ".join(path.name for path in found) or "no meta.json"
        raise UserError(f"{base}: has {have}; name the file with --meta")
    return found[0]


def read_meta(path: Path) -> Meta:
    """The fields of all objects.

    Raises:
        UserError: It is not in that format.
    """
    content = read_json(read_file(path), str(path))
    try:
        return {
            video: {int(name): _numbers(dict(fields)) for name, fields in entry["objects"].items()}
            for video, entry in content["videos"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not in the format of YouTube-VOS and LVOS ({error!r} is missing or wrong); "
            f"mend it or name another file"
        ) from error
