"""Images with their instances at their own size, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from datamodules.reader import ShardReader
from datamodules.record import annotator_of, check_annotation, decode_rgb, instances
from phd.outputs import LabelledImage


class LabelledImages:
    """All images of a reader with their instances, each at its own size; crowds are left out.

    Of images that several people annotated, it is the first one's instances.

    Args:
        reader: The shards.
        max_images: Only the first ones.

    Raises:
        UserError: While iterating: an image cannot be decoded, or a mask does not fit it or has no pixel.
    """

    def __init__(self, reader: ShardReader, max_images: int | None = None) -> None:
        self.reader = reader
        self.max_images = max_images
        self.num_crowd = 0  # crowd regions left out by the latest pass

    def __len__(self) -> int:
        return len(self.reader) if self.max_images is None else min(self.max_images, len(self.reader))

    def __iter__(self) -> Iterator[LabelledImage]:
        self.num_crowd = 0
        for number in range(len(self)):
            sample, where = self.reader.read(number), self.reader.where(number)
            image = decode_rgb(sample.jpg, where).permute(1, 2, 0).contiguous().numpy()
            annotations = instances(sample.record)
            mine = (item for item in sample.record["annotations"] if not annotator_of(item))
            self.num_crowd += sum(bool(item.get("iscrowd")) for item in mine)
            height, width, _ = image.shape
            for annotation in annotations:
                check_annotation(annotation, height, width, where)
            yield LabelledImage(
                key=sample.key,
                image=image,
                masks=[annotation["segmentation"] for annotation in annotations],
                ids=[annotation["id"] for annotation in annotations],
            )


def labelled_images(reader: ShardReader, max_images: int | None = None) -> LabelledImages:
    """The images of a reader for evaluation, with a known length."""
    return LabelledImages(reader, max_images)
