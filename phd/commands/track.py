"""`phd track`: objects through a video."""

from __future__ import annotations

import argparse
from itertools import chain, islice
from pathlib import Path
from typing import Any

from phd.commands.device import checked_device
from phd.commands.image_size import add_image_size
from phd.commands.track_prompts import GRAMMAR, add_prompts, by_frame, checked_groups, read_prompts
from phd.commands.track_rules import add_rules, check_rules, chosen_rules


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
    add_rules(parser)
    add_image_size(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--max-frames", type=int, default=None, metavar="N", help="stop after N frames")
    parser.add_argument("--fps", type=float, metavar="N", help="of the overlay (the video's own; 24 of a folder)")
    options = parser.parse_args(arguments)
    groups = checked_groups(getattr(options, "groups", []))

    from phd.commands.track_output import require_new
    from phd.commands.track_run import check_limits, run_session
    from phd.commands.track_session import Session
    from phd.loading import load_segmenter
    from phd.video_predictor import VideoPredictor
    from phd.video_source import open_source

    check_limits(options)
    check_rules(options)
    device = checked_device(options.device)
    require_new(options.out)
    source = open_source(options.source)
    coming = by_frame(groups, source.name, source.numbers, options.max_frames)
    frames = islice(source.frames, options.max_frames)
    first = next(frames)
    prompts = read_prompts(coming, source.name, *first.pixels.shape[:2])
    model = load_segmenter(options.model, options.image_size)
    predictor = VideoPredictor(model, device, chosen_rules(options, model))
    session = Session(predictor, source.name, prompts)
    about = {"memory_tokens": predictor.memory_tokens, "prompts": [group.to_json() for group in groups]}
    folder = run_session(session, chain([first], frames), source, options.out, options, "track", about)
    print(
        f"tracked {session.objects} objects in {len(folder.frames)} frames: {session.fps:.2f} frames/s on {device}, "
        f"{predictor.memory_tokens} memory tokens for each frame and object; {options.out}/overlay.mp4, masks and "
        f"tracks.json"
    )
    return folder.about
