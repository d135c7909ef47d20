"""Videos of a raw folder in DAVIS's layout (also MOSE, LVOS, YouTube-VOS), for evaluation without a conversion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from datamodules.convert.frame_folder import VideoFolder, base_of, find_videos, numbered
from datamodules.convert.palette import read_video
from datamodules.convert.raw import read_file, tar_safe
from datamodules.labelled_videos import LabelledVideos, labelled_video
from datamodules.record import MAX_PIXELS
from phd.errors import UserError
from phd.outputs import LabelledVideo

# Of several resolutions this one is taken, as the benchmark does.
RESOLUTION = "480p"


def folder_videos(
    root: Path, split: str | None = None, chosen: Sequence[str] | None = None, most: int | None = None
) -> LabelledVideos:
    """The videos of a folder with frames, indexed masks, and lists of videos.

    Args:
        root: Holds `JPEGImages` and `Annotations`, with or without a folder for each resolution.
        split: A list of videos (`ImageSets/2017/val.txt`: "val") or a subfolder; all videos by default.
        chosen: Only these videos, in this order.
        most: Only the first ones.

    Raises:
        UserError: Folders, frames or masks are missing or do not fit; otherwise as `LabelledVideos`.
    """
    base = base_of(root, split)
    folders = {"frames_dir": resolution_folder(base, "JPEGImages"), "masks_dir": resolution_folder(base, "Annotations")}
    # Folders are checked when a video is reached, since others may not have been asked for.
    videos = find_videos(argparse.Namespace(root=root, split=split, skip_bad=1, **folders))
    return LabelledVideos(
        [video.name for video in videos], lambda number: folder_video(videos[number]), str(root), chosen, most
    )


def resolution_folder(base: Path, name: str) -> str | None:
    """The folder of one resolution where the videos lie in such (`JPEGImages/480p`), or None where they do not.

    Raises:
        UserError: There are several, none of which is 480p.
    """
    parts = [path for path in (base / name).glob("*") if path.is_dir() and not path.name.startswith(".")]
    inner = [path.name for path in parts if any(below.is_dir() for below in path.iterdir())]
    if not inner or len(inner) < len(parts):
        return None
    if RESOLUTION not in inner and len(inner) > 1:
        raise UserError(f"{base / name}: has the resolutions {', '.join(sorted(inner))}; keep the one to evaluate")
    return f"{name}/{RESOLUTION if RESOLUTION in inner else inner[0]}"


def folder_video(source: VideoFolder) -> LabelledVideo:
    """One video; its frames are all decoded once, to see that they can be and have one size.

    Raises:
        UserError: A file is damaged, or frames and masks do not belong together.
    """
    record = read_video(source, meta=None, max_pixels=MAX_PIXELS).record
    files = numbered(source.frames, ".jpg", ".jpeg")
    digits = len(next(iter(numbered(source.masks, ".png").values())).stem)

    def fetch(place: int) -> bytes:
        return read_file(files[record["frames"][place]])

    return labelled_video(record, fetch, str(source.frames), tar_safe(source.name), digits)
