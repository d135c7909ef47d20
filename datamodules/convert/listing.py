"""A file in COCO's form whose categories become phrases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.convert.coco_file import CocoFile, read_coco
from datamodules.convert.phrases import check_category_lists
from datamodules.convert.text import noun_phrases


@dataclass(frozen=True)
class Listing(CocoFile):
    """What the file lists.

    Attributes:
        texts: Category id -> noun phrase.
    """

    texts: dict[Any, str]


def read_listing(path: Path) -> Listing:
    """Read a file in COCO's form in which every annotation has a category.

    Raises:
        UserError: It is none, refers to an image or category that it does not list, or has a category without a name.
    """
    file = read_coco(path, categories_required=True)
    names = {number: category["name"] for number, category in file.categories.items()}
    check_category_lists(file.images, names, str(path))
    return Listing(file.images, file.annotations, file.categories, noun_phrases(names, path))
