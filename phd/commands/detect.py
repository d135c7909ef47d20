"""`phd detect`: every instance of noun phrases in a photograph or a video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.commands.image_size import add_image_size
from phd.errors import UserError

CORNERS = ("X0", "Y0", "X1", "Y1")
VIDEOS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp", ".h264",
    ".hevc", ".mjpeg", ".y4m",
)  # fmt: skip
OF_PHOTOS = ("exemplar", "negative_exemplar", "image_id")
OF_VIDEOS = ("new_threshold", "delay", "reprompt_every", "max_frames", "fps", "save", "video_id", "category_id")


def run(arguments: list[str]) -> Any:
    """Parse, detect, and write."""
    options = parser().parse_intermixed_args(arguments)  # phrases may follow an option
    if is_video(options.source):
        from phd.commands.detect_video import run_video as run_source

        refuse(options, OF_PHOTOS, "photographs", "a video")
    else:
        from phd.commands.detect_photo import run_photo as run_source

        refuse(options, OF_VIDEOS, "videos", "a photograph")
    return run_source(options)


def parser() -> argparse.ArgumentParser:
    """The options of photographs and of videos."""
    found = argparse.ArgumentParser(
        prog="phd detect",
        description=(
            "Find every instance of noun phrases. Of a photograph it writes PHOTO_detect.png, with names and scores, "
            "and PHOTO_detect.json, in COCO's results format; of a video (file, folder of images, camera) the folder "
            "VIDEO_detect with overlay.mp4, tracks.json and masks, a label map for each frame."
        ),
    )
    found.add_argument("source", help="image file, video file, folder of images, or index of a camera")
    found.add_argument("phrases", nargs="*", help='noun phrases, such as "red car"; none with --exemplar alone')
    found.add_argument("--model", required=True, help="student or teacher: a folder, a hub id, or toy-teacher")
    found.add_argument("--threshold", type=float, default=0.5, help="keep scores above it (%(default)s)")
    found.add_argument(
        "--nms",
        type=float,
        default=None,
        help="suppress masks that overlap a better one by this IoU (never on a photograph, 0.1 on a video)",
    )
    found.add_argument("--out", type=Path, default=None, help="photo: path without suffix; video: new or empty folder")
    add_image_size(found)
    found.add_argument("--device", default="cpu", help="cpu or cuda")
    photos = found.add_argument_group("photographs")
    for option, meaning in (
        ("--exemplar", "box of an instance"),
        ("--negative-exemplar", "box of what is no instance"),
    ):
        photos.add_argument(option, type=float, nargs=4, action="append", metavar=CORNERS, help=f"{meaning}, in pixels")
    photos.add_argument("--image-id", type=int, help="image_id in the JSON (1)")
    videos = found.add_argument_group("videos")
    videos.add_argument("--new-threshold", type=float, help="a new object begins from this score on (0.7)")
    videos.add_argument("--delay", type=int, metavar="N", help="frames in which an object can prove to be none (15)")
    videos.add_argument(
        "--reprompt-every", type=int, metavar="N", help="let good detections correct objects so often; 0 never (16)"
    )
    videos.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")
    videos.add_argument("--fps", type=float, metavar="N", help="of the overlay (the video's own; 24 of a folder)")
    videos.add_argument("--save", type=Path, metavar="FILE", help="also write tracks for phd evaluate concepts-video")
    videos.add_argument("--video-id", type=int, metavar="ID", help="of the video in FILE (1)")
    videos.add_argument(
        "--category-id", type=int, action="append", metavar="ID", help="of each phrase in FILE, in order (1, 2, ...)"
    )
    return found


def is_video(source: str) -> bool:
    """Whether a source is a video: by its suffix, or a folder, or a camera."""
    path = Path(source)
    camera = source.isascii() and source.isdigit() and not path.exists()
    return path.is_dir() or camera or path.suffix.lower() in VIDEOS


def refuse(options: argparse.Namespace, names: tuple[str, ...], meant: str, given: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        UserError: One is given.
    """
    for name in names:
        if getattr(options, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')}: is for {meant}, and {options.source} is {given}; leave it out"
            )
