"""SA-V's masklets: the JSON beside an mp4, per frame and object, turned into one entry per object.

Format: `masklet[frame][object]` is a compressed RLE of the picture as it is shown, or null; what begins with `masklet_`
is a list with one entry per object (the stability score of automatic masklets: one list per frame). Annotated are the
frames 0, 4, 8, ... of the video. Source: the README of the SA-V data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules import rle
from datamodules.convert.raw import read_file, read_json
from phd.errors import UserError

PUBLISHED_STRIDE = 4
SIZE = ("video_height", "video_width")


@dataclass(frozen=True)
class Masklets:
    """One checked JSON.

    Attributes:
        path: Of the JSON.
        masks: (frames, objects) of RLEs and None.
        objects: Fields of each object, "masklet_id" among them.
        video: Fields of the video.
        height: Of the pictures, in pixels.
        width: Likewise.
    """

    path: Path
    masks: list[list[Any]]
    objects: list[dict[str, Any]]
    video: dict[str, Any]
    height: int
    width: int


def _whole(value: Any) -> Any:
    """The published files write counts as 483.0."""
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _per_object(value: list[Any], frames: int, objects: int) -> list[Any] | None:
    """A list of the JSON as one entry per object, or None where it is of another length."""
    by_frame = len(value) == frames and all(isinstance(row, list) and len(row) == objects for row in value)
    if by_frame and objects:
        return [[row[index] for row in value] for index in range(objects)]
    return value if len(value) == objects else None


def read_masklets(path: Path) -> Masklets:
    """Read the JSON of a video; its RLEs are not looked at yet.

    Raises:
        UserError: It is not in SA-V's format, or its lists are of different lengths.
    """
    content = read_json(read_file(path), str(path))
    masks, ids = (content.get("masklet"), content.get("masklet_id")) if isinstance(content, dict) else (None, None)
    if not isinstance(masks, list) or not isinstance(ids, list) or not masks:
        raise UserError(f'{path}: has no "masklet" and "masklet_id" as SA-V has them; is this another data set?')
    height, width = (_whole(content.get(name)) for name in SIZE)
    if not isinstance(height, int) or not isinstance(width, int):
        raise UserError(f"{path}: video_height and video_width are missing or no whole numbers; download it again")
    for frame, row in enumerate(masks):
        if not isinstance(row, list) or len(row) != len(ids):
            have = len(row) if isinstance(row, list) else "no list of"
            raise UserError(f"{path}: annotated frame {frame} has {have} masks for {len(ids)} objects; mend the JSON")
    if not all(isinstance(_whole(name), int) for name in ids) or len(set(ids)) != len(ids):
        raise UserError(f"{path}: the masklet_ids {ids} are no whole numbers or not unique; mend the JSON")
    objects: list[dict[str, Any]] = [{} for _ in ids]
    video: dict[str, Any] = {}
    for name, value in content.items():
        values = _per_object(value, len(masks), len(ids)) if isinstance(value, list) else None
        if name.startswith("masklet_") and values is not None:
            exact = name.endswith(("_score", "_rel", "_abs"))
            for fields, entry in zip(objects, values, strict=True):
                fields[name] = entry if exact else _whole(entry)
        elif name not in ("masklet", "masklet_num"):
            video[name] = value if name == "video_duration" else _whole(value)
    return Masklets(path, masks, objects, video, height, width)


def stride_of(masklets: Masklets, frames: int) -> int:
    """How many source frames lie between two annotated ones, from the two counts.

    SA-V's published stride is taken wherever it fits; on a short video several strides may.

    Args:
        masklets: The annotations.
        frames: Source frames of the video.

    Raises:
        UserError: No stride fits, several do, or the JSON counts more annotated frames than it has.
    """
    annotated, path = len(masklets.masks), masklets.path
    said = [fields.get("masklet_frame_count") for fields in masklets.objects]
    most = max((count for count in said if isinstance(count, int)), default=0)
    if most > annotated:
        raise UserError(f"{path}: masklet_frame_count says {most} annotated frames, not {annotated}; download it again")
    fits = [stride for stride in range(1, frames + 1) if -(-frames // stride) == annotated]
    if PUBLISHED_STRIDE in fits:
        return PUBLISHED_STRIDE
    if len(fits) == 1:
        return fits[0]
    last = PUBLISHED_STRIDE * (annotated - 1)
    if last >= frames:
        raise UserError(f"{path}: has masks for frame {last}, but the video has only {frames} frames; mend the JSON")
    raise UserError(
        f"{path}: {annotated} annotated frames do not fit the video's {frames} at every {PUBLISHED_STRIDE}th frame "
        f"(it would be {-(-frames // PUBLISHED_STRIDE)}); download both again"
    )


def object_masks(masklets: Masklets, index: int, stride: int) -> list[dict[str, Any] | None]:
    """The masks of one object, one per annotated frame; None where it has no pixel.

    Raises:
        UserError: An RLE is damaged or of another size, or no mask has a pixel.
    """
    name = masklets.objects[index]["masklet_id"]
    masks: list[dict[str, Any] | None] = []
    for place, row in enumerate(masklets.masks):
        mask = row[index]
        try:
            seen = mask is not None and rle.area(mask, masklets.height, masklets.width) > 0
            masks.append(rle.compress(mask) if mask is not None and seen else None)
        except UserError as error:
            raise UserError(f"{masklets.path}: frame {place * stride}: object {name}: {error}") from error
    if not any(masks):
        raise UserError(f"{masklets.path}: object {name} has no pixel in any frame; remove it")
    return masks


def good_objects(parts: Sequence[Masklets], stride: int) -> tuple[list[dict[str, Any]], list[UserError]]:
    """All objects of a video as its record has them, and one error for each that had to be left out.

    Ids are the source's; where manual and automatic masklets are joined, the second count on after the first.
    """
    objects: list[dict[str, Any]] = []
    problems: list[UserError] = []
    offset = 0
    for masklets in parts:
        for index, fields in enumerate(masklets.objects):
            try:
                masks = object_masks(masklets, index, stride)
                objects.append({"id": fields["masklet_id"] + offset, **fields, "masks": masks})
            except UserError as error:
                problems.append(error)
        offset += 1 + max((fields["masklet_id"] for fields in masklets.objects), default=-1)
    return objects, problems
