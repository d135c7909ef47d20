"""SA-Co/Gold and SA-Co/Silver: an image with all its noun phrases, positive and negative, and all annotators."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.convert.coco import as_jpeg, compressed
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.raw import check_pixels, read_file
from datamodules.convert.saco_files import (
    QUESTION,
    Pair,
    Photo,
    Subset,
    chosen,
    gold_subsets,
    read_photos,
    silver_domains,
)
from datamodules.record import check_annotation, check_size, decode_rgb
from phd.errors import UserError

# The fields of a pair that a phrase and its answers express in their own way.
EXPRESSED = ("id", "is_instance_exhaustive", *QUESTION)
# Fractions of the image in the source; in a record they are pixels, measured on the mask.
IN_FRACTIONS = ("bbox", "area")


def find_image(name: str, folders: Sequence[Path]) -> Path:
    """An image by its file name, in the first folder that has it.

    Raises:
        UserError: None has.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    more = f", nor in {', '.join(map(str, folders[1:]))}" if len(folders) > 1 else ""
    raise UserError(f"{folders[0] / name}: the image is missing{more}; download it or name its folder with --images")


def in_pixels(annotation: dict[str, Any], height: int, width: int, where: str) -> dict[str, Any]:
    """The annotation with box and area in pixels, from its mask.

    Raises:
        UserError: It has no mask of this size, or one without pixels.
    """
    rest = {name: value for name, value in annotation.items() if name not in IN_FRACTIONS}
    measured = compressed(rest, height, width, where)
    check_annotation(measured, height, width, where)
    return measured


def answered(pair: Pair, height: int, width: int, subset: Subset) -> list[list[dict[str, Any]]]:
    """The annotations of a pair, by annotator.

    Raises:
        UserError: One of them is bad. A pair that lacks an instance would be a wrong answer, so it is left out whole.
    """
    entry = pair.entries[0]
    answers: list[list[dict[str, Any]]] = []
    for annotator, (path, found) in enumerate(zip(subset.files, pair.annotations, strict=True)):
        where = f"{path}: pair {entry['id']} {entry['text_input']!r}"
        measured = [in_pixels(annotation, height, width, where) for annotation in found]
        answers.append([{**item, "annotator": annotator} if annotator else item for item in measured])
    return answers


def phrase_of(pair: Pair, instances: Sequence[list[Any]]) -> dict[str, Any]:
    """A pair as phrase; fields of the source on which the annotators differ are kept in their answers.

    `instances` are annotation ids by annotator. A crowd region is among them: a pair that has nothing else is no
    negative. Who evaluates leaves it out, as the official evaluator does.
    """
    first = pair.entries[0]
    names = [name for name in dict.fromkeys(name for entry in pair.entries for name in entry) if name not in EXPRESSED]
    missing = object()
    common = {
        name: first.get(name)
        for name in names
        if all(entry.get(name, missing) == first.get(name, missing) for entry in pair.entries)
    }
    answers = [
        {
            **{name: entry[name] for name in names if name in entry and name not in common},
            "instances": found,
            "exhaustive": bool(entry["is_instance_exhaustive"]),
        }
        for entry, found in zip(pair.entries, instances, strict=True)
    ]
    return {
        **{name: first[name] for name in common},
        "text": first["text_input"],
        "id": first["id"],
        "answers": answers,
    }


def read_photo(photo: Photo, folders: Sequence[Path], max_pixels: int) -> Converted:
    """One image with the answers of all annotators.

    Raises:
        UserError: The image is missing, damaged or of another size.
    """
    path = find_image(photo.file_name, folders)
    where, source = str(path), read_file(path)
    check_pixels(source, where, max_pixels)
    first = photo.pairs[0].entries[0]
    jpg, reencoded = as_jpeg(source, first.get("height") or 0, first.get("width") or 0, where)
    _, height, width = decode_rgb(jpg, where).shape
    for pair in photo.pairs:
        check_size({"image": pair.entries[0]}, height, width, where)
    problems: list[UserError] = []
    good: list[tuple[Pair, list[list[dict[str, Any]]]]] = []
    for pair in photo.pairs:
        try:
            good.append((pair, answered(pair, height, width, photo.subset)))
        except UserError as error:
            problems.append(error)
    annotations, phrases = numbered(good)
    image = {"file_name": photo.file_name, "height": height, "width": width, "subset": photo.subset.name}
    record = {"image": image, "annotations": annotations, "phrases": phrases}
    return Converted(photo.key, {"jpg": jpg}, record, problems, reencoded)


def numbered(
    pairs: Sequence[tuple[Pair, list[list[dict[str, Any]]]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All annotations, with ids that are unique in the record, and the phrases that refer to them.

    Every annotator's file counts its annotations from 1, so that ids may meet in one image.
    """
    source_ids = [item["id"] for _, answers in pairs for found in answers for item in found]
    repeated = len(set(source_ids)) < len(source_ids)
    annotations: list[dict[str, Any]] = []
    phrases: list[dict[str, Any]] = []
    for pair, answers in pairs:
        instances: list[list[Any]] = []
        for found in answers:
            begin = len(annotations)
            for item in found:
                ids = {"id": len(annotations) + 1, "source_id": item["id"]} if repeated else {}
                annotations.append({**item, **ids})
            instances.append([item["id"] for item in annotations[begin:]])
        phrases.append(phrase_of(pair, instances))
    return annotations, phrases


def plan_saco(options: argparse.Namespace, subsets_of: Callable[[Path], list[Subset]]) -> Plan[Photo]:
    """All images of the chosen subsets."""
    subsets = chosen(subsets_of(options.raw), options.subset, options.raw)
    raw = options.raw if options.raw.is_dir() else options.raw.parent
    folders = [options.images] if options.images else [raw, raw / "images"]
    if options.images and not options.images.is_dir():
        raise UserError(f"{options.images}: no such folder; name the folder with the images with --images")
    photos = [photo for subset in subsets for photo in read_photos(subset)]
    read = partial(read_photo, folders=folders, max_pixels=options.max_pixels)
    details = {"subsets": [subset.name for subset in subsets], "annotators": len(subsets[0].files)}
    return Plan(photos, read, details)


FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--subset", {"metavar": "NAME", "help": "convert only this one, e.g. metaclip (default: all in RAW)"}),
    ("--images", {"type": Path, "metavar": "DIR", "help": "folder of the images (default: RAW, then RAW/images)"}),
)
SACO_GOLD = Kind(
    name="saco-gold",
    form="concept",
    help="SA-Co/Gold: images with noun phrases, three annotators in one sample",
    paths=(("raw", "folder with *_merged_{a,b,c}_release_test.json"),),
    plan=partial(plan_saco, subsets_of=gold_subsets),
    flags=FLAGS,
)
SACO_SILVER = Kind(
    name="saco-silver",
    form="concept",
    help="SA-Co/Silver: images with noun phrases, one file for each domain",
    paths=(("raw", "folder with *_merged_test.json, or one such file"),),
    plan=partial(plan_saco, subsets_of=silver_domains),
    flags=FLAGS,
)
