"""Predictions and truth as trees of PNG files: DAVIS's label maps, and SA-V's folder of masks for each object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from phd.errors import UserError
from phd.evaluate.video_protocol import Frames, ObjectScore, davis, sav, sav_object
from phd.evaluate.video_report import VideoReport

Protocol = Literal["davis", "sav"]


def read_labels(path: Path) -> np.ndarray:
    """A label map (H, W) uint8 from a PNG with a palette, in grey or in black and white.

    Raises:
        UserError: It cannot be read, or holds colours or 16 bits.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise UserError(
                    f"{path}: has mode {image.mode}, which is no map of labels; write a PNG with a palette, or grey "
                    f"with 8 bits"
                )
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: cannot be read as a PNG ({error}); write it again") from error


def evaluate_trees(truth: Path, prediction: Path, protocol: Protocol, *, skip_ends: bool = True) -> VideoReport:
    """Score a tree of predictions against a tree of truth.

    Args:
        truth: Folder with a folder for each video, as DAVIS's `Annotations/480p` or SA-V's `Annotations_6fps`.
        prediction: The same tree.
        protocol: "davis" or "sav"; SA-V's layout is recognised by its folders within a video.
        skip_ends: SA-V: leave out the first and the last annotated frame; DAVIS always does.

    Raises:
        UserError: The trees do not hold the same videos, objects and frames, a file is no label map, or the protocol
            does not fit.
    """
    if protocol == "davis" and not skip_ends:
        raise UserError("--keep-ends: davis always drops the first and the last frame; use --protocol sav")
    videos = same_names(truth, prediction, folders=True)
    scores: list[ObjectScore] = []
    for video in track(videos, "J and F", console=Console(stderr=True), transient=True):
        mine, theirs = truth / video, prediction / video
        objects = _folders(mine)
        if objects:
            if protocol == "davis":
                raise UserError(f"{mine}: holds a folder for each object, which davis does not; use --protocol sav")
            for name in same_names(mine, theirs, folders=True):
                frames = same_names(mine / name, theirs / name)
                pair = _reader(mine / name), _reader(theirs / name)
                scores.append(sav_object(video, name, frames, *pair, skip_ends=skip_ends))
            continue
        frames = same_names(mine, theirs)
        pair = _reader(mine), _reader(theirs)
        scores += davis(video, frames, *pair) if protocol == "davis" else sav(video, frames, *pair, skip_ends=skip_ends)
    return VideoReport({"protocol": protocol, "drops_first_and_last_frame": skip_ends}, scores)


def same_names(truth: Path, prediction: Path, folders: bool = False) -> list[str]:
    """The names that both folders hold, in order: of sub-folders, or of PNG files without suffix.

    Raises:
        UserError: A folder is missing or empty, or a name is in only one of the two; the reference evaluators score the
            intersection in silence, or stop.
    """
    found: list[list[str]] = []
    for folder in (truth, prediction):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; both trees need the same videos and objects")
        found.append(_folders(folder) if folders else sorted(path.stem for path in folder.glob("*.png")))
    mine, theirs = found
    what = "folder" if folders else "PNG"
    if not mine:
        raise UserError(f"{truth}: holds no {what}; name the folder that holds one folder of masks for each video")
    for name in mine:
        if name not in theirs:
            raise UserError(f"{prediction / name}: this {what} is missing; the truth has {len(mine)}, write them all")
    for name in theirs:
        if name not in mine:
            raise UserError(f"{prediction / name}: this {what} has no truth beside it; remove it")
    return mine


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _reader(folder: Path) -> Frames:
    return lambda frame: read_labels(folder / f"{frame}.png")
