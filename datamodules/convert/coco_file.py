"""What a file in COCO's form lists, checked; for plain masks and for concepts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.convert.raw import read_file, read_json, tar_safe
from phd.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One image of the COCO file with its annotations, categories by name."""

    key: str
    path: Path
    image: dict[str, Any]
    annotations: list[dict[str, Any]]


@dataclass(frozen=True)
class CocoFile:
    """What the file lists.

    Attributes:
        images: As the file has them, in its order.
        annotations: Image id -> its annotations, with the category's name beside its id.
        categories: Category id -> category, in the order of the file.
    """

    images: list[dict[str, Any]]
    annotations: dict[Any, list[dict[str, Any]]]
    categories: dict[Any, dict[str, Any]]

    def entries(self, file_names: Sequence[str], folder: Path) -> list[Entry]:
        """One entry for each image, by the name of its file below `folder`."""
        return [
            Entry(key, folder / name, {**image, "file_name": name}, self.annotations.get(image["id"], []))
            for key, name, image in zip(unique_keys(file_names), file_names, self.images, strict=True)
        ]


def unique_keys(file_names: Sequence[str]) -> list[str]:
    """A key for each file: its stem where that is unique, else its whole path, else with a number."""
    stems = Counter(tar_safe(Path(name).stem) for name in file_names)
    keys: list[str] = []
    used: set[str] = set()
    for name in file_names:
        stem = tar_safe(Path(name).stem)
        base = stem if stems[stem] == 1 else tar_safe(str(Path(name).with_suffix("")))
        key, number = base, 1
        while key in used:
            number += 1
            key = tar_safe(f"{base}-{number}")
        used.add(key)
        keys.append(key)
    return keys


def unique(values: Sequence[Any], what: str, path: Path) -> None:
    """Check that no value is there twice.

    Raises:
        UserError: One is.
    """
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {what} {twice[0]!r} is there twice; make it unique")


def read_coco(path: Path, categories_required: bool) -> CocoFile:
    """Read a file in COCO's form.

    Args:
        path: The file.
        categories_required: Whether every annotation must have a category.

    Raises:
        UserError: It is none, refers to an image or category that it does not list, or has a category without a name.
    """
    content = read_json(read_file(path), str(path))
    by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    try:
        images = list(content["images"])
        categories = content["categories"] if categories_required else content.get("categories", [])
        for what, values in (("image", images), ("category", categories)):
            unique([value["id"] for value in values], f"the id of {what}", path)
        names = {category["id"]: _name(category, path) for category in categories}
        for annotation in content["annotations"]:
            named = categories_required or "category_id" in annotation
            by_image[annotation["image_id"]].append(_named(annotation, names, path) if named else annotation)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not in COCO's format ({error!r} is missing or wrong); mend it or name another file"
        ) from error
    if not images:
        raise UserError(f"{path}: lists no images; name another file")
    listed = {image["id"] for image in images}
    for number, of_image in by_image.items():
        if number not in listed:
            raise UserError(
                f"{path}: annotation {of_image[0].get('id')} belongs to image {number}, which is not listed; "
                f"add the image or remove the annotation"
            )
    return CocoFile(images, dict(by_image), {category["id"]: category for category in categories})


def read_file_names(images: Sequence[dict[str, Any]], path: Path) -> list[str]:
    """The `file_name` of each image.

    Raises:
        UserError: An image has none, two have the same, or one points outside the folder of images.
    """
    names: list[str] = []
    for image in images:
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"{path}: image {image['id']} has no file_name; mend the file")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path}: file_name {name!r} points outside the folder of images; mend it")
        names.append(name)
    unique(names, "the file_name", path)
    return names


def _name(category: dict[str, Any], path: Path) -> Any:
    if "name" not in category:
        raise UserError(f"{path}: category {category['id']} has no name; name it")
    return category["name"]


def _named(annotation: dict[str, Any], names: Mapping[Any, str], path: Path) -> dict[str, Any]:
    """The annotation with its category's name beside the id."""
    if "category_id" not in annotation:
        raise UserError(f"{path}: annotation {annotation.get('id')} has no category_id; add it, or drop the annotation")
    number = annotation["category_id"]
    if number not in names:
        raise UserError(
            f"{path}: annotation {annotation.get('id')} has category {number}, which is not listed; "
            f"add the category or mend the annotation"
        )
    return {**annotation, "category": names[number]}
