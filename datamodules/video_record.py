"""What a video sample holds: its frames, and the masks of its objects over time.

The JSON record is

    {"video": {"name", "width", "height", "fps"?: frames of the source a second, other fields as the source had them},
     "frames": [number of each stored frame in the source, ascending],
     "labelled": [places in "frames" that have ground truth, ascending],
     "objects": [{"id", "masks": [compressed RLE or null, one for each stored frame], "phrase"?, "iscrowd"?, ...}],
     "void"?: [compressed RLE or null, one for each stored frame; pixels that no metric counts],
     "phrases"?: [{"text", "id", "objects": [object ids]}]}

On a labelled frame null says that the object is not to be seen; on another frame nothing is known. A phrase without
objects is a negative. The frames are members of their own, one JPEG each in the order of "frames"; the member of
source frame 12 has the extension `000012.jpg`. Evaluation data may come without frames (`"images": false` in the
manifest).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from datamodules import rle
from phd.errors import UserError


def frame_extension(number: int) -> str:
    """Extension of the member that holds the source frame with this number."""
    return f"{number:06d}.jpg"


def frame_extensions(record: dict[str, Any]) -> list[str]:
    """Extensions of all frames of a record, in their order."""
    return [frame_extension(number) for number in record["frames"]]


def visible(record: dict[str, Any]) -> np.ndarray:
    """Which object has a mask on which stored frame, (objects, frames) bool; false on frames without ground truth."""
    shown = [[mask is not None for mask in item["masks"]] for item in record["objects"]]
    return np.array(shown, dtype=bool).reshape(len(record["objects"]), len(record["frames"]))


def check_form(record: Any, where: str) -> None:
    """Check that a JSON record has a video, its frames and objects with masks.

    Raises:
        UserError: It is something else.
    """
    video = record.get("video") if isinstance(record, dict) else None
    if not isinstance(video, dict):
        raise UserError(f'{where}: has no "video"; is this data of images?')
    if not all(_is_whole(video.get(side)) and video[side] > 0 for side in ("height", "width")):
        raise UserError(f"{where}: its video has no height and width in pixels; convert the raw data again")
    for name in ("frames", "labelled", "objects"):
        if not isinstance(record.get(name), list):
            raise UserError(f'{where}: has no list of "{name}"; convert the raw data again')
    if not all(_is_whole(number) for name in ("frames", "labelled") for number in record[name]):
        raise UserError(f'{where}: "frames" and "labelled" are not whole numbers; convert the raw data again')
    for item in record["objects"]:
        if not isinstance(item, dict) or not isinstance(item.get("masks"), list):
            raise UserError(f'{where}: an object has no list of "masks"; convert the raw data again')
        if not isinstance(item.get("id"), int | str):
            raise UserError(f"{where}: an object has no id; mend the annotations")
    if not isinstance(record.get("void", []), list):
        raise UserError(f'{where}: "void" is no list of masks; convert the raw data again')
    phrases = record.get("phrases", [])
    for phrase in phrases if isinstance(phrases, list) else [None]:
        named = phrase.get("objects") if isinstance(phrase, dict) else None
        if not isinstance(named, list) or not all(isinstance(number, int | str) for number in named):
            raise UserError(f'{where}: a phrase has no list of "objects" by id; convert the raw data again')


def video_problems(record: dict[str, Any], where: str) -> Iterator[UserError]:
    """Everything that is wrong with a record of the right form."""
    for problems in (_frame_problems, _object_problems, _void_problems, _phrase_problems):
        yield from (UserError(f"{where}: {problem}") for problem in problems(record))


def check_video(record: Any, where: str) -> None:
    """Check the form of a record, its frames, every mask and its phrases.

    Raises:
        UserError: The first problem.
    """
    check_form(record, where)
    for problem in video_problems(record, where):
        raise problem


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _frame_problems(record: dict[str, Any]) -> Iterator[str]:
    frames, labelled = record["frames"], record["labelled"]
    if not frames:
        yield "has no frame; remove the video"
    elif frames[0] < 0:
        yield f"has a frame with the number {frames[0]}; count from 0"
    for name, numbers in (("frames", frames), ("labelled", labelled)):
        for before, after in pairwise(numbers):
            if after <= before:
                yield f'"{name}" goes from {before} to {after}; it must ascend'
    for place in labelled:
        if not 0 <= place < len(frames):
            yield f'"labelled" names place {place} but there are {len(frames)} frames'


def _mask_problems(masks: list[Any], record: dict[str, Any], whose: str) -> Iterator[str]:
    """What is wrong with a list of masks, one for each frame."""
    frames, height, width = record["frames"], record["video"]["height"], record["video"]["width"]
    if len(masks) != len(frames):
        yield f"{whose} has masks for {len(masks)} frames but the video has {len(frames)}; give one or null for each"
        return
    for number, mask in zip(frames, masks, strict=True):
        if mask is None:
            continue
        try:
            if not rle.area(mask, height, width):
                raise UserError("its mask has no pixel; write null")
        except UserError as error:
            yield f"{whose}: frame {number}: {error}"


def _object_problems(record: dict[str, Any]) -> Iterator[str]:
    ids = Counter(item["id"] for item in record["objects"])
    for number in (number for number, count in ids.items() if count > 1):
        yield f"two objects have the id {number}; give each its own"
    labelled = set(record["labelled"])
    for item in record["objects"]:
        whose = f"object {item['id']}"
        yield from _mask_problems(item["masks"], record, whose)
        # zip: a list that is too long or too short is reported above.
        for place, (number, mask) in enumerate(zip(record["frames"], item["masks"], strict=False)):
            if mask is not None and place not in labelled:
                yield f"{whose}: frame {number} has a mask but is not labelled"


def _void_problems(record: dict[str, Any]) -> Iterator[str]:
    if "void" in record:
        yield from _mask_problems(record["void"], record, "void")


def _phrase_problems(record: dict[str, Any]) -> Iterator[str]:
    known = {item["id"] for item in record["objects"]}
    for phrase in record.get("phrases", []):
        text = phrase.get("text")
        if not isinstance(text, str) or not text.strip():
            yield f"phrase {phrase.get('id')} has no text; name the concept or remove it"
        for number in phrase["objects"]:
            if number not in known:
                yield f"phrase {text!r} names object {number}, which does not exist"
