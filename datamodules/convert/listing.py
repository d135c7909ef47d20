"""A file in COCO's form whose categories become phrases: its images with their annotations, its categories."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.convert.coco import Entry, unique_keys
from datamodules.convert.phrases import check_category_lists
from datamodules.convert.raw import read_file, read_json
from datamodules.convert.text import noun_phrases
from phd.errors import UserError


@dataclass(frozen=True)
class Listing:
    """What the file lists.

    Attributes:
        images: As the file has them, in its order.
        annotations: Image id -> its annotations, with the category's name beside its id.
        categories: Category id -> category, in the order of the file.
        texts: Category id -> noun phrase.
    """

    images: list[dict[str, Any]]
    annotations: dict[Any, list[dict[str, Any]]]
    categories: dict[Any, dict[str, Any]]
    texts: dict[Any, str]

    def entries(self, file_names: list[str], folder: Path) -> list[Entry]:
        """One entry for each image, by the name of its file below `folder`."""
        return [
            Entry(key, folder / name, {**image, "file_name": name}, self.annotations.get(image["id"], []))
            for key, name, image in zip(unique_keys(file_names), file_names, self.images, strict=True)
        ]


def unique(values: list[Any], what: str, path: Path) -> None:
    """Check that no value is there twice.

    Raises:
        UserError: One is.
    """
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {what} {twice[0]!r} is there twice; make it unique")


def read_listing(path: Path) -> Listing:
    """Read a file in COCO's form in which every annotation has a category.

    Raises:
        UserError: It is none, or refers to an image or category that it does not list.
    """
    content = read_json(read_file(path), str(path))
    by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    try:
        images = list(content["images"])
        categories = {category["id"]: category for category in content["categories"]}
        for what, values in (("image", images), ("category", content["categories"])):
            unique([value["id"] for value in values], f"the id of {what}", path)
        names = {number: category["name"] for number, category in categories.items()}
        for annotation in content["annotations"]:
            number = annotation["category_id"]
            if number not in names:
                raise UserError(
                    f"{path}: annotation {annotation['id']} has category {number}, which is not listed; "
                    f"add the category or mend the annotation"
                )
            by_image[annotation["image_id"]].append({**annotation, "category": names[number]})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not in COCO's format ({error!r} is missing or wrong)") from error
    if not images:
        raise UserError(f"{path}: lists no images; name another file")
    listed = {image["id"] for image in images}
    for number, of_image in by_image.items():
        if number not in listed:
            raise UserError(
                f"{path}: annotation {of_image[0]['id']} belongs to image {number}, which is not listed; "
                f"add the image or remove the annotation"
            )
    check_category_lists(images, names, str(path))
    return Listing(images, dict(by_image), categories, noun_phrases(names, path))
