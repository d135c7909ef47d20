"""Any file in COCO's format as concepts: one phrase for each category of an image, and phrases of absent ones."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.convert.coco import read_entry
from datamodules.convert.coco_file import Entry, read_file_names
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.listing import Listing, read_listing
from datamodules.convert.phrases import listed_negatives, negative_phrase, positive_phrases, present_categories
from datamodules.transforms import generator
from phd.errors import UserError

# Of an image in which all categories of COCO were looked for; a mixed file says so for each image.
EXHAUSTIVE = "coco80_exhaustive"


@dataclass(frozen=True)
class Drawing:
    """How negatives are drawn.

    Attributes:
        count: Negatives of an image.
        seed: With the key of the image, decides which.
        only_listed: Whether an image must say that it is annotated exhaustively.
        pool: Categories that were looked for in every exhaustively annotated image.
        groups: Category id -> supercategory, None where it has none.
    """

    count: int
    seed: int
    only_listed: bool
    pool: Sequence[Any]
    groups: Mapping[Any, Any]

    def allowed(self, image: dict[str, Any]) -> bool:
        """Whether what is not annotated in an image is known to be absent."""
        return bool(image.get(EXHAUSTIVE, not self.only_listed))

    def draw(self, key: str, present: Collection[Any]) -> list[tuple[Any, bool]]:
        """Absent categories and whether they are hard, those of a supercategory that is present first."""
        absent = [number for number in self.pool if number not in present]
        near = {self.groups[number] for number in present} - {None}
        order = generator(self.seed, 0, key).permutation(len(absent))
        drawn = [(absent[place], self.groups[absent[place]] in near) for place in order]
        return sorted(drawn, key=lambda pair: not pair[1])[: self.count]


def pool_of(listing: Listing, only_listed: bool) -> list[Any]:
    """Categories that may be drawn.

    A file may mix sources with categories of their own. A category that is known only from images that are not
    annotated exhaustively was not looked for in the others.
    """
    known: dict[bool, set[Any]] = {True: set(), False: set()}
    for image in listing.images:
        exhaustive = bool(image.get(EXHAUSTIVE, not only_listed))
        known[exhaustive] |= present_categories(listing.annotations.get(image["id"], []))
        known[exhaustive] |= set(image.get("neg_category_ids", ()))
    return [number for number in listing.categories if number not in known[False] - known[True]]


def negatives(entry: Entry, texts: Mapping[Any, str], drawing: Drawing, where: str) -> list[dict[str, Any]]:
    """The negatives that the file lists for an image; where it lists none, drawn ones.

    Raises:
        UserError: A listed one is annotated in the image.
    """
    present = present_categories(entry.annotations)
    if "neg_category_ids" in entry.image:
        listed = listed_negatives(entry.image, present, where)
        return [negative_phrase(texts[number], number, origin="neg_category_ids") for number in listed]
    if not drawing.allowed(entry.image):
        return []
    return [
        negative_phrase(texts[number], number, hard=hard, origin="supercategory" if hard else "drawn")
        for number, hard in drawing.draw(entry.key, present)
    ]


def read_image(
    entry: Entry, annotations: Path, texts: Mapping[Any, str], drawing: Drawing, max_pixels: int
) -> Converted:
    """One image with its phrases.

    Raises:
        UserError: The image is missing, damaged or of another size, or its lists contradict its annotations.
    """
    absent = negatives(entry, texts, drawing, str(annotations))
    sample = read_entry(entry, annotations=annotations, max_pixels=max_pixels)
    unknown = entry.image.get("not_exhaustive_category_ids", ())
    present = positive_phrases(entry.annotations, sample.record["annotations"], texts, unknown)
    return replace(sample, record={**sample.record, "phrases": present + absent})


def plan_coco_concepts(options: argparse.Namespace) -> Plan[Entry]:
    """All images of a COCO file."""
    images, annotations = options.images, options.annotations
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; name the folder with the images")
    if options.negatives < 0:
        raise UserError(f"--negatives is {options.negatives}; give 0 or more")
    listing = read_listing(annotations)
    names = read_file_names(listing.images, annotations)
    only_listed = options.exhaustive == "listed"
    groups = {number: category.get("supercategory") for number, category in listing.categories.items()}
    drawing = Drawing(options.negatives, options.seed, only_listed, pool_of(listing, only_listed), groups)
    read = partial(
        read_image, annotations=annotations, texts=listing.texts, drawing=drawing, max_pixels=options.max_pixels
    )
    details = {"drawn_negatives": options.negatives, "seed": options.seed, "exhaustive": options.exhaustive}
    # By the phrase, for `phd shards negatives`, which has no categories.
    details["supercategories"] = {listing.texts[number]: group for number, group in groups.items() if group}
    return Plan(listing.entries(names, images), read, details)


COCO_CONCEPTS = Kind(
    name="coco-concepts",
    form="concept",
    help="any COCO-format file as concepts: categories as noun phrases, negatives from absent categories",
    paths=(("images", "folder of the images"), ("annotations", "COCO JSON file")),
    plan=plan_coco_concepts,
    flags=(
        (
            "--negatives",
            {"type": int, "default": 10, "metavar": "N", "help": "absent categories drawn for an image (%(default)s)"},
        ),
        ("--seed", {"type": int, "default": 0, "metavar": "N", "help": "of that drawing (%(default)s)"}),
        (
            "--exhaustive",
            {
                "choices": ("all", "listed"),
                "default": "all",
                "help": "which images show nothing but what is annotated: all that do not deny it "
                f'("{EXHAUSTIVE}": false), or those listed with true; the others get no drawn negatives',
            },
        ),
    ),
)
