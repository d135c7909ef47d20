"""SA-Co's own form again, for its evaluators: from a record to pairs and their annotations."""

from __future__ import annotations

from typing import Any

# What a phrase and an answer hold beside the fields of the source.
OF_PHRASE = ("id", "text", "answers", "hard", "origin", "synonyms")
OF_ANSWER = ("instances", "exhaustive")
OF_ANNOTATION = ("source_id", "annotator")


def pairs(record: dict[str, Any], annotator: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The `images` and `annotations` entries of one annotator's file for one concept record of SA-Co.

    Args:
        record: As the converters of SA-Co write it.
        annotator: Which file: 0, 1, 2 for a, b, c of Gold; 0 for Silver.

    Returns:
        images: One for each phrase, an (image, phrase) pair.
        annotations: Boxes [x, y, width, height] and areas as fractions of the image, measured on the masks.
    """
    image = record["image"]
    height, width = image["height"], image["width"]
    by_id = {annotation["id"]: annotation for annotation in record["annotations"]}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for phrase in record["phrases"]:
        answer = phrase["answers"][annotator]
        entries.append(
            {
                **{name: value for name, value in phrase.items() if name not in OF_PHRASE},
                **{name: value for name, value in answer.items() if name not in OF_ANSWER},
                "id": phrase["id"],
                "file_name": image["file_name"],
                "text_input": phrase["text"],
                "width": width,
                "height": height,
                "is_instance_exhaustive": int(answer["exhaustive"]),
            }
        )
        for number in answer["instances"]:
            item = by_id[number]
            left, top, columns, rows = item["bbox"]
            annotations.append(
                {
                    **{name: value for name, value in item.items() if name not in OF_ANNOTATION},
                    "id": item.get("source_id", item["id"]),
                    "image_id": phrase["id"],
                    "area": item["area"] / (height * width),
                    "bbox": [left / width, top / height, columns / width, rows / height],
                }
            )
    return entries, annotations
