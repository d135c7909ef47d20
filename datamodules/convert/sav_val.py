"""SA-V val and test: all frames as JPEG (24 fps), and one PNG per object for every 4th of them.

Masks of different objects may overlap, so each has its own folder: Annotations_6fps/{video}/{object}/00004.png.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datamodules import rle
from datamodules.convert.frame_folder import FLAGS, VideoFolder, find_videos, numbered, read_frames
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.label_png import read_labels
from datamodules.convert.raw import tar_safe
from datamodules.video_record import check_video, frame_extension
from phd.errors import UserError

FRAMES_PER_SECOND = 24.0


def object_folders(masks: Path) -> dict[int, Path]:
    """The folders of a video's objects by their numbers.

    Raises:
        UserError: There are none, or something else is among them.
    """
    folders: dict[int, Path] = {}
    for path in sorted(masks.iterdir()):
        if path.name.startswith("."):
            continue  # notes of an operating system
        if not path.is_dir() or not (path.name.isascii() and path.name.isdigit()):
            raise UserError(f"{path}: not the folder of an object (000, 001, ...); remove it, or use the kind davis")
        folders[int(path.name)] = path
    if not folders:
        raise UserError(f"{masks}: holds no folder of an object; take the video off the list")
    return folders


def read_object(pngs: dict[int, Path], numbers: list[int], size: tuple[int, int], max_pixels: int) -> list[Any]:
    """The masks of one object, one per frame, None where there is no PNG or no pixel.

    Raises:
        UserError: A PNG is damaged, of another size, or shows several objects.
    """
    masks: list[dict[str, Any] | None] = [None] * len(numbers)
    for place, number in enumerate(numbers):
        if number not in pngs:
            continue
        labels = read_labels(pngs[number], *size, max_pixels)
        values = [int(value) for value in np.unique(labels) if value]
        if len(values) > 1:
            raise UserError(f"{pngs[number]}: shows several objects ({values}), not one; use the kind davis")
        masks[place] = rle.encode(labels != 0) if values else None
    return masks


def read_video(source: VideoFolder, max_pixels: int) -> Converted:
    """One video with all its frames.

    Raises:
        UserError: A file is damaged, or frames and masks do not belong together.
    """
    source.check()
    files = numbered(source.frames, ".jpg", ".jpeg")
    pngs = {name: numbered(folder, ".png") for name, folder in object_folders(source.masks).items()}
    labelled = {number for own in pngs.values() for number in own}
    for own in pngs.values():
        for number in own.keys() - files.keys():
            raise UserError(f"{own[number]}: a mask of frame {number}, which {source.frames} does not have; remove it")
    members: dict[str, bytes] = {}
    height = width = 0
    for number, jpeg, height, width in read_frames(files, max_pixels):  # noqa: B007
        members[frame_extension(number)] = jpeg
    numbers = list(files)
    objects: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for name, own in pngs.items():
        masks = read_object(own, numbers, (height, width), max_pixels)
        if any(masks):
            objects.append({"id": name, "masks": masks})
        else:
            problems.append(UserError(f"{source.masks / f'{name:03d}'}: no mask shows the object; remove the folder"))
    record = {
        "video": {"name": source.name, "height": height, "width": width, "fps": FRAMES_PER_SECOND},
        "frames": numbers,
        "labelled": [place for place, number in enumerate(numbers) if number in labelled],
        "objects": objects,
    }
    check_video(record, str(source.masks))
    return Converted(tar_safe(source.name), members, record, problems)


def plan_sav_val(options: argparse.Namespace) -> Plan[VideoFolder]:
    """The videos of the split."""
    videos = find_videos(options, ("JPEGImages_24fps",), ("Annotations_6fps",))
    return Plan(videos, partial(read_video, max_pixels=options.max_pixels))


SAV_VAL = Kind(
    name="sav-val",
    form="video",
    help="SA-V val and test: all frames, masks for every 4th",
    paths=(("root", "folder with JPEGImages_24fps and Annotations_6fps"),),
    plan=plan_sav_val,
    flags=FLAGS,
    samples_per_shard=10,
)
