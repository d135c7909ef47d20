"""DAVIS, MOSE, LVOS and YouTube-VOS: folders of JPEG frames and of PNG masks whose pixels are numbers of objects.

A frame without PNG is not labelled. 0 is background, 1 to 254 are objects, 255 is void: not to be judged.
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
from datamodules.convert.vos_meta import FLAG, Meta, find_meta, read_meta
from datamodules.video_record import check_video, frame_extension
from phd.errors import UserError

VOID = 255


def masks_of(labels: np.ndarray) -> dict[int, dict[str, Any]]:
    """One RLE for each number in a label map (H, W) but 0."""
    return {int(number): rle.encode(labels == number) for number in np.unique(labels) if number}


def read_video(source: VideoFolder, meta: Meta | None, max_pixels: int) -> Converted:
    """One video; an object has None where a labelled frame does not show it, and in all frames that are not labelled.

    Raises:
        UserError: A file is damaged, or frames and masks do not belong together.
    """
    source.check()
    files, pngs = numbered(source.frames, ".jpg", ".jpeg"), numbered(source.masks, ".png")
    for number in pngs.keys() - files.keys():
        raise UserError(f"{pngs[number]}: a mask of frame {number}, which {source.frames} does not have; remove it")
    if not pngs:
        raise UserError(f"{source.masks}: holds no mask; take the video off the list")
    if meta is not None and source.name not in meta:
        raise UserError(f"{source.frames}: the meta.json does not list {source.name}; give the one of this split")
    numbers = list(files)
    members: dict[str, bytes] = {}
    found: dict[int, list[dict[str, Any] | None]] = {}
    height = width = 0
    for place, (number, jpeg, height, width) in enumerate(read_frames(files, max_pixels)):
        members[frame_extension(number)] = jpeg
        if number in pngs:
            for label, mask in masks_of(read_labels(pngs[number], height, width, max_pixels)).items():
                found.setdefault(label, [None] * len(numbers))[place] = mask
    void = found.pop(VOID, None)
    if not found:
        hint = "; if 255 is the object here, as in DAVIS 2016, save it as 1" if void else ""
        raise UserError(f"{source.masks}: no mask of the video shows an object{hint}; remove the video")
    fields = meta[source.name] if meta else {}
    objects = [{**fields.get(label, {}), "id": label, "masks": found[label]} for label in sorted(found)]
    problems = [
        UserError(f"{source.masks}: object {label} of the meta.json is in no mask; download the masks again")
        for label in sorted(fields.keys() - found.keys())
    ]
    video: dict[str, Any] = {"name": source.name, "height": height, "width": width}
    # YouTube-VOS keeps the later masks of its validation set: a frame with a PNG then shows the newcomers only.
    asked = {number for entry in fields.values() for number in entry.get("frames", [])} & files.keys()
    if asked - pngs.keys():
        video["first_masks_only"] = True
    record: dict[str, Any] = {
        "video": video,
        "frames": numbers,
        "labelled": [place for place, number in enumerate(numbers) if number in pngs],
        "objects": objects,
    }
    if void:
        record["void"] = void
    check_video(record, str(source.masks))
    return Converted(tar_safe(source.name), members, record, problems)


def plan_palette(options: argparse.Namespace) -> Plan[VideoFolder]:
    """The videos of the split, with the meta.json where the kind has one."""
    videos = find_videos(options)
    meta = read_meta(find_meta(options)) if hasattr(options, "meta") else None
    details = {"split": Path(options.split).stem} if options.split else {}
    return Plan(videos, partial(read_video, meta=meta, max_pixels=options.max_pixels), details)


def _kind(name: str, what: str, samples_per_shard: int, has_meta: bool = False) -> Kind:
    return Kind(
        name=name,
        form="video",
        help=f"{what}: frames and indexed PNG masks",
        paths=(("root", "folder with JPEGImages and Annotations"),),
        plan=plan_palette,
        flags=(*FLAGS, FLAG) if has_meta else FLAGS,
        samples_per_shard=samples_per_shard,
    )


DAVIS = _kind("davis", "DAVIS 2017", 100)
MOSE = _kind("mose", "MOSE", 50)
LVOS = _kind("lvos", "LVOS, with meta.json", 5, has_meta=True)
YTVOS = _kind("ytvos", "YouTube-VOS, with meta.json", 200, has_meta=True)
