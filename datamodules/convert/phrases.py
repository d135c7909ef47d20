"""From the categories of an image to its noun phrases, positive and negative; shared by LVIS and COCO."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from phd.errors import UserError


def present_categories(annotations: Iterable[dict[str, Any]]) -> set[Any]:
    """Categories that the image shows, be it as crowd or as an annotation that cannot be used."""
    return {annotation["category_id"] for annotation in annotations}


def positive_phrases(
    source: Sequence[dict[str, Any]],
    kept: Sequence[dict[str, Any]],
    texts: Mapping[Any, str],
    not_exhaustive: Collection[Any] = (),
) -> list[dict[str, Any]]:
    """One phrase for each category that has an instance, in the order of `texts`.

    A phrase is exhaustive where every object of the category is an instance. It is not where a crowd region hides some,
    where an annotation had to be left out, or where the source says so. A category of which only a crowd or a bad
    annotation is known gives no phrase: without instances it would count as a negative.

    Args:
        source: All annotations of the image, with `category_id`.
        kept: Those that are in the record.
        texts: Category id -> noun phrase.
        not_exhaustive: Categories of which the source knows that objects are missing.
    """
    single = [annotation["category_id"] for annotation in source if not annotation.get("iscrowd")]
    crowds = {annotation["category_id"] for annotation in source if annotation.get("iscrowd")}
    instances: dict[Any, list[Any]] = {}
    for annotation in kept:
        if not annotation.get("iscrowd"):
            instances.setdefault(annotation["category_id"], []).append(annotation["id"])
    phrases: list[dict[str, Any]] = []
    for number in (number for number in texts if number in instances):
        complete = number not in crowds and number not in not_exhaustive
        exhaustive = complete and single.count(number) == len(instances[number])
        answer = {"instances": instances[number], "exhaustive": exhaustive}
        phrases.append({"text": texts[number], "id": number, "answers": [answer]})
    return phrases


def negative_phrase(text: str, number: Any, **more: Any) -> dict[str, Any]:
    """A phrase that no object of the image answers to."""
    return {"text": text, "id": number, "answers": [{"instances": [], "exhaustive": True}], **more}


def listed_negatives(image: dict[str, Any], present: Collection[Any], where: str) -> list[Any]:
    """The negatives that the source lists for an image.

    Raises:
        UserError: One of them has an annotation in the same image.
    """
    listed = list(dict.fromkeys(image["neg_category_ids"]))
    for number in listed:
        if number in present:
            raise UserError(
                f"{where}: category {number} is in neg_category_ids of image {image['id']} but is annotated there; "
                f"mend the list or the annotation"
            )
    return listed


def check_category_lists(images: Sequence[dict[str, Any]], known: Collection[Any], where: str) -> None:
    """Check the lists of categories that images carry as LVIS has them.

    Raises:
        UserError: One is no list, or names a category that the file does not list.
    """
    for image in images:
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            numbers = image.get(name, [])
            if not isinstance(numbers, list):
                raise UserError(f"{where}: {name} of image {image['id']} is no list; mend the file")
            unknown = [number for number in numbers if number not in known]
            if unknown:
                raise UserError(
                    f"{where}: {name} of image {image['id']} names category {unknown[0]}, which is not listed; "
                    f"add the category or mend the list"
                )
