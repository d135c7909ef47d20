"""What a folder of shards holds, in numbers, from its records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from datamodules import rle
from datamodules.concept_record import is_negative, num_annotators
from datamodules.reader import ShardReader
from datamodules.record import instances
from datamodules.tally import Tally
from datamodules.video_record import visible
from phd.errors import UserError

# COCO's sizes of objects: below 32 x 32 pixels, below 96 x 96, larger.
SMALL, MEDIUM = 32**2, 96**2
FREQUENT = 10


class ImageNumbers:
    """Sizes of images and of the masks of single objects, the first annotator's."""

    def __init__(self) -> None:
        self.widths, self.heights, self.masks = Tally(), Tally(), Tally()
        self.sizes = Counter({"small": 0, "medium": 0, "large": 0})
        self.crowds = 0

    def add(self, record: dict[str, Any], where: str) -> None:
        """Count a record."""
        height, width = record["image"].get("height"), record["image"].get("width")
        if not isinstance(height, int) or not isinstance(width, int):
            raise UserError(f"{where}: its JSON has no height and width of the image; see `phd shards verify`")
        self.heights.add(height)
        self.widths.add(width)
        objects = instances(record)
        self.masks.add(len(objects))
        self.crowds += sum(bool(annotation.get("iscrowd")) for annotation in record["annotations"])
        for annotation in objects:
            area = _area(annotation, height, width, where)
            self.sizes["small" if area < SMALL else "medium" if area < MEDIUM else "large"] += 1

    def numbers(self) -> dict[str, Any]:
        """As JSON has them."""
        return {
            "image_width": self.widths.spread(),
            "image_height": self.heights.spread(),
            "masks": int(self.masks.total),
            "crowds": self.crowds,
            "masks_per_image": self.masks.spread(),
            "masks_per_image_histogram": self.masks.histogram(),
            "mask_sizes": dict(self.sizes),
        }


class ConceptNumbers(ImageNumbers):
    """The same, and phrases."""

    def __init__(self) -> None:
        super().__init__()
        self.phrases, self.positives = Tally(), Tally()
        self.texts: Counter[str] = Counter()
        self.negatives = self.hard = self.answers = self.exhaustive = self.annotators = 0

    def add(self, record: dict[str, Any], where: str) -> None:
        """Count a record."""
        super().add(record, where)
        phrases = record["phrases"]
        negatives = [phrase for phrase in phrases if is_negative(phrase)]
        self.texts.update(phrase["text"] for phrase in phrases if not is_negative(phrase))
        self.phrases.add(len(phrases))
        self.positives.add(len(phrases) - len(negatives))
        self.negatives += len(negatives)
        self.hard += sum(bool(phrase.get("hard")) for phrase in negatives)
        answers = [answer for phrase in phrases for answer in phrase["answers"]]
        self.answers += len(answers)
        self.exhaustive += sum(bool(answer.get("exhaustive")) for answer in answers)
        self.annotators = max(self.annotators, num_annotators(record))

    def numbers(self) -> dict[str, Any]:
        """As JSON has them."""
        return super().numbers() | {
            "phrases": int(self.phrases.total),
            "phrases_per_image": self.phrases.spread(),
            "positive_phrases": int(self.positives.total),
            "negative_phrases": self.negatives,
            "hard_negative_phrases": self.hard,
            "exhaustive_answers": self.exhaustive / self.answers if self.answers else None,
            "annotators": self.annotators,
            "most_frequent_positive_phrases": dict(self.texts.most_common(FREQUENT)),
        }


class VideoNumbers:
    """Lengths of videos, and when their objects are seen."""

    def __init__(self) -> None:
        self.widths, self.heights, self.frames, self.seconds = Tally(), Tally(), Tally(), Tally()
        self.labelled, self.objects, self.phrases = Tally(), Tally(), Tally()
        self.masks = self.late = self.pairs = self.absent = self.negatives = 0

    def add(self, record: dict[str, Any], where: str) -> None:
        """Count a record."""
        video, frames, labelled = record["video"], record["frames"], record["labelled"]
        self.widths.add(video["width"])
        self.heights.add(video["height"])
        self.frames.add(len(frames))
        if video.get("fps") and frames:
            self.seconds.add(round((frames[-1] - frames[0]) / video["fps"], 2))
        self.labelled.add(len(labelled))
        self.objects.add(len(record["objects"]))
        phrases = record.get("phrases", [])
        self.phrases.add(len(phrases))
        self.negatives += sum(not phrase["objects"] for phrase in phrases)
        try:
            seen = visible(record)[:, labelled]
        except (IndexError, ValueError) as error:
            raise UserError(f"{where}: its masks do not fit its frames; see `phd shards verify`") from error
        self.masks += int(seen.sum())
        self.pairs += seen.size
        self.absent += int((~seen).sum())
        self.late += int((seen.any(axis=1) & ~seen[:, 0]).sum()) if labelled else 0

    def numbers(self) -> dict[str, Any]:
        """As JSON has them."""
        return {
            "frame_width": self.widths.spread(),
            "frame_height": self.heights.spread(),
            "frames": int(self.frames.total),
            "frames_per_video": self.frames.spread(),
            "seconds_per_video": self.seconds.spread(),
            "labelled_frames": int(self.labelled.total),
            "labelled_frames_per_video": self.labelled.spread(),
            "objects": int(self.objects.total),
            "objects_per_video": self.objects.spread(),
            "masks": self.masks,
            "objects_that_start_late": self.late,
            "share_absent": self.absent / self.pairs if self.pairs else None,
            "phrases": int(self.phrases.total),
            "negative_phrases": self.negatives,
        }


def _area(annotation: dict[str, Any], height: int, width: int, where: str) -> float:
    """Pixels of a mask; counted only where the record does not say, or says a fraction of the image."""
    area = annotation.get("area")
    if isinstance(area, int | float) and area > 1:
        return area
    try:
        return rle.area(annotation.get("segmentation"), height, width)
    except UserError as error:
        raise UserError(f"{where}: annotation {annotation.get('id')}: {error}") from error


NUMBERS: dict[str, Callable[[], ImageNumbers | VideoNumbers]] = {
    "image": ImageNumbers,
    "concept": ConceptNumbers,
    "video": VideoNumbers,
}


def shards_info(root: str | Path) -> dict[str, Any]:
    """Numbers about the samples of a folder of shards; only the JSON records are read.

    Lengths in seconds are from the first stored frame to the last; an object starts late that is seen first after the
    first labelled frame; `share_absent` is over all pairs of an object and a labelled frame.

    Args:
        root: Path or URL.

    Raises:
        UserError: The folder is not finished or damaged, or a record cannot be read.
    """
    reader = ShardReader(root)
    numbers = NUMBERS[reader.form]()
    for number in track(range(len(reader)), "read records", console=Console(stderr=True), transient=True):
        numbers.add(reader.record(number), reader.where(number))
    return {
        "kind": reader.manifest.get("kind"),
        "form": reader.form,
        "samples": len(reader),
        "shards": len(reader.shards),
        "bytes": sum(shard.bytes for shard in reader.shards),
        **numbers.numbers(),
    }
