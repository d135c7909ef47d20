"""SA-Co/VEval: YT-VIS-like JSON with phrases, among them such that the video does not show.

Of a file `videos`, `annotations`, `categories` and `video_np_pairs` are read. A pair is a question: one phrase about
one video; its answer are all annotations of that video and category, none for a negative. Source of the format: the
VEval data card of SAM 3.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules import rle
from datamodules.convert.coco_file import unique_keys
from datamodules.convert.frame_folder import read_frames
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.raw import read_file, read_json
from datamodules.video_record import check_video, frame_extension
from phd.errors import UserError

# Of an annotation: they follow from the masks, or are the video's.
LEFT_OUT = {"segmentations", "bboxes", "areas", "video_id", "height", "width", "length"}


@dataclass(frozen=True)
class VideoEntry:
    """One video of the file with its annotations and pairs; every annotation and pair has its phrase."""

    key: str
    video: dict[str, Any]
    annotations: list[dict[str, Any]]
    pairs: list[dict[str, Any]]


def _with_phrase(item: dict[str, Any], names: dict[Any, str]) -> dict[str, Any]:
    return item if item.get("noun_phrase") else {**item, "noun_phrase": names[item["category_id"]]}


def read_entries(path: Path) -> list[VideoEntry]:
    """The videos of the file in its order.

    Raises:
        UserError: It is not in that format, or refers to a video or category that it does not list.
    """
    content = read_json(read_file(path), str(path))
    by_video: dict[str, defaultdict[Any, list[dict[str, Any]]]] = {}
    try:
        videos = {video["id"]: video for video in content["videos"]}
        if not videos or len(videos) < len(content["videos"]):
            state = "two videos have the same id" if videos else "lists no video"
            raise UserError(f"{path}: {state}; download it again")
        names = {category["id"]: category["name"] for category in content["categories"]}
        for part in ("annotations", "video_np_pairs"):
            by_video[part] = defaultdict(list)
            for item in content[part]:
                if item["video_id"] not in videos:
                    raise UserError(f"{path}: {part}: {item['id']} is of video {item['video_id']}, which is not listed")
                by_video[part][item["video_id"]].append(_with_phrase(item, names))
        keys = unique_keys([f"{video['video_name']}.json" for video in videos.values()])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not in the format of SA-Co/VEval ({error!r} is missing or wrong); mend it or name another file"
        ) from error
    annotations, pairs = by_video["annotations"], by_video["video_np_pairs"]
    return [
        VideoEntry(key, video, annotations.get(number, []), pairs.get(number, []))
        for key, (number, video) in zip(keys, videos.items(), strict=True)
    ]


def frame_numbers(file_names: list[str]) -> list[int]:
    """Source frame numbers by the names of the files; their places where the names are no ascending numbers."""
    stems = [PurePosixPath(name).stem for name in file_names]
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if all(before < after for before, after in pairwise(numbers)):
            return numbers
    return list(range(len(file_names)))


def one_object(annotation: dict[str, Any], numbers: list[int], height: int, width: int) -> dict[str, Any]:
    """A masklet as the record has it.

    Raises:
        UserError: It is of another length or size, or has no pixel.
    """
    segmentations = annotation.get("segmentations")
    if not isinstance(segmentations, list) or len(segmentations) != len(numbers):
        have = len(segmentations) if isinstance(segmentations, list) else "no list of"
        raise UserError(f"has {have} masks but the video has {len(numbers)} frames; mend the annotation")
    masks: list[dict[str, Any] | None] = []
    for number, mask in zip(numbers, segmentations, strict=True):
        try:
            masks.append(rle.compress(mask) if mask is not None and rle.area(mask, height, width) else None)
        except UserError as error:
            raise UserError(f"frame {number}: {error}") from error
    if not any(masks):
        raise UserError("has no pixel in any frame; remove it")
    fields = {name: value for name, value in annotation.items() if name not in LEFT_OUT | {"noun_phrase"}}
    return {**fields, "phrase": annotation["noun_phrase"], "masks": masks}


def _phrase(pair: dict[str, Any], entry: VideoEntry, left_out: set[Any], where: str) -> dict[str, Any] | None:
    """A pair with the ids of its objects; None where all of them were left out, as it is no negative."""
    answer = [item["id"] for item in entry.annotations if item["category_id"] == pair["category_id"]]
    said = pair.get("num_masklets", len(answer))
    if said != len(answer):
        raise UserError(
            f"{where}: the phrase {pair['noun_phrase']!r} says {said} masklets but has {len(answer)}; download it again"
        )
    kept = [number for number in answer if number not in left_out]
    if answer and not kept:
        return None
    fields = {name: value for name, value in pair.items() if name not in ("video_id", "noun_phrase")}
    return {**fields, "text": pair["noun_phrase"], "objects": kept}


def _images(entry: VideoEntry, numbers: list[int], folder: Path, max_pixels: int, where: str) -> dict[str, bytes]:
    """The frames as members, checked against the size that the file says."""
    size = entry.video["height"], entry.video["width"]
    files: dict[int, Path] = {}
    for number, name in zip(numbers, entry.video["file_names"], strict=True):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{where}: the file name {name!r} leads out of the folder of the frames; mend it")
        files[number] = folder / name
    members: dict[str, bytes] = {}
    for number, jpeg, height, width in read_frames(files, max_pixels):
        if (height, width) != size:
            raise UserError(
                f"{files[number]}: is {height} x {width} pixels (height x width) but its annotations say "
                f"{size[0]} x {size[1]}; give the frames that were annotated"
            )
        members[frame_extension(number)] = jpeg
    return members


def read_entry(entry: VideoEntry, annotations: Path, frames: Path | None, max_pixels: int) -> Converted:
    """One video with all its phrases, positive and negative.

    Raises:
        UserError: The entry is damaged, or a frame is missing or of another size.
    """
    where = f"{annotations}: {entry.video['video_name']}"
    video, names = entry.video, entry.video.get("file_names")
    sides = [video.get(side) for side in ("height", "width")]
    if not isinstance(names, list) or not names or video.get("length", len(names)) != len(names):
        raise UserError(f"{where}: has not as many file_names as its length says; download it again")
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"{where}: has no height and width in pixels; download it again")
    numbers = frame_numbers(names)
    objects: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for annotation in entry.annotations:
        try:
            objects.append(one_object(annotation, numbers, video["height"], video["width"]))
        except UserError as error:
            problems.append(UserError(f"{where}: annotation {annotation['id']}: {error}"))
    left_out = {item["id"] for item in entry.annotations} - {item["id"] for item in objects}
    about = {name: value for name, value in video.items() if name not in ("id", "video_name")}
    phrases = [_phrase(pair, entry, left_out, where) for pair in entry.pairs]
    record = {
        "video": {**about, "name": video["video_name"], "video_id": video["id"]},
        "frames": numbers,
        "labelled": list(range(len(numbers))),
        "objects": objects,
        "phrases": [phrase for phrase in phrases if phrase is not None],
    }
    check_video(record, where)
    members = _images(entry, numbers, frames, max_pixels, where) if frames else {}
    return Converted(entry.key, members, record, problems)


def plan_veval(options: argparse.Namespace) -> Plan[VideoEntry]:
    """The videos of the file; without `--frames` the shards hold annotations only."""
    annotations, frames = Path(options.annotations), Path(options.frames) if options.frames else None
    if frames and not frames.is_dir():
        raise UserError(f"{frames}: no such folder; name the folder that the file_names start from")
    read = partial(read_entry, annotations=annotations, frames=frames, max_pixels=options.max_pixels)
    return Plan(
        read_entries(annotations), read, {"images": frames is not None}, lambda entry: entry.video["video_name"]
    )


SACO_VEVAL = Kind(
    name="saco-veval",
    form="video",
    help="SA-Co/VEval: videos with phrases; frames only with --frames",
    paths=(("annotations", "JSON file, e.g. saco_veval_sav_test.json"),),
    plan=plan_veval,
    flags=(("--frames", {"metavar": "DIR", "help": "folder that the file_names start from (default: no frames)"}),),
    samples_per_shard=50,
)
