"""A cache whose manifest or index is not what a build writes: one line that names the file, never a bare exception."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from datamodules.cache import CacheReader
from datamodules.cache.layout import MANIFEST, read_manifest
from phd.errors import UserError

INDEX = "features-shard-000001.index.json"


def changed(cache: Path, folder: Path, name: str, change: dict[str, Any]) -> Path:
    """A copy of the cache with other values in one of its JSON files; None takes a value away."""
    shutil.copytree(cache, folder)
    values = {**json.loads((cache / name).read_bytes()), **change}
    (folder / name).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return folder


def part(**values: Any) -> dict[str, Any]:
    return {"name": "shard-000000", "samples": 8, "index_sha256": "", **values}


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": None},
        {"recipe": 5},
        {"recipe": {}},
        {"parts": 5},
        {"parts": [{}]},
        {"parts": [part(name=5)]},
        {"parts": [part(name="../elsewhere")]},
        {"parts": [part(samples="8")]},
        {"relative_mse": []},
        {"relative_mse": {"level0": 0.1}},
        {"relative_mse": {"level0": {"mean": 0.1}}},
        {"unknown": 1},
    ],
)
def test_a_damaged_manifest(change: dict[str, Any], tiny_cache: Path, tmp_path: Path) -> None:
    folder = changed(tiny_cache, tmp_path / "copy", MANIFEST, change)
    with pytest.raises(UserError, match=r"copy/cache\.json: a setting is missing or unknown .*; build the cache again"):
        read_manifest(folder)


@pytest.mark.parametrize("setting", [{"dtype": "int3"}, {"precision": "16"}, {"contract": 5}, {"contract": {}}])
def test_a_damaged_recipe(setting: dict[str, Any], tiny_cache: Path, tmp_path: Path) -> None:
    recipe = json.loads((tiny_cache / MANIFEST).read_bytes())["recipe"]
    folder = changed(tiny_cache, tmp_path / "copy", MANIFEST, {"recipe": {**recipe, **setting}})
    with pytest.raises(UserError, match=r"copy/cache\.json: a setting is missing or unknown"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "not an index of phd-cache version 1"),
        ({"bytes": None}, "damaged, as a field is missing"),
        ({"bytes": "x"}, "damaged, as a field is missing or of another kind"),
        ({"samples": 5}, "damaged, as a field is missing or of another kind"),
        ({"relative_mse": 5}, "damaged, as a field is missing or of another kind"),
        ({"recipe_sha256": "0"}, "made with another teacher or other settings"),
        ({"samples": []}, "made from another image shard"),
        ({"samples": 8 * [{}]}, "a sample is damaged"),
        ({"samples": 8 * [5]}, "a sample is damaged"),
        ({"samples": 8 * [{"key": 1, "image": 2, "members": {}}]}, "a sample is damaged"),
        ({"samples": 8 * [{"key": "a", "image": "b", "members": {}}]}, "lacks a member of a sample"),
        ({"samples": 8 * [{"key": "a", "image": "b", "members": None}]}, "lacks a member of a sample"),
    ],
)
def test_a_damaged_index(change: dict[str, Any], message: str, tiny_cache: Path, tmp_path: Path) -> None:
    folder = changed(tiny_cache, tmp_path / "copy", INDEX, change)
    with pytest.raises(UserError, match=rf"copy/{INDEX}: {message}.*run `phd cache build` again"):
        CacheReader(folder)


def test_members_that_lie_nowhere(tiny_cache: Path, tmp_path: Path) -> None:
    samples = json.loads((tiny_cache / INDEX).read_bytes())["samples"]
    for sample in samples:
        sample["members"] = {name: ["a", size] for name, (_, size) in sample["members"].items()}
    folder = changed(tiny_cache, tmp_path / "copy", INDEX, {"samples": samples})
    with pytest.raises(UserError, match="lacks a member of a sample"):
        CacheReader(folder)
