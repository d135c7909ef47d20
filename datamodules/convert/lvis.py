"""LVIS v0.5 and v1: a federated data set, in which only listed categories are known to be absent from an image.

Gupta et al., LVIS: A Dataset for Large Vocabulary Instance Segmentation, CVPR 2019. For every image, `neg_category_ids`
were checked to be absent and `not_exhaustive_category_ids` are not annotated in full. Of all other categories nothing
is known, so they are never negatives.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from datamodules.convert.coco import read_entry
from datamodules.convert.coco_file import Entry, unique
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.listing import read_listing
from datamodules.convert.phrases import listed_negatives, negative_phrase, positive_phrases, present_categories
from datamodules.convert.text import synonyms
from phd.errors import UserError

DIGITS = 12  # the number of a COCO photo, at the end of all its names: 000000000139, COCO_val2014_000000000139


@dataclass(frozen=True)
class Vocabulary:
    """Category id -> noun phrase, and -> other names."""

    texts: Mapping[Any, str]
    synonyms: Mapping[Any, list[str]]

    def with_synonyms(self, phrase: dict[str, Any]) -> dict[str, Any]:
        """The phrase with the other names of its category, where there are some."""
        others = self.synonyms[phrase["id"]]
        return {**phrase, "synonyms": others} if others else phrase


def url_names(image: dict[str, Any]) -> list[str]:
    """What `coco_url` says: folder and file (val2017/000000000139.jpg), and the file alone; nothing without it."""
    url = image.get("coco_url")
    parts = [part for part in PurePosixPath(urlsplit(url).path).parts if part != "/"] if isinstance(url, str) else []
    return ["/".join(parts[-count:]) for count in (2, 1) if parts]


def file_name(image: dict[str, Any], annotations: Path) -> str:
    """The name of an image's file: v0.5 has `file_name`, v1 only `coco_url`.

    Raises:
        UserError: It has neither.
    """
    names = [image.get("file_name"), *url_names(image)]
    found = next((name for name in names if isinstance(name, str) and name), None)
    if found is None:
        raise UserError(f"{annotations}: image {image['id']} has neither file_name nor coco_url; mend the file")
    return found


def numbered_photos(images: Path) -> dict[str, Path]:
    """The photos below a folder by the number at the end of their names."""
    photos = (path for path in sorted(images.rglob("*.jpg")) if len(path.stem) >= DIGITS)
    return {path.stem[-DIGITS:]: path for path in photos if path.stem[-DIGITS:].isdecimal()}


def find_photo(entry: Entry, images: Path, photos: Mapping[str, Path]) -> Path:
    """The photo of an image, under its name in LVIS, in COCO's release of 2017, or any that ends with its number.

    Raises:
        UserError: It is missing.
    """
    exact = (path for path in (entry.path, *(images / name for name in url_names(entry.image))) if path.is_file())
    found = next(exact, None) or photos.get(entry.path.stem[-DIGITS:])
    if found is None:
        raise UserError(
            f"{entry.path}: the photo of LVIS image {entry.image['id']} is missing, also under its other names in "
            f"COCO; download it, or leave out missing ones with --skip-bad"
        )
    return found


def read_image(
    entry: Entry,
    images: Path,
    photos: Mapping[str, Path],
    annotations: Path,
    vocabulary: Vocabulary,
    max_pixels: int,
) -> Converted:
    """One image with its phrases.

    Raises:
        UserError: The photo is missing, damaged or of another size, or its lists contradict its annotations.
    """
    present = present_categories(entry.annotations)
    negatives = listed_negatives(entry.image, present, str(annotations))
    found = replace(entry, path=find_photo(entry, images, photos))
    sample = read_entry(found, annotations=annotations, max_pixels=max_pixels)
    phrases = [
        *positive_phrases(
            entry.annotations,
            sample.record["annotations"],
            vocabulary.texts,
            entry.image["not_exhaustive_category_ids"],
        ),
        *(negative_phrase(vocabulary.texts[number], number, origin="neg_category_ids") for number in negatives),
    ]
    record = {**sample.record, "phrases": [vocabulary.with_synonyms(phrase) for phrase in phrases]}
    return replace(sample, record=record)


def plan_lvis(options: argparse.Namespace) -> Plan[Entry]:
    """All images of an LVIS file."""
    images, annotations = options.images, options.annotations
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; name the folder with COCO's photos")
    listing = read_listing(annotations)
    for image in listing.images:
        _check_lists(image, annotations)
    names = [file_name(image, annotations) for image in listing.images]
    unique(names, "the file name", annotations)
    others = {number: category.get("synonyms", ()) for number, category in listing.categories.items()}
    read = partial(
        read_image,
        images=images,
        photos=numbered_photos(images),
        annotations=annotations,
        vocabulary=Vocabulary(listing.texts, synonyms(others, listing.texts)),
        max_pixels=options.max_pixels,
    )
    return Plan(listing.entries(names, images), read, {"categories": len(listing.categories)})


def _check_lists(image: dict[str, Any], annotations: Path) -> None:
    for name in ("neg_category_ids", "not_exhaustive_category_ids"):
        if name not in image:
            raise UserError(
                f"{annotations}: image {image['id']} has no {name}, so this is no LVIS file; use the kind coco-concepts"
            )


LVIS = Kind(
    name="lvis",
    form="concept",
    help="LVIS v0.5 or v1 with COCO's photos: categories as noun phrases, negatives as listed",
    paths=(("images", "folder of the photos, e.g. with train2017 and val2017"), ("annotations", "LVIS JSON file")),
    plan=plan_lvis,
)
