"""The format of a teacher feature cache: tars, an index beside each, one manifest.

- `features-NAME.tar` for the image shard `NAME`, with the same keys in the same order: `key.level0.q8` (C, h, w) int8
  and `key.level0.scale` (C,) float16 for each level of the teacher's trunk, or `key.level0.fp16`, `key.level0.bf16`
- `features-NAME.index.json`: where each member lies, bound to the image shard by the SHA-256 of its index
- `cache.json`: the manifest, there from the start, `finished` once every shard is there

A shard is done when tar and index are there under these names: the index is written last.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from datamodules.cache.quantise import TORCH_TYPES
from datamodules.cache.recipe import Precision, Recipe
from phd.errors import UserError

FORMAT, VERSION, MANIFEST = "phd-cache", 1, "cache.json"
# What an index holds, beside format and version.
INDEX_FIELDS = {
    "bytes": int,
    "recipe_sha256": str,
    "images_index_sha256": str,
    "relative_mse": dict,
    "samples": list,
}


@dataclass(frozen=True)
class Part:
    """One image shard that is cached."""

    name: str
    samples: int
    index_sha256: str

    @property
    def tar(self) -> str:
        """Name of the tar of its features."""
        return f"features-{self.name}.tar"

    @property
    def index(self) -> str:
        """Name of the index of that tar."""
        return f"features-{self.name}.index.json"

    def done(self, root: Path) -> bool:
        """Whether its features are there."""
        return (root / self.index).is_file() and (root / self.tar).is_file()


@dataclass(frozen=True)
class Manifest:
    """What a cache holds.

    Attributes:
        recipe: How its features are made.
        data: Where the images were, for the reader.
        parts: The image shards.
        finished: Whether every shard is there.
        bytes: Size of all tars.
        relative_mse: By level "mean" and "max" over the samples, measured against the live features.
        date: When it was finished, UTC.
    """

    recipe: Recipe
    data: str
    parts: tuple[Part, ...]
    finished: bool = False
    bytes: int = 0
    relative_mse: dict[str, dict[str, float]] = field(default_factory=dict)
    date: str = ""

    @property
    def samples(self) -> int:
        """Images, those not yet cached included."""
        return sum(part.samples for part in self.parts)

    def to_json(self) -> bytes:
        """The file's content."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1).encode()


def read_manifest(root: Path) -> Manifest:
    """The manifest of a cache.

    Raises:
        UserError: There is none, or it is of another format.
    """
    path = root / MANIFEST
    if not path.is_file():
        state = f"has no {MANIFEST}" if root.is_dir() else "no such folder"
        raise UserError(f"{root}: {state}: no teacher feature cache; make one with `phd cache build`")
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); build the cache again") from error
    stamp = (values.pop("format", None), values.pop("version", None)) if isinstance(values, dict) else None
    if stamp != (FORMAT, VERSION):
        raise UserError(f"{path}: not a manifest of {FORMAT} version {VERSION}; build the cache again")
    try:
        recipe, parts = Recipe.from_dict(values.pop("recipe")), tuple(Part(**part) for part in values.pop("parts"))
        manifest = Manifest(recipe=recipe, parts=parts, **values)
        if not _sound(manifest):
            raise TypeError("a value is of another kind")
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: a setting is missing or unknown ({error}); build the cache again") from error
    return manifest


def _sound(manifest: Manifest) -> bool:
    """Whether what is read later on is of the kinds that a build writes."""
    recipe, measured = manifest.recipe, manifest.relative_mse
    return (
        all(type(part.name) is str and "/" not in part.name for part in manifest.parts)
        and all(type(part.samples) is int for part in manifest.parts)
        and recipe.dtype in TORCH_TYPES
        and recipe.precision in get_args(Precision)
        and isinstance(measured, dict)
        and all(isinstance(level, dict) and level.keys() == {"mean", "max"} for level in measured.values())
    )


def read_index(root: Path, part: Part, recipe: Recipe) -> dict[str, Any]:
    """The index of a shard that is done, checked against its tar and its image shard.

    Raises:
        UserError: The index is damaged, the tar has another size, or the index belongs to another recipe or another
            image shard.
    """
    path, tar = root / part.index, root / part.tar
    try:
        index = json.loads(path.read_bytes())
        size = tar.stat().st_size
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); remove it and run `phd cache build` again") from error
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); run `phd cache build` again") from error
    again = "remove both files of this shard and run `phd cache build` again"
    stamp = (index.get("format"), index.get("version")) if isinstance(index, dict) else None
    if stamp != (FORMAT, VERSION):
        raise UserError(f"{path}: not an index of {FORMAT} version {VERSION}; {again}")
    if not all(isinstance(index.get(name), kind) for name, kind in INDEX_FIELDS.items()):
        raise UserError(f"{path}: damaged, as a field is missing or of another kind; {again}")
    if size != index["bytes"]:
        kind = "is cut short" if size < index["bytes"] else "is longer than it was"
        raise UserError(f"{tar}: {kind}: {size} bytes where its index says {index['bytes']}; {again}")
    if index["recipe_sha256"] != recipe.sha256:
        raise UserError(f"{path}: made with another teacher or other settings than {MANIFEST} says; {again}")
    if index["images_index_sha256"] != part.index_sha256 or len(index["samples"]) != part.samples:
        raise UserError(f"{path}: made from another image shard than {MANIFEST} says; {again}")
    return index
