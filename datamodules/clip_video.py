"""A stored video as a clip needs it: its objects, masks on the mask grid, and frames one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.placement import Placement
from datamodules.record import decode_rgb
from datamodules.rle import run_lengths
from phd.errors import UserError

# Fetches the files of these source frames.
ReadFrames = Callable[[list[int]], list[bytes]]


class Video:
    """A video record; places are those in its list of frames.

    Args:
        record: See `datamodules.video_record`, its form checked.
        read: Fetches frames.
        where: Names the sample in errors.

    Raises:
        UserError: A list of masks does not fit the frames, or no frame is labelled.
    """

    def __init__(self, record: dict[str, Any], read: ReadFrames, where: str) -> None:
        self.height, self.width = record["video"]["height"], record["video"]["width"]
        self.numbers: list[int] = record["frames"]
        self.labelled: list[int] = record["labelled"]
        # Crowds are regions of many objects.
        self.objects = [item for item in record["objects"] if not item.get("iscrowd")]
        self._void: list[Any] = record.get("void", [None] * len(self.numbers))
        self._read, self._where = read, where
        count = len(self.numbers)
        if not self.labelled or not all(0 <= place < count for place in self.labelled):
            state = '"labelled" names a place beyond them' if self.labelled else "none is labelled"
            raise UserError(f"{where}: of its {count} frames {state}; convert again, or leave the video out")
        for masks in (self._void, *(item["masks"] for item in self.objects)):
            if len(masks) != count:
                raise UserError(f"{where}: an object or void has {len(masks)} masks for {count} frames; convert again")

    def shows(self, place: int) -> bool:
        """Whether any object has a mask there."""
        return any(item["masks"][place] is not None for item in self.objects)

    def shares(self, places: np.ndarray) -> np.ndarray:
        """(objects, places) the area of each object there as a share of its largest one; 0 where it is not seen.

        Raises:
            UserError: An RLE is damaged or of another size.
        """
        areas = np.zeros((len(self.objects), len(places)))
        for row, item in enumerate(self.objects):
            for column, place in enumerate(places):
                if item["masks"][place] is not None:
                    areas[row, column] = self._area(item, int(place))
        return areas / np.maximum(areas.max(1, keepdims=True, initial=0), 1)

    def mask(self, item: dict[str, Any], place: int, placement: Placement) -> np.ndarray:
        """The mask of an object on the grid, (m, m) uint8; empty where it is not to be seen.

        Raises:
            UserError: The RLE is damaged or of another size.
        """
        return self._placed(item["masks"][place], place, placement, f"object {item['id']}")

    def void(self, place: int, placement: Placement) -> np.ndarray:
        """The cells that the annotators left undecided, (m, m) uint8.

        Raises:
            UserError: The RLE is damaged or of another size.
        """
        return self._placed(self._void[place], place, placement, "void")

    def images(self, places: list[int]) -> Iterator[Tensor]:
        """Frames (3, H, W) uint8 RGB.

        Raises:
            UserError: One is missing, cannot be decoded, or is not of the video's size.
        """
        numbers = [self.numbers[place] for place in places]
        for number, data in zip(numbers, self._read(numbers), strict=True):
            image = decode_rgb(data, f"{self._where}: frame {number}")
            height, width = int(image.shape[1]), int(image.shape[2])
            if (height, width) != (self.height, self.width):
                raise UserError(
                    f"{self._where}: frame {number} is {height} x {width} pixels (height x width) but the video "
                    f"{self.height} x {self.width}; convert again"
                )
            yield image

    def _area(self, item: dict[str, Any], place: int) -> int:
        try:
            return int(run_lengths(item["masks"][place], self.height, self.width)[1::2].sum())
        except UserError as error:
            raise UserError(f"{self._where}: object {item['id']}: frame {self.numbers[place]}: {error}") from error

    def _placed(self, rle: Any, place: int, placement: Placement, whose: str) -> np.ndarray:
        if rle is None:
            return np.zeros((placement.grid, placement.grid), dtype=np.uint8)
        try:
            return placement.mask(rle)
        except UserError as error:
            raise UserError(f"{self._where}: {whose}: frame {self.numbers[place]}: {error}") from error
