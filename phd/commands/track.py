"""`phd track`: objects through a video."""

from __future__ import annotations

import argparse
from itertools import chain, islice
from pathlib import Path
from typing import Any

from phd.commands.device import checked_device
from phd.commands.track_prompts import GRAMMAR, add_prompts, by_frame, checked_groups, read_prompts
from phd.errors import UserError

COORDINATES = (
    "x, y in pixels of the video, a whole number is the centre of a pixel; boxes x0 y0 x1 y1 with x1 and y1 exclusive; "
    "rle is COCO's compressed run-length encoding"
)
OVERLAP = "masks of objects may overlap here; in masks/ a pixel of several objects belongs to that with the best logit"


def run(arguments: list[str]) -> dict[str, Any]:
    """Parse, track and write; returns what the JSON says of the whole."""
    parser = argparse.ArgumentParser(
        prog="phd track",
        description="Track objects through a video. Writes OUT/overlay.mp4, OUT/tracks.json and OUT/masks:\n"
        "a label map for each frame, with DAVIS's palette; where objects overlap, the best logit wins.",
        epilog=GRAMMAR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="video file, folder of images, or index of a camera (ended by Ctrl-C)")
    add_prompts(parser)
    parser.add_argument("--model", required=True, help="student or teacher: a folder, a hub id, or toy-teacher")
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--max-frames", type=int, default=None, metavar="N", help="stop after N frames")
    options = parser.parse_args(arguments)
    groups = checked_groups(getattr(options, "groups", []))
    if options.max_frames is not None and options.max_frames < 1:
        raise UserError(f"--max-frames is {options.max_frames}; give at least 1")

    from rich.console import Console
    from rich.progress import track

    from phd.commands.track_output import TrackFolder, require_new
    from phd.commands.track_session import Session
    from phd.loading import load_segmenter
    from phd.video_predictor import VideoPredictor
    from phd.video_source import open_source

    device = checked_device(options.device)
    require_new(options.out)
    source = open_source(options.source)
    coming = by_frame(groups, source.name, source.numbers, options.max_frames)
    frames = islice(source.frames, options.max_frames)
    first = next(frames)
    prompts = read_prompts(coming, source.name, *first.pixels.shape[:2])
    predictor = VideoPredictor(load_segmenter(options.model), device)
    about = {
        "source": options.source,
        "model": options.model,
        "coordinates": COORDINATES,
        "overlap": OVERLAP,
        "fps": None if source.rate is None else float(source.rate),
        "memory_tokens": predictor.memory_tokens,
        "prompts": [group.to_json() for group in groups],
        "stopped": None,
    }
    total = None if source.numbers is None else len(source.numbers[: options.max_frames])
    shown = track(chain([first], frames), "track", total=total, console=Console(stderr=True), transient=True)
    session = Session(predictor, source.name, prompts)
    with TrackFolder(options.out, about, source.rate) as folder:
        try:
            session.run(shown, folder)
        except KeyboardInterrupt:  # the usual end of a camera
            folder.about["stopped"] = "by the user"
        except UserError as error:
            kept = f"; the {len(folder.frames)} frames before it are in {options.out}" if folder.frames else ""
            folder.about["stopped"] = str(error)
            raise UserError(f"{error}{kept}") from error
        finally:
            folder.about["tracking_fps"] = session.fps
    if not folder.frames:
        raise UserError(f"{source.name}: was stopped before its first frame; nothing was written")
    print(
        f"tracked {session.objects} objects in {len(folder.frames)} frames: {session.fps:.2f} frames/s on {device}, "
        f"{predictor.memory_tokens} memory tokens for each frame and object; {options.out}/overlay.mp4, masks and "
        f"tracks.json"
    )
    return folder.about
