"""Images with noun phrases and the answers of every annotator at their own size, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datamodules.concept_record import check_concept, num_annotators
from datamodules.reader import ShardReader
from datamodules.record import decode_rgb
from phd.errors import UserError
from phd.outputs import LabelledConcepts, LabelledPhrase


class ConceptImages:
    """All images of a reader with their phrases.

    Args:
        reader: The shards.
        max_images: Only the first ones.

    Raises:
        UserError: The shards hold no phrases; while iterating: an image or a record is damaged.
    """

    def __init__(self, reader: ShardReader, max_images: int | None = None) -> None:
        if reader.form != "concept":
            raise UserError(
                f"{reader.root}: holds {reader.form} data without noun phrases; convert with a kind that has them, "
                f"such as saco-gold or coco-concepts"
            )
        self.reader = reader
        self.max_images = max_images

    def __len__(self) -> int:
        return len(self.reader) if self.max_images is None else min(self.max_images, len(self.reader))

    def __iter__(self) -> Iterator[LabelledConcepts]:
        for number in range(len(self)):
            sample, where = self.reader.read(number), self.reader.where(number)
            image = decode_rgb(sample.jpg, where).permute(1, 2, 0).contiguous().numpy()
            height, width, _ = image.shape
            check_concept(sample.record, height, width, where)
            phrases = [labelled_phrase(sample.record, phrase) for phrase in sample.record["phrases"]]
            yield LabelledConcepts(where, str(sample.record["image"].get("file_name", sample.key)), image, phrases)


def labelled_phrase(record: dict[str, Any], phrase: dict[str, Any]) -> LabelledPhrase:
    """A phrase of a checked record with the masks that answer it."""
    by_id = {annotation["id"]: annotation for annotation in record["annotations"]}
    named = [[by_id[number] for number in answer["instances"]] for answer in phrase["answers"]]
    assert len(named) == num_annotators(record)
    return LabelledPhrase(
        text=phrase["text"],
        answers=[[item["segmentation"] for item in found if not item.get("iscrowd")] for found in named],
        exhaustive=all(answer["exhaustive"] for answer in phrase["answers"]),
        num_crowd=sum(bool(item.get("iscrowd")) for found in named for item in found),
    )
