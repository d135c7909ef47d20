"""Videos with the masks of their objects at their own size, for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.reader import ShardReader
from datamodules.record import decode_rgb
from datamodules.video_record import check_video, frame_extension
from phd.errors import UserError
from phd.outputs import LabelledVideo

# Digits of the frame names of data sets whose names are not kept in their shards.
DIGITS, DIGITS_OF = 5, {"lvos": 8}


class LabelledVideos:
    """Videos that are read when they are reached, with a known number.

    Args:
        names: Of all videos that there are.
        read: Reads the one with this number.
        where: Names the source in messages.
        chosen: Only these, in this order.
        most: Only the first ones.

    Raises:
        UserError: A chosen one is not there, or is chosen twice; while iterating: a video cannot be read or evaluated.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], LabelledVideo],
        where: str,
        chosen: Sequence[str] | None = None,
        most: int | None = None,
    ) -> None:
        place = {name: number for number, name in enumerate(names)}
        for number, name in enumerate(chosen or ()):
            if name not in place:
                raise UserError(f"{where}: has no video {name}; it has {len(names)}: {', '.join(names[:5])}, ...")
            if name in (chosen or ())[:number]:
                raise UserError(f"{where}: the video {name} is chosen twice; name it once")
        numbers = [place[name] for name in chosen] if chosen else list(range(len(names)))
        self._numbers, self._read = numbers[:most], read

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[LabelledVideo]:
        return map(self._read, self._numbers)


def shard_videos(reader: ShardReader, chosen: Sequence[str] | None = None, most: int | None = None) -> LabelledVideos:
    """The videos of shards, their names the keys; frames are read one at a time.

    Raises:
        UserError: The shards hold no videos, or no frames; otherwise as `LabelledVideos`.
    """
    where = str(reader.root)
    if reader.form != "video":
        raise UserError(f"{where}: holds {reader.form} data; name a folder of videos, such as SA-V or DAVIS as shards")
    if reader.manifest.get("images") is False:
        raise UserError(f"{where}: was converted without frames; convert it again with them, there is nothing to track")
    digits = DIGITS_OF.get(reader.manifest.get("kind", ""), DIGITS)

    def read(number: int) -> LabelledVideo:
        record = reader.record(number)
        numbers: list[int] = record["frames"]

        def frame(place: int) -> bytes:
            return reader.member(number, frame_extension(numbers[place]))

        return labelled_video(record, frame, reader.where(number), reader.key(number), digits)

    return LabelledVideos([reader.key(number) for number in range(len(reader))], read, where, chosen, most)


def labelled_video(
    record: dict[str, Any], fetch: Callable[[int], bytes], where: str, key: str, digits: int
) -> LabelledVideo:
    """A video of its record, with all masks checked.

    Args:
        record: See `datamodules.video_record`.
        fetch: The file of the frame at a place.
        where: Names the video in messages.
        key: The video's name where the record has none that a folder could have.
        digits: Of the names of frames.

    Raises:
        UserError: A mask is damaged, or the video has no ground truth to compare with.
    """
    check_video(record, where)
    about, numbers = record["video"], record["frames"]
    if not record["labelled"]:
        raise UserError(f"{where}: no frame has ground truth; leave the video out")
    if about.get("first_masks_only"):
        raise UserError(
            f"{where}: has the first mask of each object only, as YouTube-VOS publishes its validation set; "
            f"send the masks to its server, or evaluate on another split"
        )
    height, width = about["height"], about["width"]

    def read(place: int) -> np.ndarray:
        frame = f"{where}: frame {numbers[place]}"
        pixels = decode_rgb(fetch(place), frame).permute(1, 2, 0).contiguous().numpy()
        if pixels.shape[:2] != (height, width):
            raise UserError(
                f"{frame} is {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width) but the video "
                f"{height} x {width}; give all frames in one size"
            )
        return pixels

    name = about.get("name")
    objects = [item for item in record["objects"] if not item.get("iscrowd")]
    return LabelledVideo(
        name=name if isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name else key,
        height=height,
        width=width,
        frames=[f"{number:0{digits}d}" for number in numbers],
        labelled=record["labelled"],
        ids=[item["id"] for item in objects],
        masks=[item["masks"] for item in objects],
        void=record.get("void", [None] * len(numbers)),
        read=read,
    )
