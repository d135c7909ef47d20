"""The files of SA-Co/Gold and SA-Co/Silver, in which an "image" is a pair of image and noun phrase.

Gold has three files of one subset, one of each annotator, with the same pairs. Silver has one file of a domain. Format:
https://github.com/facebookresearch/sam3, scripts/eval/gold and scripts/eval/silver.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.convert.coco_file import unique_keys
from datamodules.convert.raw import read_file, read_json, tar_safe
from phd.errors import UserError

ANNOTATORS = "abc"
GOLD = re.compile(rf"(?:gold_)?(?P<subset>.+)_merged_(?P<annotator>[{ANNOTATORS}])_release_test\.json")
SILVER = re.compile(r"(?:silver_)?(?P<subset>.+)_merged_test\.json")
# What all annotators were shown; it cannot differ.
QUESTION = ("file_name", "text_input", "width", "height")


@dataclass(frozen=True)
class Subset:
    """One subset of Gold or one domain of Silver, with one file for each annotator."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Pair:
    """An image and a noun phrase, as each annotator's file has it."""

    entries: tuple[dict[str, Any], ...]
    annotations: tuple[list[dict[str, Any]], ...]


@dataclass(frozen=True)
class Photo:
    """An image of a subset with all its pairs, in the order of the first file."""

    key: str
    file_name: str
    subset: Subset
    pairs: list[Pair] = field(default_factory=list)


def gold_subsets(raw: Path) -> list[Subset]:
    """The subsets of Gold in a folder, by name.

    Raises:
        UserError: There are none, or one of the three files is missing.
    """
    found: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(raw.glob("*.json")):
        if match := GOLD.fullmatch(path.name):
            found[match["subset"]][match["annotator"]] = path
    if not found:
        state = "no *_merged_a_release_test.json in it" if raw.is_dir() else "no such folder"
        raise UserError(f"{raw}: {state}; name the folder with the annotations of SA-Co/Gold")
    for files in found.values():
        for annotator in sorted(set(ANNOTATORS) - set(files)):
            there = min(files.values())
            name = re.sub(r"_[abc](_release_test\.json)$", rf"_{annotator}\1", there.name)
            raise UserError(f"{there.with_name(name)}: missing beside {there.name}; all three annotators are needed")
    return [Subset(name, tuple(found[name][letter] for letter in ANNOTATORS)) for name in sorted(found)]


def silver_domains(raw: Path) -> list[Subset]:
    """The domains of Silver in a folder, by name, or the one of a single file.

    Raises:
        UserError: There are none.
    """
    paths = [raw] if raw.is_file() else sorted(raw.glob("*_merged_test.json"))
    if not paths:
        state = "no *_merged_test.json in it" if raw.is_dir() else "no such file or folder"
        raise UserError(f"{raw}: {state}; name the folder with the annotations of SA-Co/Silver, or one file")
    matches = [(SILVER.fullmatch(path.name), path) for path in paths]
    return [Subset(match["subset"] if match else path.stem, (path,)) for match, path in matches]


def chosen(subsets: list[Subset], name: str | None, raw: Path) -> list[Subset]:
    """The subset of that name, or all.

    Raises:
        UserError: There is none of that name.
    """
    if name is None:
        return subsets
    bare = re.sub(r"^(gold|silver)_", "", name)
    found = [subset for subset in subsets if subset.name == bare]
    if not found:
        names = ", ".join(subset.name for subset in subsets)
        raise UserError(f"{raw}: no subset {name!r}; --subset knows {names}")
    return found


def _read_pairs(path: Path) -> dict[Any, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Pair id -> its entry and its annotations, of one file."""
    content = read_json(read_file(path), str(path))
    pairs: dict[Any, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    try:
        for entry in content["images"]:
            number, text = entry["id"], entry["text_input"]
            if number in pairs:
                raise UserError(f"{path}: two pairs have the id {number}; download the file again")
            if not isinstance(text, str) or not text.strip() or not isinstance(entry["file_name"], str):
                raise UserError(f"{path}: pair {number} has no text_input or file_name; download the file again")
            if entry["is_instance_exhaustive"] not in (0, 1):
                raise UserError(f"{path}: pair {number}: is_instance_exhaustive is not 0 or 1; mend the file")
            pairs[number] = (entry, [])
        for annotation in content["annotations"]:
            if annotation["image_id"] not in pairs:
                raise UserError(
                    f"{path}: annotation {annotation['id']} belongs to pair {annotation['image_id']}, which is not "
                    f"listed; download the file again"
                )
            pairs[annotation["image_id"]][1].append(annotation)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not in SA-Co's format ({error!r} is missing or wrong); mend it or name another file"
        ) from error
    if not pairs:
        raise UserError(f"{path}: lists no pairs; name another file")
    return pairs


def _check_same(files: Sequence[Path], by_file: Sequence[dict[Any, Any]]) -> None:
    """Check that all annotators were asked the same."""
    first = by_file[0]
    for path, pairs in zip(files[1:], by_file[1:], strict=True):
        for has, lacks, missing in ((files[0], path, first.keys() - pairs), (path, files[0], pairs.keys() - first)):
            if missing:
                raise UserError(
                    f"{lacks}: has no pair {min(missing, key=str)}, which {has.name} has; download the files again"
                )
        for number, (entry, _) in pairs.items():
            for name in QUESTION:
                expected = first[number][0].get(name)
                if entry.get(name) != expected:
                    raise UserError(
                        f"{path}: pair {number} has {name} {entry.get(name)!r} but {files[0].name} has {expected!r}; "
                        f"download the files again"
                    )


def read_photos(subset: Subset) -> list[Photo]:
    """The images of a subset, in the order of the first annotator's file.

    Keys are made from the subset and the file name: an image that is in two subsets is two samples.

    Raises:
        UserError: A file is damaged, or the annotators' files do not belong together.
    """
    by_file = [_read_pairs(path) for path in subset.files]
    _check_same(subset.files, by_file)
    grouped: defaultdict[str, list[Pair]] = defaultdict(list)
    for number, (entry, _) in by_file[0].items():
        answers = [pairs[number] for pairs in by_file]
        pair = Pair(tuple(entry for entry, _ in answers), tuple(annotations for _, annotations in answers))
        grouped[entry["file_name"]].append(pair)
    keys = (tar_safe(f"{subset.name}_{key}") for key in unique_keys(list(grouped)))
    return [Photo(key, name, subset, pairs) for key, (name, pairs) in zip(keys, grouped.items(), strict=True)]
